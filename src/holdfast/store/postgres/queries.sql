-- commit: A batch of writes that only append; see `commit_v2` in the schema. How long it may wait
-- for a lock is set with its first argument: arguments are known before the function begins.
SELECT _revisions, _histories, _interrupted
  FROM holdfast.commit_v2(
           CASE WHEN pg_catalog.set_config('lock_timeout', %s, true) IS NOT NULL THEN %s::text END,
           %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,
           %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s);

-- append: A batch that is one append of one entry; see `append_v1` in the schema.
SELECT holdfast.append_v1(
           CASE WHEN pg_catalog.set_config('lock_timeout', %s, true) IS NOT NULL THEN %s::text END,
           %s, %s, %s, %s, %s, %s, %s, %s, %s);

-- set_tenant: Whose rows this transaction is about, for row-level security. If its client stands
-- still in it, it is undone, so that others get at the rows that it has locked. How long it may wait
-- (for a lock: 0 is for ever) is the client's to say, whatever others have. What is called is
-- PostgreSQL's, whatever somebody has put into `public` that would fit better.
SELECT set_config('holdfast.tenant', %s, true),
       set_config('search_path', 'pg_catalog, pg_temp', true),
       set_config('idle_in_transaction_session_timeout', '10s', true),
       set_config('lock_timeout', %s, true), set_config('statement_timeout', '0', true);

-- lock_sessions: The sessions of a batch, each locked, in the order that all batches keep.
SELECT s.pk, s.tenant, s.id, s.revision, s.history_revision, s.base, s.floor, s.message_count,
       s.created, s.updated, s.rank, s.title, s.user_id, s.agent_name, s.meta, s.labels,
       s.fence, s.lease_until, s.lease_ttl, s.lease_owner, s.open_turn,
       s.open_attempt, s.turn_status, s.interrupt_fence
  FROM holdfast.sessions s
 WHERE (s.shard, s.tenant, s.id) IN (
           SELECT w.shard, %s, w.id FROM unnest(%s::bigint[], %s::text[]) AS w (shard, id))
 ORDER BY s.id FOR UPDATE;

-- lock_session: The one session of a batch. An engine that spreads rows over machines locks them in
-- statements that name one shard, and in no others.
SELECT s.pk, s.tenant, s.id, s.revision, s.history_revision, s.base, s.floor, s.message_count,
       s.created, s.updated, s.rank, s.title, s.user_id, s.agent_name, s.meta, s.labels,
       s.fence, s.lease_until, s.lease_ttl, s.lease_owner, s.open_turn,
       s.open_attempt, s.turn_status, s.interrupt_fence
  FROM holdfast.sessions s WHERE s.shard = %s AND s.tenant = %s AND s.id = %s FOR UPDATE;

-- now: The database's time, in milliseconds.
SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint;

-- recorded_keys: What the keys of a batch recorded.
SELECT s.id, k.key, k.invented, k.kind, k.revision, k.kept, k.turn, k.write
  FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::boolean[]) AS w (shard, id, key, invented)
  JOIN holdfast.sessions s ON s.shard = w.shard AND s.tenant = %s AND s.id = w.id
  JOIN holdfast.keys k ON k.shard = w.shard AND k.session = s.pk
                      AND k.key = w.key AND k.invented = w.invented;

-- recorded_session_keys: The same for one session.
SELECT s.id, k.key, k.invented, k.kind, k.revision, k.kept, k.turn, k.write
  FROM holdfast.sessions s
  JOIN holdfast.keys k ON k.shard = s.shard AND k.session = s.pk
 WHERE s.shard = %s AND s.tenant = %s AND s.id = %s AND k.key = ANY (%s::text[]);

-- session_keys: What the callers' keys of a session recorded, all of them or one.
SELECT k.key, k.kind, k.revision, k.kept, k.turn
  FROM holdfast.sessions s JOIN holdfast.keys k ON k.shard = s.shard AND k.session = s.pk
 WHERE s.shard = %s AND s.tenant = %s AND s.id = %s
   AND NOT k.invented AND (%s::text IS NULL OR k.key = %s)
 ORDER BY k.key;

-- new_key: A session's key that none had before.
SELECT nextval('holdfast.session_keys');

-- put_sessions: The rows of a batch's sessions, new or changed; a rank of 0 asks for the next one.
INSERT INTO holdfast.sessions AS s (
       shard, pk, tenant, id, revision, history_revision, base, floor, message_count,
       created, updated, rank, title, user_id, agent_name, meta, labels,
       fence, lease_until, lease_ttl, lease_owner, open_turn, open_attempt,
       turn_status, interrupt_fence)
SELECT shard, pk, tenant, id, revision, history_revision, base, floor, message_count,
       created, updated, CASE WHEN rank = 0 THEN nextval('holdfast.ranks') ELSE rank END,
       title, user_id, agent_name, meta, labels,
       fence, lease_until, lease_ttl, lease_owner, open_turn, open_attempt,
       turn_status, interrupt_fence
  FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::bigint[], %s::bigint[],
              %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
              %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
              %s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::bigint[],
              %s::text[], %s::bigint[])
       AS new (shard, pk, tenant, id, revision, history_revision, base, floor, message_count,
               created, updated, rank, title, user_id, agent_name, meta, labels,
               fence, lease_until, lease_ttl, lease_owner, open_turn, open_attempt,
               turn_status, interrupt_fence)
    ON CONFLICT (shard, tenant, id) DO UPDATE
   SET revision = excluded.revision, history_revision = excluded.history_revision,
       base = excluded.base, floor = excluded.floor, message_count = excluded.message_count,
       updated = excluded.updated, rank = excluded.rank, title = excluded.title,
       user_id = excluded.user_id, agent_name = excluded.agent_name, meta = excluded.meta,
       labels = excluded.labels, fence = excluded.fence, lease_until = excluded.lease_until,
       lease_ttl = excluded.lease_ttl, lease_owner = excluded.lease_owner,
       open_turn = excluded.open_turn, open_attempt = excluded.open_attempt,
       turn_status = excluded.turn_status, interrupt_fence = excluded.interrupt_fence,
       stale = s.stale OR excluded.history_revision > s.history_revision
 WHERE s.pk = excluded.pk
RETURNING s.pk;

-- insert_messages: Message and reset entries.
INSERT INTO holdfast.messages (
       shard, tenant, revision, kind, ordinal, turn, attempt, at, payload, crc)
SELECT shard, %s, revision, kind, ordinal, turn, attempt, at, payload, crc
  FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::text[], %s::bigint[],
              %s::bigint[], %s::text[], %s::bigint[])
       AS new (shard, revision, kind, ordinal, turn, attempt, at, payload, crc);

-- insert_activity: All other entries; they take the same values as a message entry.
INSERT INTO holdfast.activity (
       shard, tenant, revision, kind, turn, attempt, at, payload, crc)
SELECT shard, %s, revision, kind, turn, attempt, at, payload, crc
  FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::text[], %s::bigint[],
              %s::bigint[], %s::text[], %s::bigint[])
       AS new (shard, revision, kind, ordinal, turn, attempt, at, payload, crc);

-- put_keys: Keys and what their writes came to.
INSERT INTO holdfast.keys (
       shard, tenant, session, key, invented, kind, revision, kept, turn, write, at)
SELECT shard, %s, session, key, invented, kind, revision, kept, turn, write, %s
  FROM unnest(%s::bigint[], %s::bigint[], %s::text[], %s::boolean[], %s::text[], %s::bigint[],
              %s::bigint[], %s::text[], %s::text[])
       AS new (shard, session, key, invented, kind, revision, kept, turn, write)
    ON CONFLICT (shard, session, key, invented) DO UPDATE
   SET kind = excluded.kind, revision = excluded.revision, kept = excluded.kept,
       turn = excluded.turn, write = excluded.write, at = excluded.at;

-- messages_after: The message entries above a revision, to be carried over by a rewrite.
SELECT revision, kind, ordinal, turn, attempt, at, convert_to(payload, 'UTF8'), crc
  FROM holdfast.messages
 WHERE shard = %s AND revision > %s AND revision <= %s AND kind = 'message' ORDER BY revision;

-- resets_after: The resets above a revision: each ended a generation, which may be purged.
SELECT revision, kind, ordinal, turn, attempt, at, convert_to(payload, 'UTF8'), crc
  FROM holdfast.messages
 WHERE shard = %s AND revision > %s AND revision <= %s AND kind = 'reset' ORDER BY revision;

-- turn_rows: The turn entries of one turn, in order.
SELECT revision, kind, 0::bigint, turn, attempt, at, convert_to(payload, 'UTF8'), crc
  FROM holdfast.activity
 WHERE shard = %s AND kind = 'turn' AND turn = %s AND revision > %s AND revision <= %s
 ORDER BY revision;

-- all_turn_rows: The turn entries of a session, in order.
SELECT revision, kind, 0::bigint, turn, attempt, at, convert_to(payload, 'UTF8'), crc
  FROM holdfast.activity
 WHERE shard = %s AND kind = 'turn' AND revision > %s AND revision <= %s ORDER BY revision;

-- log: The entries above a revision of both tables, in order.
(SELECT revision, kind, ordinal, turn, attempt, at, convert_to(payload, 'UTF8'), crc
   FROM holdfast.messages WHERE shard = %s AND revision > %s AND revision <= %s
  ORDER BY revision LIMIT %s)
UNION ALL
(SELECT revision, kind, 0::bigint, turn, attempt, at, convert_to(payload, 'UTF8'), crc
   FROM holdfast.activity WHERE shard = %s AND revision > %s AND revision <= %s
  ORDER BY revision LIMIT %s)
 ORDER BY 1 LIMIT %s;

-- waiting: Who waits for a turn of a batch's sessions.
SELECT t.session, t.id, t.number, t.expires
  FROM holdfast.sessions s JOIN holdfast.waiters t ON t.shard = s.shard AND t.session = s.pk
 WHERE (s.shard, s.tenant, s.id) IN (
           SELECT w.shard, %s, w.id FROM unnest(%s::bigint[], %s::text[]) AS w (shard, id));

-- waiting_for_session: The same for one session.
SELECT t.session, t.id, t.number, t.expires
  FROM holdfast.sessions s JOIN holdfast.waiters t ON t.shard = s.shard AND t.session = s.pk
 WHERE s.shard = %s AND s.tenant = %s AND s.id = %s;

-- count_waiters: How many wait for a session's turn.
SELECT count(*)
  FROM holdfast.sessions s JOIN holdfast.waiters w ON w.shard = s.shard AND w.session = s.pk
 WHERE s.shard = %s AND s.tenant = %s AND s.id = %s;

-- put_ticket: A place in the line, taken or renewed.
INSERT INTO holdfast.waiters (shard, tenant, session, id, number, expires)
VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (shard, session, id) DO UPDATE SET expires = excluded.expires;

-- drop_tickets: A place that is not needed any more, and those that lapsed.
DELETE FROM holdfast.waiters WHERE shard = %s AND session = %s AND (id = %s OR expires <= %s);

-- delete_deltas: Streamed text of turns that were closed long ago.
DELETE FROM holdfast.activity
 WHERE shard = %s AND kind = 'delta' AND revision > %s AND revision <= %s;

-- delete_messages: A session that goes takes its messages; a purge takes those below a floor.
DELETE FROM holdfast.messages WHERE shard = %s AND revision > %s AND revision <= %s;

-- delete_activity: A session that goes takes its activity.
DELETE FROM holdfast.activity WHERE shard = %s AND revision > %s AND revision <= %s;

-- delete_keys: A session that goes takes its keys.
DELETE FROM holdfast.keys WHERE shard = %s AND session = %s;

-- delete_waiters: A session that goes takes its line.
DELETE FROM holdfast.waiters WHERE shard = %s AND session = %s;

-- delete_searched: What the search index has of it.
DELETE FROM holdfast.searched WHERE shard = %s AND revision > %s AND revision <= %s;

-- delete_session: A session that goes.
DELETE FROM holdfast.sessions WHERE shard = %s AND tenant = %s AND pk = %s;

-- session: One session by its tenant and id.
SELECT pk, tenant, id, revision, history_revision, base, floor, message_count,
       created, updated, rank, title, user_id, agent_name, meta, labels,
       fence, lease_until, lease_ttl, lease_owner, open_turn,
       open_attempt, turn_status, interrupt_fence
  FROM holdfast.sessions WHERE shard = %s AND tenant = %s AND id = %s;

-- current_history: The message entries of a session's current generation, oldest first.
SELECT m.revision, convert_to(m.payload, 'UTF8'), m.crc
  FROM holdfast.sessions s
  JOIN holdfast.messages m ON m.shard = s.shard AND m.revision > s.base AND m.revision <= s.revision
 WHERE s.shard = %s AND s.tenant = %s AND s.id = %s
 ORDER BY m.revision;

-- history: The message entries of a generation up to a revision, oldest first.
SELECT revision, convert_to(payload, 'UTF8'), crc
  FROM holdfast.messages WHERE shard = %s AND revision > %s AND revision <= %s ORDER BY revision;

-- history_backwards: The newest of them, at most so many.
SELECT revision, ordinal, convert_to(payload, 'UTF8'), crc
  FROM holdfast.messages WHERE shard = %s AND revision > %s AND revision <= %s
 ORDER BY revision DESC LIMIT %s;

-- resets_until: The last two resets at or before a revision; one may be the commit it lies in.
SELECT revision, ordinal
  FROM holdfast.messages
 WHERE shard = %s AND revision > %s AND revision <= %s AND kind = 'reset'
 ORDER BY revision DESC LIMIT 2;

-- open_turns: A tenant's sessions with a turn that is running or waiting.
SELECT pk, tenant, id, revision, history_revision, base, floor, message_count,
       created, updated, rank, title, user_id, agent_name, meta, labels,
       fence, lease_until, lease_ttl, lease_owner, open_turn,
       open_attempt, turn_status, interrupt_fence
  FROM holdfast.sessions WHERE tenant = %s AND open_turn IS NOT NULL ORDER BY id;

-- list_sessions: A tenant's sessions, newest first, below a place.
SELECT rank, id, title, user_id, agent_name, created, updated,
       message_count, revision, turn_status, meta, labels
  FROM holdfast.sessions
 WHERE tenant = %s AND rank_group <= %s::bigint >> 10 AND (rank, pk) < (%s, %s)
 ORDER BY rank_group DESC, rank DESC, pk DESC LIMIT %s;

-- list_user_sessions: The same for one user, and perhaps one agent, whose index is not to be asked.
SELECT rank, id, title, user_id, agent_name, created, updated,
       message_count, revision, turn_status, meta, labels
  FROM holdfast.sessions
 WHERE tenant = %s AND rank_group <= %s::bigint >> 10 AND (rank, pk) < (%s, %s) AND user_id = %s
   AND agent_name IS NOT DISTINCT FROM coalesce(%s::text, agent_name)
 ORDER BY rank_group DESC, rank DESC, pk DESC LIMIT %s;

-- list_agent_sessions: The same for one agent.
SELECT rank, id, title, user_id, agent_name, created, updated,
       message_count, revision, turn_status, meta, labels
  FROM holdfast.sessions
 WHERE tenant = %s AND rank_group <= %s::bigint >> 10 AND (rank, pk) < (%s, %s) AND agent_name = %s
 ORDER BY rank_group DESC, rank DESC, pk DESC LIMIT %s;

-- sessions_after: A tenant's sessions by key, to walk over all of them.
SELECT pk, tenant, id, revision, history_revision, base, floor, message_count,
       created, updated, rank, title, user_id, agent_name, meta, labels,
       fence, lease_until, lease_ttl, lease_owner, open_turn,
       open_attempt, turn_status, interrupt_fence
  FROM holdfast.sessions WHERE tenant = %s AND pk > %s ORDER BY pk LIMIT %s;

-- count_sessions: How many sessions a tenant has, current messages, and first generations.
SELECT count(*), coalesce(sum(message_count), 0)::bigint, count(*) FILTER (WHERE floor = pk << 32)
  FROM holdfast.sessions WHERE tenant = %s;

-- count_session: The same for one session.
SELECT count(*), coalesce(sum(message_count), 0)::bigint, count(*) FILTER (WHERE floor = pk << 32)
  FROM holdfast.sessions WHERE tenant = %s AND shard = %s AND id = %s;

-- count_messages: How many message entries and resets a tenant has.
SELECT count(*), count(*) FILTER (WHERE kind = 'reset') FROM holdfast.messages WHERE tenant = %s;

-- count_session_messages: The same for one session.
SELECT count(*), count(*) FILTER (WHERE m.kind = 'reset')
  FROM holdfast.sessions s
  JOIN holdfast.messages m ON m.shard = s.shard AND m.revision > s.pk << 32
                          AND m.revision <= s.revision
 WHERE s.tenant = %s AND s.shard = %s AND s.id = %s;

-- count_activity: How many other entries a tenant has.
SELECT count(*) FROM holdfast.activity WHERE tenant = %s;

-- count_session_activity: The same for one session.
SELECT count(*)
  FROM holdfast.sessions s
  JOIN holdfast.activity a ON a.shard = s.shard AND a.revision > s.pk << 32
                          AND a.revision <= s.revision
 WHERE s.tenant = %s AND s.shard = %s AND s.id = %s;

-- usages: What a tenant's model calls used, session by session.
SELECT a.revision, a.kind, 0::bigint, a.turn, a.attempt, a.at, convert_to(a.payload, 'UTF8'), a.crc
  FROM holdfast.activity a
 WHERE a.tenant = %s AND a.kind = 'usage' ORDER BY a.revision;

-- session_usages: The same for one session.
SELECT a.revision, a.kind, 0::bigint, a.turn, a.attempt, a.at, convert_to(a.payload, 'UTF8'), a.crc
  FROM holdfast.sessions s
  JOIN holdfast.activity a ON a.shard = s.shard AND a.kind = 'usage' AND a.revision > s.pk << 32
                          AND a.revision <= s.revision
 WHERE s.tenant = %s AND s.shard = %s AND s.id = %s ORDER BY a.revision;

-- size: How many bytes the store's tables and indexes take.
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relkind IN ('r', 'p');

-- tenants: Every tenant that has a session, one step of an index each; or that it may not be known.
WITH RECURSIVE found (tenant) AS (
    (SELECT tenant FROM holdfast.sessions
      WHERE NOT row_security_active('holdfast.sessions') ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT s.tenant FROM holdfast.sessions s
             WHERE s.tenant > found.tenant ORDER BY s.tenant LIMIT 1)
      FROM found WHERE found.tenant IS NOT NULL)
SELECT tenant, false FROM found WHERE tenant IS NOT NULL
UNION ALL
SELECT '', true WHERE row_security_active('holdfast.sessions');

-- last_of_slice: Until when the first so many invented keys are from that are older than some time.
SELECT at FROM holdfast.keys
 WHERE tenant = %s AND invented AND at < %s ORDER BY at OFFSET %s LIMIT 1;

-- forget_invented: Invented keys that nobody can send again.
DELETE FROM holdfast.keys WHERE tenant = %s AND invented AND at < %s;

-- lacking: About how many entries the search index lacks.
SELECT coalesce(sum(greatest(1, history_revision - greatest(indexed, base))), 0)::bigint
  FROM holdfast.sessions WHERE tenant = %s AND stale;

-- next_stale: Sessions that the search index lacks something of, and that nobody writes just now.
SELECT shard, pk FROM holdfast.sessions
 WHERE tenant = %s AND stale AND pk > %s ORDER BY pk LIMIT %s;

-- lock_stale: One of them.
SELECT shard, pk, base, history_revision, indexed, indexed_messages, indexed_words
  FROM holdfast.sessions WHERE shard = %s AND tenant = %s AND pk = %s AND stale
   FOR UPDATE SKIP LOCKED;

-- loose_commit: What is derived need not be on the disk before it is answered.
SELECT set_config('synchronous_commit', 'off', true);

-- only_indexes: What is small is to be found through indexes, whatever the statistics say.
SELECT set_config('enable_seqscan', 'off', true);

-- no_sorts: A long list is to be read in the order of its index, whatever the statistics say.
SELECT set_config('enable_sort', 'off', true);

-- unindexed_entries: Message entries of a session between two revisions.
SELECT revision, at, convert_to(payload, 'UTF8'), crc
  FROM holdfast.messages
 WHERE shard = %s AND revision > %s AND revision <= %s AND kind = 'message'
 ORDER BY revision LIMIT %s;

-- put_searched: Messages and their words, which come as one text each.
INSERT INTO holdfast.searched (shard, tenant, revision, place, at, words, terms)
SELECT %s, %s, revision, place, at, words, array_to_tsvector(string_to_array(terms, ' '))
  FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[])
       AS new (revision, place, at, words, terms)
    ON CONFLICT DO NOTHING;

-- set_indexed: Up to where the search index has a session.
UPDATE holdfast.sessions
   SET indexed = %s, indexed_messages = %s, indexed_words = %s, stale = history_revision > %s
 WHERE shard = %s AND tenant = %s AND pk = %s;

-- stale_sessions: Sessions of which the search index lacks something, and from where on.
SELECT shard, id, greatest(indexed, base), history_revision
  FROM holdfast.sessions
 WHERE tenant = %s AND stale AND (%s::text IS NULL OR user_id = %s);

-- search: The messages that the index finds, and those it has no words of: they may be meant too.
SELECT s.shard, s.id, p.revision, p.place, p.at
  FROM (SELECT m.shard, m.tenant, m.revision, m.place, m.at
          FROM holdfast.matching_v1(%s::tsquery) m
         UNION ALL
        SELECT t.shard, t.tenant, t.revision, t.place, t.at
          FROM holdfast.searched t WHERE t.tenant = %s AND t.terms IS NULL) p
  JOIN holdfast.sessions s ON s.shard = p.shard AND s.tenant = p.tenant
                          AND s.pk = p.revision >> 32 AND p.revision > s.base
 WHERE s.tenant = %s AND (%s::text IS NULL OR s.user_id = %s);

-- found_entries: The entries that they stand in.
SELECT m.revision, convert_to(m.payload, 'UTF8'), m.crc
  FROM unnest(%s::bigint[], %s::bigint[]) AS w (shard, revision)
  JOIN holdfast.messages m ON m.shard = w.shard AND m.revision = w.revision;

-- count_indexed: How many messages the index has, their words, and of how many sessions they are.
SELECT coalesce(sum(indexed_messages), 0)::bigint, coalesce(sum(indexed_words), 0)::bigint, count(*)
  FROM holdfast.sessions WHERE tenant = %s AND indexed_messages > 0;

-- count_holding: How many messages in the index have all words of a phrase.
SELECT count(*) FROM holdfast.matching_v1(%s::tsquery);
