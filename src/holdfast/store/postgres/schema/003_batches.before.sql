-- A batch of writes that only append, with a few statements for all of its sessions.
--
-- `commit_v2` says and does what `commit_v1` does, which changed the session rows by a statement each:
-- beginning and ending one took the server longer than what it did. Both work side by side.

-- Where the rows of a batch's sessions are, in the order of the appends: each is locked, or made where
-- that is allowed. Null where neither is the case, or where the session has one of the keys already.
--
-- One after the other, in the order of their ids, so that two batches cannot wait for each other: the
-- query that locks cannot be made a part of the one around it, and is asked append by append.
CREATE FUNCTION holdfast.places_v1(
    _tenant text, _at bigint, _shards bigint[], _ids text[], _creates boolean[],
    _w_appends bigint[], _w_keys text[],
    OUT _places tid[], OUT _new boolean[]
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- One plan is kept, also if it was made while the tables were small. Then several indexes seem equally
-- good, and the planner takes the newest, which is the key, if their height does not count.
SET enable_seqscan = off
SET enable_indexscan = on
SET cpu_operator_cost = 0
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    _sessions bigint[];
    _repeated bigint;
BEGIN
    SELECT array_agg(coalesce(place, made)), array_agg(place IS NULL), array_agg(pk)
      INTO _places, _new, _sessions
      FROM (SELECT s.place, s.pk,
                   CASE WHEN s.place IS NULL AND a.creates
                        THEN holdfast.make_v1(_tenant, a.shard, a.id, _at) END AS made
              FROM unnest(_shards, _ids, _creates) AS a (shard, id, creates)
              LEFT JOIN LATERAL (
                       SELECT s.ctid AS place, s.pk
                         FROM holdfast.sessions s
                        WHERE s.shard = a.shard AND s.tenant = _tenant AND s.id = a.id
                          FOR NO KEY UPDATE) s ON true
            OFFSET 0) found;
    IF _w_keys IS NOT NULL THEN
        FOR _repeated IN
            SELECT w.append
              FROM unnest(_w_appends, _w_keys) AS w (append, key)
             CROSS JOIN LATERAL (
                      SELECT FROM holdfast.keys k
                       WHERE k.shard = _shards[w.append] AND k.session = _sessions[w.append]
                         AND k.key = w.key AND NOT k.invented
                       LIMIT 1) k
        LOOP
            _places[_repeated] := NULL;
        END LOOP;
    END IF;
END
$$;

-- A new session without entries: where its row is. Null if there is one, or somebody else makes it.
CREATE FUNCTION holdfast.make_v1(_tenant text, _shard bigint, _id text, _at bigint) RETURNS tid
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    _place tid;
BEGIN
    -- A session's key is taken only for one that is not there: there are no more than 2^31.
    IF NOT EXISTS (SELECT FROM holdfast.sessions s
                    WHERE s.shard = _shard AND s.tenant = _tenant AND s.id = _id) THEN
        INSERT INTO holdfast.sessions (
                   shard, tenant, id, pk, revision, history_revision, base, floor,
                   message_count, created, updated, rank)
        SELECT _shard, _tenant, _id, n, n << 32, n << 32, n << 32, n << 32, 0, _at, _at,
               nextval('holdfast.ranks')
          FROM nextval('holdfast.session_keys') AS n
            ON CONFLICT DO NOTHING
        RETURNING ctid INTO _place;
    END IF;
    RETURN _place;
END
$$;

-- What it takes is what `commit_v1` takes. Of each append it returns the revisions that its session
-- has now, or 0 if it was not done, and whether its turn is asked to stop.
CREATE FUNCTION holdfast.commit_v2(
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
    _e_turns text[], _e_attempts bigint[], _e_payloads text[], _e_crcs bigint[],
    OUT _revisions bigint[], OUT _histories bigint[], OUT _interrupted boolean[]
)
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
-- The rows are found by their places, whatever the planner believes of the table.
SET enable_seqscan = off
SET enable_indexscan = off
SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    _at bigint := coalesce(_now, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint);
    _places tid[];       -- of each append: where its session's row is
    _new boolean[];      -- whether that was made for it
    _sessions bigint[];  -- its session's key, null if it is not done
    _starts bigint[];    -- its session's revision before it
    _ordinals bigint[];  -- and the messages before it
BEGIN
    PERFORM set_config('holdfast.tenant', _tenant, true);
    SELECT p._places, p._new INTO _places, _new
      FROM holdfast.places_v1(_tenant, _at, _shards, _ids, _creates, _w_appends, _w_keys) p;
    WITH done AS (
        UPDATE holdfast.sessions s
           SET revision = s.revision + a.count,
               history_revision = CASE WHEN a.last > 0 THEN s.revision + a.last
                                       ELSE s.history_revision END,
               message_count = s.message_count + a.messages,
               updated = CASE WHEN a.count > 0 THEN greatest(s.updated, _at) ELSE s.updated END,
               rank = CASE WHEN a.count > 0 THEN nextval('holdfast.ranks') ELSE s.rank END,
               stale = s.stale OR a.messages > 0,
               lease_until = CASE WHEN a.fence IS NULL THEN s.lease_until
                                  WHEN a.closes THEN 0 ELSE _at + s.lease_ttl END,
               lease_ttl = CASE WHEN a.closes THEN 0 ELSE s.lease_ttl END,
               lease_owner = CASE WHEN a.closes THEN NULL ELSE s.lease_owner END,
               open_turn = CASE WHEN a.closes THEN NULL ELSE s.open_turn END,
               open_attempt = CASE WHEN a.closes THEN 0 ELSE s.open_attempt END,
               turn_status = CASE WHEN a.closes THEN NULL ELSE s.turn_status END
          FROM unnest(_places, _shards, _ids, _new, _expected, _lowest, _highest, _pks, _fences,
                      _turns, _closes, _counts, _messages, _lasts) WITH ORDINALITY
            AS a (place, shard, id, new, expected, lowest, highest, pk, fence, turn, closes,
                  count, messages, last, number)
         -- A place is one of a table: if this one is in parts, each has rows in the same places.
         WHERE s.ctid = a.place AND s.shard = a.shard AND s.tenant = _tenant AND s.id = a.id
           AND (a.new
                OR (a.expected IS NULL OR a.expected BETWEEN s.history_revision AND s.revision)
                   AND (a.lowest IS NULL OR a.lowest >= s.pk << 32 AND a.highest <= s.revision)
                   AND (a.fence IS NULL
                        OR s.pk = a.pk AND s.fence = a.fence AND s.open_turn = a.turn))
        RETURNING a.number, s.pk, s.revision, s.history_revision, s.revision - a.count AS start,
                  s.message_count - a.messages AS ordinal, s.interrupt_fence = s.fence AS interrupted
    )
    SELECT array_agg(pk), array_agg(start), array_agg(ordinal), array_agg(coalesce(revision, 0)),
           array_agg(coalesce(history_revision, 0)), array_agg(coalesce(interrupted, false))
      INTO _sessions, _starts, _ordinals, _revisions, _histories, _interrupted
      FROM (SELECT * FROM generate_subscripts(_ids, 1) AS number LEFT JOIN done USING (number)
             ORDER BY number) appends;
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

-- A lone append finds its session by the key as well, whenever its plan is made.
ALTER FUNCTION holdfast.append_v1 SET cpu_operator_cost = 0;
ALTER FUNCTION holdfast.append_v1 SET plan_cache_mode = force_generic_plan;
