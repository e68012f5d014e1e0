-- The log: one row a session, one table for its messages and one for its activity.
--
-- Every key begins with `shard`, a number made of tenant and id, and no statement of a write names
-- two shards: so every table can be distributed by it. Every table has its rows' tenant, so that
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
    PRIMARY KEY (shard, tenant, id)
) WITH (fillfactor = 70);
CREATE INDEX sessions_by_key ON holdfast.sessions (tenant, pk);
CREATE INDEX sessions_by_rank ON holdfast.sessions (tenant, rank DESC, pk DESC);
CREATE INDEX sessions_by_user ON holdfast.sessions (tenant, user_id, rank DESC, pk DESC)
    WHERE user_id IS NOT NULL;
CREATE INDEX sessions_by_agent ON holdfast.sessions (tenant, agent_name, rank DESC, pk DESC)
    WHERE agent_name IS NOT NULL;
CREATE INDEX open_turns ON holdfast.sessions (tenant, id) WHERE open_turn IS NOT NULL;
CREATE INDEX stale_sessions ON holdfast.sessions (tenant, pk) WHERE stale;
CREATE INDEX indexed_sessions ON holdfast.sessions (tenant)
    INCLUDE (indexed_messages, indexed_words) WHERE indexed_messages > 0;

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
-- Each does what the rules say where nothing speaks against it, or nothing at all: then its row in
-- the answer is empty, and so are those of the same session's later writes, and the caller decides
-- them by the rules. The writes come in the order of their sessions' ids, so that two batches cannot
-- wait for each other. The name has a version: workers of two releases work side by side.
CREATE FUNCTION holdfast.commit_v1(
    _tenant text, _now bigint,
    -- A write each: whose it is, what it requires.
    _shards bigint[], _ids text[], _kinds text[], _keys text[], _writes text[],
    _creates boolean[], _expected bigint[], _bases bigint[],
    -- Within a turn: the fencing token, the turn, whether it ends. Null outside.
    _pks bigint[], _fences bigint[], _turns text[], _closes boolean[],
    -- How many entries and messages it has, and which of its entries is the last with messages.
    _counts bigint[], _messages bigint[], _lasts bigint[],
    -- An entry each: its write, its place there, and the messages of the same write before it.
    _e_writes bigint[], _e_places bigint[], _e_kinds text[], _e_before bigint[],
    _e_turns text[], _e_attempts bigint[], _e_payloads text[], _e_crcs bigint[]
) RETURNS TABLE (pk bigint, revision bigint, history_revision bigint, interrupted boolean)
LANGUAGE plpgsql
SET enable_seqscan = off  -- a connection keeps its plans, also those made while the tables were small
AS $$
#variable_conflict use_column
DECLARE
    _at bigint := coalesce(_now, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint);
    _number integer := array_length(_ids, 1);
    _refused text;  -- the session whose writes are not plain: the rest of them has to wait
    _sessions bigint[] := array_fill(NULL::bigint, ARRAY[_number]);
    _revisions bigint[] := _sessions;
    _histories bigint[] := _sessions;
    _ordinals bigint[] := _sessions;
    _asked boolean[] := array_fill(false, ARRAY[_number]);
    _session bigint;
    _revision bigint;
    _history bigint;
    _ordinal bigint;
    _interrupted boolean;
BEGIN
    PERFORM set_config('holdfast.tenant', _tenant, true);
    FOR i IN 1 .. _number LOOP
        CONTINUE WHEN _ids[i] = _refused;
        IF _keys[i] IS NOT NULL AND EXISTS (
            SELECT FROM holdfast.sessions s
              JOIN holdfast.keys k ON k.shard = s.shard AND k.session = s.pk
             WHERE s.shard = _shards[i] AND s.tenant = _tenant AND s.id = _ids[i]
               AND k.key = _keys[i] AND NOT k.invented
        ) THEN
            _refused := _ids[i];
            CONTINUE;
        END IF;
        UPDATE holdfast.sessions s
           SET revision = s.revision + _counts[i],
               history_revision = CASE WHEN _lasts[i] > 0 THEN s.revision + _lasts[i]
                                       ELSE s.history_revision END,
               message_count = s.message_count + _messages[i],
               updated = CASE WHEN _counts[i] > 0 THEN greatest(s.updated, _at) ELSE s.updated END,
               rank = CASE WHEN _counts[i] = 0 OR s.rank = (SELECT last_value FROM holdfast.ranks)
                           THEN s.rank ELSE nextval('holdfast.ranks') END,
               stale = s.stale OR _messages[i] > 0,
               lease_until = CASE WHEN _fences[i] IS NULL THEN s.lease_until
                                  WHEN _closes[i] THEN 0 ELSE _at + s.lease_ttl END,
               lease_ttl = CASE WHEN _closes[i] THEN 0 ELSE s.lease_ttl END,
               lease_owner = CASE WHEN _closes[i] THEN NULL ELSE s.lease_owner END,
               open_turn = CASE WHEN _closes[i] THEN NULL ELSE s.open_turn END,
               open_attempt = CASE WHEN _closes[i] THEN 0 ELSE s.open_attempt END,
               turn_status = CASE WHEN _closes[i] THEN NULL ELSE s.turn_status END
         WHERE s.shard = _shards[i] AND s.tenant = _tenant AND s.id = _ids[i]
           AND (_expected[i] IS NULL OR _expected[i] BETWEEN s.history_revision AND s.revision)
           AND (_bases[i] IS NULL OR _bases[i] = 0 OR _bases[i] BETWEEN s.pk << 32 AND s.revision)
           AND (_fences[i] IS NULL
                OR (s.pk = _pks[i] AND s.fence = _fences[i] AND s.open_turn = _turns[i]))
        RETURNING s.pk, s.revision, s.history_revision, s.message_count, s.interrupt_fence = s.fence
          INTO _session, _revision, _history, _ordinal, _interrupted;
        IF NOT FOUND AND _creates[i] THEN
            INSERT INTO holdfast.sessions (
                       shard, tenant, id, pk, revision, history_revision, base, floor,
                       message_count, created, updated, rank)
            SELECT _shards[i], _tenant, _ids[i], n, (n << 32) + _counts[i], (n << 32) + _lasts[i],
                   n << 32, n << 32, _messages[i], _at, _at, nextval('holdfast.ranks')
              FROM nextval('holdfast.session_keys') AS n
                ON CONFLICT DO NOTHING
            RETURNING pk, revision, history_revision, message_count, false
              INTO _session, _revision, _history, _ordinal, _interrupted;
        END IF;
        IF NOT FOUND THEN
            _refused := _ids[i];
            CONTINUE;
        END IF;
        _sessions[i] := _session;
        _revisions[i] := _revision;
        _histories[i] := _history;
        _ordinals[i] := _ordinal - _messages[i];
        _asked[i] := _interrupted;
    END LOOP;
    IF 'message' = ANY (_e_kinds) THEN
        INSERT INTO holdfast.messages (
                   shard, tenant, revision, kind, ordinal, turn, attempt, at, payload, crc)
        SELECT _shards[e.w], _tenant, _revisions[e.w] - _counts[e.w] + e.place, e.kind,
               _ordinals[e.w] + e.before, e.turn, e.attempt, _at, e.payload, e.crc
          FROM unnest(_e_writes, _e_places, _e_kinds, _e_before, _e_turns, _e_attempts,
                      _e_payloads, _e_crcs)
               AS e (w, place, kind, before, turn, attempt, payload, crc)
         WHERE e.kind = 'message' AND _revisions[e.w] IS NOT NULL;
    END IF;
    IF 'message' <> ANY (_e_kinds) THEN
        INSERT INTO holdfast.activity (
                   shard, tenant, revision, kind, turn, attempt, at, payload, crc)
        SELECT _shards[e.w], _tenant, _revisions[e.w] - _counts[e.w] + e.place, e.kind,
               e.turn, e.attempt, _at, e.payload, e.crc
          FROM unnest(_e_writes, _e_places, _e_kinds, _e_turns, _e_attempts, _e_payloads, _e_crcs)
               AS e (w, place, kind, turn, attempt, payload, crc)
         WHERE e.kind <> 'message' AND _revisions[e.w] IS NOT NULL;
    END IF;
    INSERT INTO holdfast.keys (
               shard, tenant, session, key, invented, kind, revision, kept, turn, write, at)
    SELECT _shards[w], _tenant, _sessions[w], coalesce(_keys[w], _writes[w]), _keys[w] IS NULL,
           _kinds[w], CASE WHEN _counts[w] > 0 THEN _revisions[w] ELSE _histories[w] END, 0, NULL,
           _writes[w], _at
      FROM generate_series(1, _number) AS w
     WHERE _revisions[w] IS NOT NULL;
    RETURN QUERY
    SELECT _sessions[w], _revisions[w], _histories[w], _asked[w]
      FROM generate_series(1, _number) AS w ORDER BY w;
END
$$;
