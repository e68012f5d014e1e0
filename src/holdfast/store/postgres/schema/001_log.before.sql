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
    rank_group       bigint  GENERATED ALWAYS AS (rank >> 10) STORED,
    PRIMARY KEY (shard, tenant, id)
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
-- holds, or not at all. Of those that were done the answer has a row each; the caller decides the
-- others by the rules. Sessions are locked in the order of their ids, which all batches keep, so two
-- cannot wait for each other. What is null for all is sent as no array, which `unnest` fills up with
-- nulls. The function's name has a version: workers of two releases work side by side.
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
    _number integer := array_length(_ids, 1);
    _done integer;
    _repeated text[];  -- sessions that have one of the keys already
    _made text[];      -- sessions that were made just now
BEGIN
    PERFORM set_config('holdfast.tenant', _tenant, true);
    IF _number > 1 THEN
        PERFORM FROM unnest(_shards, _ids) AS a (shard, id)
           JOIN holdfast.sessions s ON s.shard = a.shard AND s.tenant = _tenant AND s.id = a.id
          ORDER BY s.id FOR UPDATE OF s;
    END IF;
    IF _w_keys IS NOT NULL THEN
        _repeated := ARRAY(
            SELECT s.id
              FROM unnest(_w_appends, _w_keys) AS w (append, key)
              JOIN holdfast.sessions s ON s.shard = _shards[w.append] AND s.tenant = _tenant
                                      AND s.id = _ids[w.append]
              JOIN holdfast.keys k ON k.shard = s.shard AND k.session = s.pk AND k.key = w.key
             WHERE NOT k.invented);
    END IF;
    LOOP
        RETURN QUERY
        WITH done AS (
            UPDATE holdfast.sessions s
               SET revision = s.revision + a.count,
                   history_revision = CASE WHEN a.last > 0 THEN s.revision + a.last
                                           ELSE s.history_revision END,
                   message_count = s.message_count + a.messages,
                   updated = CASE WHEN a.count > 0 THEN greatest(s.updated, _at)
                                  ELSE s.updated END,
                   rank = CASE WHEN a.count > 0 THEN a.rank ELSE s.rank END,
                   stale = s.stale OR a.messages > 0,
                   lease_until = CASE WHEN a.fence IS NULL THEN s.lease_until
                                      WHEN a.closes THEN 0 ELSE _at + s.lease_ttl END,
                   lease_ttl = CASE WHEN a.closes THEN 0 ELSE s.lease_ttl END,
                   lease_owner = CASE WHEN a.closes THEN NULL ELSE s.lease_owner END,
                   open_turn = CASE WHEN a.closes THEN NULL ELSE s.open_turn END,
                   open_attempt = CASE WHEN a.closes THEN 0 ELSE s.open_attempt END,
                   turn_status = CASE WHEN a.closes THEN NULL ELSE s.turn_status END
              FROM (SELECT *, nextval('holdfast.ranks') AS rank
                      FROM unnest(_shards, _ids, _expected, _lowest, _highest, _pks, _fences,
                                  _turns, _closes, _counts, _messages, _lasts) WITH ORDINALITY
                        AS a (shard, id, expected, lowest, highest, pk, fence,
                              turn, closes, count, messages, last, number)) AS a
             WHERE s.shard = a.shard AND s.tenant = _tenant AND s.id = a.id
               AND (_made IS NULL OR s.id = ANY (_made))
               AND (_repeated IS NULL OR s.id <> ALL (_repeated))
               AND (a.expected IS NULL OR _made IS NOT NULL
                    OR a.expected BETWEEN s.history_revision AND s.revision)
               AND (a.lowest IS NULL OR a.lowest >= s.pk << 32 AND a.highest <= s.revision)
               AND (a.fence IS NULL
                    OR s.pk = a.pk AND s.fence = a.fence AND s.open_turn = a.turn)
            RETURNING a.number, s.shard, s.pk, s.revision - a.count AS start, s.revision,
                      s.history_revision, s.message_count - a.messages AS ordinal,
                      s.interrupt_fence = s.fence AS interrupted
        ), entries AS (
            SELECT d.shard, d.start + e.place AS revision, d.ordinal + e.before AS ordinal,
                   e.kind, e.turn, e.attempt, e.payload, e.crc
              FROM unnest(_e_appends, _e_places, _e_before, _e_kinds, _e_turns, _e_attempts,
                          _e_payloads, _e_crcs)
                AS e (append, place, before, kind, turn, attempt, payload, crc)
              JOIN done d ON d.number = e.append
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
        ), keys AS (
            INSERT INTO holdfast.keys (
                   shard, tenant, session, key, invented, kind, revision, kept, turn, write, at)
            SELECT d.shard, _tenant, d.pk, coalesce(w.key, w.id), w.key IS NULL, w.kind,
                   coalesce(d.start + w.ends, d.history_revision), 0, NULL, w.id, _at
              FROM unnest(_w_appends, _w_kinds, _w_keys, _w_ids, _w_ends)
                AS w (append, kind, key, id, ends)
              JOIN done d ON d.number = w.append
        )
        SELECT number, revision, history_revision, interrupted FROM done;
        GET DIAGNOSTICS _done = ROW_COUNT;
        EXIT WHEN _done = _number OR _made IS NOT NULL;
        WITH made AS (
            INSERT INTO holdfast.sessions (
                   shard, tenant, id, pk, revision, history_revision, base, floor,
                   message_count, created, updated, rank)
            SELECT shard, _tenant, id, pk, pk << 32, pk << 32, pk << 32, pk << 32,
                   0, _at, _at, nextval('holdfast.ranks')
              FROM (SELECT a.*, nextval('holdfast.session_keys') AS pk
                      FROM unnest(_shards, _ids, _creates) AS a (shard, id, creates)
                     WHERE a.creates AND NOT EXISTS (
                               SELECT FROM holdfast.sessions s
                                WHERE s.shard = a.shard AND s.tenant = _tenant AND s.id = a.id)
                   ) AS a
             ORDER BY id
                ON CONFLICT DO NOTHING
            RETURNING id
        )
        SELECT array_agg(id) INTO _made FROM made;
        EXIT WHEN _made IS NULL;
    END LOOP;
END
$$;
