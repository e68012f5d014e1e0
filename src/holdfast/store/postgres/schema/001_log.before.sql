-- The log: one row a session, one table for its messages and one for its activity.
--
-- Every key begins with `shard`, a number made of tenant and id, and no write needs the rows of two
-- shards: so every table can be distributed by it. Every table has its rows' tenant, so that
-- row-level security can tell them apart. `holdfast` stands for the schema that was chosen.

-- What the store knows about itself; the same everywhere, so not distributed.
CREATE TABLE holdfast.store (
    name  text PRIMARY KEY,
    value text NOT NULL
);

-- A session's key is never used again, and its revisions start at key * 2^32.
CREATE SEQUENCE holdfast.session_keys MAXVALUE 2147483647;

-- The order of change, over all tenants: the session that changed last has the highest.
CREATE SEQUENCE holdfast.ranks;

CREATE TABLE holdfast.sessions (
    shard            bigint  NOT NULL,
    tenant           text    COLLATE "C" NOT NULL,
    id               text    COLLATE "C" NOT NULL,
    pk               bigint  NOT NULL,
    revision         bigint  NOT NULL,  -- of the last entry
    history_revision bigint  NOT NULL,  -- of the last message or reset
    base             bigint  NOT NULL,  -- the last reset: the current history lies above it
    floor            bigint  NOT NULL,  -- what lies below was purged
    message_count    bigint  NOT NULL,  -- in the current generation
    created          bigint  NOT NULL,  -- milliseconds since 1970, UTC, as every time here
    updated          bigint  NOT NULL,
    rank             bigint  NOT NULL,
    title            text,
    user_id          text    COLLATE "C",
    agent_name       text    COLLATE "C",
    meta             text    NOT NULL DEFAULT '{}',  -- a JSON object
    labels           text    NOT NULL DEFAULT '{}',  -- names of revisions, JSON
    fence            bigint  NOT NULL DEFAULT 0,     -- rises with every lease
    lease_until      bigint  NOT NULL DEFAULT 0,
    lease_ttl        bigint  NOT NULL DEFAULT 0,     -- milliseconds
    lease_owner      text,
    open_turn        text    COLLATE "C",
    open_attempt     bigint  NOT NULL DEFAULT 0,
    turn_status      text,                           -- running or waiting
    interrupt_fence  bigint  NOT NULL DEFAULT 0,
    indexed          bigint  NOT NULL DEFAULT 0,     -- up to which revision the search index has it
    indexed_messages bigint  NOT NULL DEFAULT 0,     -- how many messages of it are there
    indexed_words    bigint  NOT NULL DEFAULT 0,     -- and how many words they have
    stale            boolean NOT NULL DEFAULT true,  -- whether there is more than that
    -- What the indexes have of the rank: most writes do not change it, and then PostgreSQL leaves
    -- every index of this table alone (a heap-only tuple).
    rank_group       bigint  GENERATED ALWAYS AS (rank >> 10) STORED
) WITH (fillfactor = 70);
CREATE INDEX sessions_by_key ON holdfast.sessions (tenant, pk);
CREATE INDEX sessions_by_rank ON holdfast.sessions (tenant, rank_group DESC);
CREATE INDEX sessions_by_user ON holdfast.sessions (tenant, user_id, rank_group DESC)
    WHERE user_id IS NOT NULL;
CREATE INDEX sessions_by_agent ON holdfast.sessions (tenant, agent_name, rank_group DESC)
    WHERE agent_name IS NOT NULL;
CREATE INDEX open_turns ON holdfast.sessions (tenant, id) WHERE open_turn IS NOT NULL;
CREATE INDEX stale_sessions ON holdfast.sessions (tenant, pk) WHERE stale;
CREATE INDEX indexed_sessions ON holdfast.sessions (tenant)
    INCLUDE (indexed_messages, indexed_words) WHERE indexed_messages > 0;
-- The last one, because of indexes that seem equally good the planner takes the newest: of a table
-- that was never analyzed it believes that the tenant alone finds a session.
ALTER TABLE holdfast.sessions ADD PRIMARY KEY (shard, tenant, id);

-- Messages and resets. A revision holds its session's key in its upper half, so a session's history
-- is one range of the key. `payload` is JSON, one message a line; `crc` its CRC-32.
CREATE TABLE holdfast.messages (
    shard    bigint NOT NULL,
    tenant   text   COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    kind     text   NOT NULL,
    ordinal  bigint NOT NULL,  -- messages before it in its generation; a reset's last revision
    turn     text   COLLATE "C",
    attempt  bigint NOT NULL,
    at       bigint NOT NULL,
    payload  text   COLLATE "C" NOT NULL,
    crc      bigint NOT NULL,
    PRIMARY KEY (shard, revision)
);
CREATE INDEX resets ON holdfast.messages (shard, revision) WHERE kind = 'reset';

-- Everything else that a session's log records.
CREATE TABLE holdfast.activity (
    shard    bigint NOT NULL,
    tenant   text   COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    kind     text   NOT NULL,
    turn     text   COLLATE "C",
    attempt  bigint NOT NULL,
    at       bigint NOT NULL,
    payload  text   COLLATE "C" NOT NULL,
    crc      bigint NOT NULL,
    PRIMARY KEY (shard, revision)
);
CREATE INDEX turns ON holdfast.activity (shard, turn, revision) WHERE kind = 'turn';
CREATE INDEX deltas ON holdfast.activity (shard, revision) WHERE kind = 'delta';
CREATE INDEX usages ON holdfast.activity (shard, revision) WHERE kind = 'usage';

-- Idempotency keys and what their writes came to. A write without a key gets an invented one, so
-- that it happens once even if the answer to it is lost; these are removed after a day. `write`
-- tells a write that is sent again because nobody answered from a call that is made again.
CREATE TABLE holdfast.keys (
    shard    bigint  NOT NULL,
    tenant   text    COLLATE "C" NOT NULL,
    session  bigint  NOT NULL,
    key      text    COLLATE "C" NOT NULL,
    invented boolean NOT NULL,
    kind     text    NOT NULL,
    revision bigint  NOT NULL,
    kept     bigint  NOT NULL,
    turn     text    COLLATE "C",
    write    text    COLLATE "C" NOT NULL,
    at       bigint  NOT NULL,
    PRIMARY KEY (shard, session, key, invented)
);
CREATE INDEX invented_keys ON holdfast.keys (tenant, at) WHERE invented;

-- Who waits for a session's turn, in the order of number; a row that is not renewed lapses.
CREATE TABLE holdfast.waiters (
    shard   bigint NOT NULL,
    tenant  text   COLLATE "C" NOT NULL,
    session bigint NOT NULL,
    id      text   COLLATE "C" NOT NULL,
    number  bigint NOT NULL,
    expires bigint NOT NULL,
    PRIMARY KEY (shard, session, id)
);

-- The messages that can be searched: of each session one generation, as far as somebody who searched
-- has filled it in. `terms` holds a message's words and its tenant's; it is null where they are more
-- than an index takes, and such a message is looked at by itself.
CREATE TABLE holdfast.searched (
    shard    bigint NOT NULL,
    tenant   text   COLLATE "C" NOT NULL,
    revision bigint NOT NULL,  -- of its entry
    place    bigint NOT NULL,  -- within the entry
    at       bigint NOT NULL,  -- the entry's time
    words    bigint NOT NULL,  -- how many it has
    terms    tsvector,
    PRIMARY KEY (shard, revision, place)
);
CREATE INDEX searched_terms ON holdfast.searched USING gin (terms);
CREATE INDEX searched_by_themselves ON holdfast.searched (tenant) WHERE terms IS NULL;

-- Which indexed messages of the transaction's tenant have all of some terms.
--
-- It runs as the tables' owner: for a role under row-level security PostgreSQL uses no index for `@@`,
-- which might tell of rows that the policy hides. What it returns is what the policy allows.
CREATE FUNCTION holdfast.matching_v1(_terms tsquery)
RETURNS TABLE (shard bigint, tenant text, revision bigint, place bigint, at bigint)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 100
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off  -- a plan that is kept must be right for every size
AS $$
SELECT p.shard, p.tenant, p.revision, p.place, p.at
  FROM holdfast.searched p
 WHERE p.tenant = current_setting('holdfast.tenant', true) AND p.terms @@ _terms
$$;
REVOKE ALL ON FUNCTION holdfast.matching_v1(tsquery) FROM PUBLIC;

-- The second wall between tenants, for roles that do not own these tables. Each transaction says in
-- the setting `holdfast.tenant` whose it is.
ALTER TABLE holdfast.sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE holdfast.messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE holdfast.activity ENABLE ROW LEVEL SECURITY;
ALTER TABLE holdfast.keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE holdfast.waiters ENABLE ROW LEVEL SECURITY;
ALTER TABLE holdfast.searched ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON holdfast.sessions USING (tenant = current_setting('holdfast.tenant', true));
CREATE POLICY own_tenant ON holdfast.messages USING (tenant = current_setting('holdfast.tenant', true));
CREATE POLICY own_tenant ON holdfast.activity USING (tenant = current_setting('holdfast.tenant', true));
CREATE POLICY own_tenant ON holdfast.keys USING (tenant = current_setting('holdfast.tenant', true));
CREATE POLICY own_tenant ON holdfast.waiters USING (tenant = current_setting('holdfast.tenant', true));
CREATE POLICY own_tenant ON holdfast.searched USING (tenant = current_setting('holdfast.tenant', true));

-- A batch of writes that only append, in one round trip.
--
-- What a batch appends to one session is one append: done whole, in a moment when all that it requires
-- holds, or not at all. The answer has the numbers of those that were done, in order, and where they
-- brought their sessions; the caller decides the others by the rules. The appends come in the order
-- of their sessions' ids, so that two batches cannot wait for each other. What is null for all is
-- sent as no array. Each session's row is found by a statement of its own: its plan is good whatever
-- the planner believes of the table. The function's name has a version: workers of two releases work
-- side by side.
CREATE FUNCTION holdfast.commit_v1(
    _tenant text, _now bigint,
    -- An append each: its session, and whether that may be new.
    _shards bigint[], _ids text[], _creates boolean[],
    -- What it requires: the history's revision, and the lowest and highest of the bases it names.
    _expected bigint[], _lowest bigint[], _highest bigint[],
    -- Within a turn: the fencing token, the turn, whether it ends. Null outside.
    _pks bigint[], _fences bigint[], _turns text[], _closes boolean[],
    -- How many entries and messages it has, and which of its entries is the last with messages.
    _counts bigint[], _messages bigint[], _lasts bigint[],
    -- A write each: its append, its key, and which entry of the append says where it ends.
    _w_appends bigint[], _w_kinds text[], _w_keys text[], _w_ids text[], _w_ends bigint[],
    -- An entry each: its append, its place there, and the append's messages before it.
    _e_appends bigint[], _e_places bigint[], _e_before bigint[], _e_kinds text[],
    _e_turns text[], _e_attempts bigint[], _e_payloads text[], _e_crcs bigint[]
) RETURNS TABLE (number bigint, revision bigint, history_revision bigint, interrupted boolean)
LANGUAGE plpgsql
SET enable_seqscan = off  -- a connection keeps its plans, also those made while the tables were small
AS $$
#variable_conflict use_column
DECLARE
    _at bigint := coalesce(_now, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint);
    _repeated bigint[] := '{}';  -- appends whose session has one of their keys already
    _sessions bigint[];          -- of each append: its session's key, null if it was not done
    _starts bigint[];            -- and the session's revision before it
    _histories bigint[];         -- and the history's after it
    _ordinals bigint[];          -- and the messages before it
    _session bigint;
    _ordinal bigint;
BEGIN
    PERFORM set_config('holdfast.tenant', _tenant, true);
    IF _w_keys IS NOT NULL THEN
        _repeated := ARRAY(
            SELECT w.append
              FROM unnest(_w_appends, _w_keys) AS w (append, key)
              JOIN holdfast.sessions s ON s.shard = _shards[w.append] AND s.tenant = _tenant
                                      AND s.id = _ids[w.append]
              JOIN holdfast.keys k ON k.shard = s.shard AND k.session = s.pk AND k.key = w.key
             WHERE NOT k.invented);
    END IF;
    FOR i IN 1 .. array_length(_ids, 1) LOOP
        CONTINUE WHEN i = ANY (_repeated);
        UPDATE holdfast.sessions s
           SET revision = s.revision + _counts[i],
               history_revision = CASE WHEN _lasts[i] > 0 THEN s.revision + _lasts[i]
                                       ELSE s.history_revision END,
               message_count = s.message_count + _messages[i],
               updated = CASE WHEN _counts[i] > 0 THEN greatest(s.updated, _at) ELSE s.updated END,
               rank = CASE WHEN _counts[i] > 0 THEN nextval('holdfast.ranks') ELSE s.rank END,
               stale = s.stale OR _messages[i] > 0
         WHERE s.shard = _shards[i] AND s.tenant = _tenant AND s.id = _ids[i]
           AND (_expected[i] IS NULL OR _expected[i] BETWEEN s.history_revision AND s.revision)
           AND (_lowest[i] IS NULL OR _lowest[i] >= s.pk << 32 AND _highest[i] <= s.revision)
           AND (_fences[i] IS NULL
                OR s.pk = _pks[i] AND s.fence = _fences[i] AND s.open_turn = _turns[i])
        RETURNING s.pk, s.revision, s.history_revision, s.message_count,
                  s.interrupt_fence = s.fence
             INTO _session, revision, history_revision, _ordinal, interrupted;
        IF NOT FOUND THEN
            -- A session's key is taken only for one that is not there: there are no more than 2^31.
            CONTINUE WHEN NOT _creates[i] OR EXISTS (
                SELECT FROM holdfast.sessions s
                 WHERE s.shard = _shards[i] AND s.tenant = _tenant AND s.id = _ids[i]);
            INSERT INTO holdfast.sessions (
                       shard, tenant, id, pk, revision, history_revision, base, floor,
                       message_count, created, updated, rank)
            SELECT _shards[i], _tenant, _ids[i], n, (n << 32) + _counts[i], (n << 32) + _lasts[i],
                   n << 32, n << 32, _messages[i], _at, _at, nextval('holdfast.ranks')
              FROM nextval('holdfast.session_keys') AS n
                ON CONFLICT DO NOTHING
            RETURNING pk, revision, history_revision, message_count, false
                 INTO _session, revision, history_revision, _ordinal, interrupted;
            CONTINUE WHEN NOT FOUND;
        END IF;
        IF _fences[i] IS NOT NULL THEN
            UPDATE holdfast.sessions s
               SET lease_until = CASE WHEN _closes[i] THEN 0 ELSE _at + s.lease_ttl END,
                   lease_ttl = CASE WHEN _closes[i] THEN 0 ELSE s.lease_ttl END,
                   lease_owner = CASE WHEN _closes[i] THEN NULL ELSE s.lease_owner END,
                   open_turn = CASE WHEN _closes[i] THEN NULL ELSE s.open_turn END,
                   open_attempt = CASE WHEN _closes[i] THEN 0 ELSE s.open_attempt END,
                   turn_status = CASE WHEN _closes[i] THEN NULL ELSE s.turn_status END
             WHERE s.shard = _shards[i] AND s.tenant = _tenant AND s.id = _ids[i];
        END IF;
        number := i;
        RETURN NEXT;
        _sessions[i] := _session;
        _starts[i] := revision - _counts[i];
        _histories[i] := history_revision;
        _ordinals[i] := _ordinal - _messages[i];
    END LOOP;
    WITH entries AS (
        SELECT _shards[append] AS shard, _starts[append] + place AS revision, kind,
               _ordinals[append] + before AS ordinal, turn, attempt, payload, crc
          FROM unnest(_e_appends, _e_places, _e_before, _e_kinds, _e_turns, _e_attempts,
                      _e_payloads, _e_crcs)
            AS e (append, place, before, kind, turn, attempt, payload, crc)
         WHERE _starts[append] IS NOT NULL
    ), messages AS (
        INSERT INTO holdfast.messages (
               shard, tenant, revision, kind, ordinal, turn, attempt, at, payload, crc)
        SELECT shard, _tenant, revision, kind, ordinal, turn, attempt, _at, payload, crc
          FROM entries WHERE kind = 'message'
    ), activity AS (
        INSERT INTO holdfast.activity (
               shard, tenant, revision, kind, turn, attempt, at, payload, crc)
        SELECT shard, _tenant, revision, kind, turn, attempt, _at, payload, crc
          FROM entries WHERE kind <> 'message'
    )
    INSERT INTO holdfast.keys (
           shard, tenant, session, key, invented, kind, revision, kept, turn, write, at)
    SELECT _shards[append], _tenant, _sessions[append], coalesce(key, id), key IS NULL, kind,
           coalesce(_starts[append] + ends, _histories[append]), 0, NULL, id, _at
      FROM unnest(_w_appends, _w_kinds, _w_keys, _w_ids, _w_ends)
        AS w (append, kind, key, id, ends)
     WHERE _starts[append] IS NOT NULL;
END
$$;

-- A batch that is one append of one entry with messages, outside of turns: what a lone caller sends.
-- It does the same as `commit_v1` with the cheapest statements, and returns the new revision; null
-- if the session is not there or has the key, and then nothing is done.
CREATE FUNCTION holdfast.append_v1(
    _tenant text, _now bigint, _shard bigint, _id text,
    _kind text, _key text, _write text,
    _messages bigint, _payload text, _crc bigint
) RETURNS bigint
LANGUAGE plpgsql
SET enable_seqscan = off  -- as above
AS $$
DECLARE
    _at bigint := coalesce(_now, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint);
    _pk bigint;
    _revision bigint;
    _count bigint;
BEGIN
    PERFORM set_config('holdfast.tenant', _tenant, true);
    IF _key IS NOT NULL AND EXISTS (
        SELECT FROM holdfast.sessions s
          JOIN holdfast.keys k ON k.shard = s.shard AND k.session = s.pk
         WHERE s.shard = _shard AND s.tenant = _tenant AND s.id = _id
           AND k.key = _key AND NOT k.invented
    ) THEN
        RETURN NULL;
    END IF;
    UPDATE holdfast.sessions s
       SET revision = s.revision + 1,
           history_revision = s.revision + 1,
           message_count = s.message_count + _messages,
           updated = greatest(s.updated, _at),
           rank = nextval('holdfast.ranks'),
           stale = true
     WHERE s.shard = _shard AND s.tenant = _tenant AND s.id = _id
    RETURNING s.pk, s.revision, s.message_count INTO _pk, _revision, _count;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO holdfast.messages (
           shard, tenant, revision, kind, ordinal, turn, attempt, at, payload, crc)
    VALUES (_shard, _tenant, _revision, 'message', _count - _messages, NULL, 0, _at, _payload, _crc);
    INSERT INTO holdfast.keys (
           shard, tenant, session, key, invented, kind, revision, kept, turn, write, at)
    VALUES (_shard, _tenant, _pk, coalesce(_key, _write), _key IS NULL, _kind, _revision, 0, NULL,
            _write, _at);
    RETURN _revision;
END
$$;
