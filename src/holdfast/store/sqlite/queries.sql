-- session: One session by its tenant and id.
SELECT pk, tenant, id, revision, history_revision, base, floor, message_count,
       created, updated, rank, title, user_id, agent_name, meta, labels,
       fence, lease_until, lease_ttl, lease_owner, open_turn,
       open_attempt, turn_status, interrupt_fence
  FROM sessions WHERE tenant = ? AND id = ?;

-- sessions: Several of them.
WITH wanted (tenant, id) AS (VALUES (?, ?))
SELECT s.pk, s.tenant, s.id, s.revision, s.history_revision, s.base, s.floor, s.message_count,
       s.created, s.updated, s.rank, s.title, s.user_id, s.agent_name, s.meta, s.labels,
       s.fence, s.lease_until, s.lease_ttl, s.lease_owner, s.open_turn,
       s.open_attempt, s.turn_status, s.interrupt_fence
  FROM wanted w CROSS JOIN sessions s ON s.tenant = w.tenant AND s.id = w.id;

-- last_key: The highest key that a session ever had, deleted ones included.
SELECT seq FROM sqlite_sequence WHERE name = 'sessions';

-- last_rank: The rank of the session that a tenant changed last.
SELECT coalesce(max(rank), 0) FROM sessions WHERE tenant = ?;

-- put_sessions: The rows of a batch's sessions, new or changed.
INSERT INTO sessions (pk, tenant, id, revision, history_revision, base, floor, message_count,
                      created, updated, rank, title, user_id, agent_name, meta, labels,
                      fence, lease_until, lease_ttl, lease_owner, open_turn, open_attempt,
                      turn_status, interrupt_fence)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (pk) DO UPDATE
   SET revision = excluded.revision, history_revision = excluded.history_revision,
       base = excluded.base, floor = excluded.floor, message_count = excluded.message_count,
       updated = excluded.updated, rank = excluded.rank, title = excluded.title,
       user_id = excluded.user_id, agent_name = excluded.agent_name, meta = excluded.meta,
       labels = excluded.labels, fence = excluded.fence, lease_until = excluded.lease_until,
       lease_ttl = excluded.lease_ttl, lease_owner = excluded.lease_owner,
       open_turn = excluded.open_turn, open_attempt = excluded.open_attempt,
       turn_status = excluded.turn_status, interrupt_fence = excluded.interrupt_fence;

-- move_sessions: Rows whose log grew and nothing else.
UPDATE sessions
   SET revision = column2, history_revision = column3, base = column4, message_count = column5,
       updated = column6, lease_until = column7, interrupt_fence = column8, rank = column9
  FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)) WHERE pk = column1;

-- move_session: The same for the one that changed last already, which keeps its rank and so its
-- place in every index.
UPDATE sessions
   SET revision = ?2, history_revision = ?3, base = ?4, message_count = ?5, updated = ?6,
       lease_until = ?7, interrupt_fence = ?8
 WHERE pk = ?1;

-- insert_messages: Message and reset entries.
INSERT INTO messages (revision, kind, ordinal, turn, attempt, at, payload, crc)
VALUES (?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?);

-- insert_arrivals: Message entries of many sessions, in the order in which they came.
INSERT INTO arrivals (revision, kind, ordinal, turn, attempt, at, payload, crc)
VALUES (?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?);

-- unsettled: The arrivals that do not stand in their place yet. Where others name it, this is meant.
SELECT * FROM arrivals a WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.revision = a.revision);

-- count_arrivals: About how many there are, and none only if there are none.
SELECT coalesce((SELECT max(rowid) FROM arrivals) - (SELECT min(rowid) FROM arrivals) + 1, 0);

-- first_arrivals: The first of them, whose they are, and whether each is not in its place yet.
SELECT a.rowid, a.session, m.revision IS NULL
  FROM arrivals a LEFT JOIN messages m ON m.revision = a.revision ORDER BY a.rowid LIMIT ?;

-- settle: Those of some sessions that are not in their place yet.
INSERT INTO messages (revision, kind, ordinal, turn, attempt, at, payload, crc)
SELECT revision, kind, ordinal, turn, attempt, at, payload, crc
  FROM (VALUES (?)) AS wanted
 CROSS JOIN unsettled ON revision > column1 << 32 AND revision < column1 + 1 << 32;

-- settle_all: Those of all sessions.
INSERT INTO messages (revision, kind, ordinal, turn, attempt, at, payload, crc)
SELECT revision, kind, ordinal, turn, attempt, at, payload, crc FROM unsettled ORDER BY revision;

-- drop_arrivals: The first of them, which stand in their place.
DELETE FROM arrivals WHERE rowid <= ?;

-- empty_arrivals: All of them, which stand in their place.
DELETE FROM arrivals;

-- delete_arrivals: A session that goes takes its copies; a purge takes those below a floor.
DELETE FROM arrivals WHERE revision > ? AND revision <= ?;

-- insert_activity: All other entries; they take the same values as a message entry.
INSERT INTO activity (revision, kind, turn, attempt, at, payload, crc)
SELECT column1, column2, column4, column5, column6, CAST(column7 AS TEXT), column8
  FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?));

-- key: What a key recorded.
SELECT kind, revision, kept, turn FROM keys WHERE session = ? AND key = ?;

-- session_keys: What the keys of a session recorded.
SELECT k.key, k.kind, k.revision, k.kept, k.turn
  FROM sessions s JOIN keys k ON k.session = s.pk
 WHERE s.tenant = ? AND s.id = ? ORDER BY k.key;

-- session_key: What one of them recorded.
SELECT k.key, k.kind, k.revision, k.kept, k.turn
  FROM sessions s JOIN keys k ON k.session = s.pk
 WHERE s.tenant = ? AND s.id = ? AND k.key = ?;

-- insert_keys: Keys and what their writes came to.
INSERT INTO keys (session, key, kind, revision, kept, turn, at) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (session, key) DO UPDATE
   SET kind = excluded.kind, revision = excluded.revision, kept = excluded.kept,
       turn = excluded.turn, at = excluded.at;

-- messages_after: The message entries above a revision, to be carried over by a rewrite.
SELECT revision, kind, ordinal, turn, attempt, at, CAST(payload AS BLOB), crc
  FROM messages
 WHERE revision > ? AND revision <= ? AND kind = 'message' ORDER BY revision;

-- resets_after: The resets above a revision: each ended a generation, which may be purged.
SELECT revision, kind, ordinal, turn, attempt, at, CAST(payload AS BLOB), crc
  FROM messages
 WHERE revision > ? AND revision <= ? AND kind = 'reset' ORDER BY revision;

-- history: The message entries of a generation up to a revision, oldest first.
SELECT CAST(payload AS BLOB), crc
  FROM messages WHERE revision > ? AND revision <= ? ORDER BY revision;

-- arrived: Those of them that are not in their place yet; all others are older.
SELECT CAST(payload AS BLOB), crc
  FROM unsettled WHERE revision > ? AND revision <= ? ORDER BY revision;

-- history_backwards: The message entries of a generation, newest first, until there are enough.
SELECT CAST(payload AS BLOB), crc
  FROM messages WHERE revision > ? AND revision <= ? ORDER BY revision DESC;

-- arrived_backwards: Those of them that are not in their place yet; all others are older.
SELECT CAST(payload AS BLOB), crc
  FROM unsettled WHERE revision > ? AND revision <= ? ORDER BY revision DESC;

-- last_message: The last revision of a generation's message entries, if it has any.
SELECT max(revision)
  FROM (SELECT max(revision) AS revision FROM messages WHERE revision > ? AND revision <= ?
        UNION ALL
        SELECT max(revision) FROM arrivals WHERE revision > ? AND revision <= ?);

-- revisions: Those of a generation's entries, to name one that is damaged.
SELECT revision FROM messages WHERE revision > ? AND revision <= ?
UNION ALL
SELECT revision FROM unsettled WHERE revision > ? AND revision <= ?
 ORDER BY 1;

-- resets_until: The last two resets at or before a revision; one may be the commit it lies in.
SELECT revision, ordinal FROM messages
 WHERE revision > ? AND revision <= ? AND kind = 'reset' ORDER BY revision DESC LIMIT 2;

-- log: The entries above a revision of both ranges and of the arrivals, in order.
SELECT revision, kind, ordinal, turn, attempt, at, CAST(payload AS BLOB), crc
  FROM messages WHERE revision > ? AND revision <= ?
UNION ALL
SELECT revision, kind, ordinal, turn, attempt, at, CAST(payload AS BLOB), crc
  FROM unsettled WHERE revision > ? AND revision <= ?
UNION ALL
SELECT revision, kind, 0, turn, attempt, at, CAST(payload AS BLOB), crc
  FROM activity WHERE revision > ? AND revision <= ?
 ORDER BY 1 LIMIT ?;

-- delete_messages: A session that goes takes its messages; a purge takes those below a floor.
DELETE FROM messages WHERE revision > ? AND revision <= ?;

-- delete_activity: A session that goes takes its activity.
DELETE FROM activity WHERE revision > ? AND revision <= ?;

-- delete_keys: A session that goes takes its keys.
DELETE FROM keys WHERE session = ?;

-- delete_session: A session that goes.
DELETE FROM sessions WHERE pk = ?;

-- list_sessions: A tenant's sessions, newest first, below a place.
SELECT rank, id, title, user_id, agent_name, created, updated,
       message_count, revision, turn_status, meta, labels
  FROM sessions
 WHERE tenant = ? AND (rank, pk) < (?, ?) AND (? IS NULL OR agent_name = ?)
 ORDER BY rank DESC, pk DESC LIMIT ?;

-- list_user_sessions: The same for one user.
SELECT rank, id, title, user_id, agent_name, created, updated,
       message_count, revision, turn_status, meta, labels
  FROM sessions
 WHERE tenant = ? AND (rank, pk) < (?, ?) AND (? IS NULL OR agent_name = ?)
   AND user_id = ?
 ORDER BY rank DESC, pk DESC LIMIT ?;

-- tenants: Whose sessions there are.
SELECT DISTINCT tenant FROM sessions ORDER BY tenant;

-- sessions_after: A tenant's sessions by key, to walk over all of them.
SELECT pk, tenant, id, revision, history_revision, base, floor, message_count,
       created, updated, rank, title, user_id, agent_name, meta, labels,
       fence, lease_until, lease_ttl, lease_owner, open_turn,
       open_attempt, turn_status, interrupt_fence
  FROM sessions WHERE tenant = ? AND pk > ? ORDER BY pk LIMIT ?;

-- count_sessions: How many sessions a tenant has, current messages, and first generations.
SELECT count(*), coalesce(sum(message_count), 0), coalesce(sum(floor = pk << 32), 0)
  FROM sessions WHERE tenant = ? AND (? IS NULL OR id = ?);

-- count_messages: How many message entries and resets a tenant has.
SELECT count(*), coalesce(sum(m.kind = 'reset'), 0)
  FROM sessions s JOIN messages m ON m.revision BETWEEN s.pk << 32 AND s.revision
 WHERE s.tenant = ? AND (? IS NULL OR s.id = ?);

-- count_arrived: How many message entries of a tenant are not in their place yet.
SELECT count(*)
  FROM unsettled JOIN sessions s ON s.pk = session
 WHERE s.tenant = ? AND (? IS NULL OR s.id = ?);

-- count_activity: How many other entries a tenant has.
SELECT count(*)
  FROM sessions s JOIN activity a ON a.revision BETWEEN s.pk << 32 AND s.revision
 WHERE s.tenant = ? AND (? IS NULL OR s.id = ?);

-- usages: What a tenant's model calls used, session by session.
SELECT a.revision, a.kind, 0, a.turn, a.attempt, a.at, CAST(a.payload AS BLOB), a.crc
  FROM sessions s CROSS JOIN activity a INDEXED BY usages
    ON a.kind = 'usage' AND a.revision BETWEEN s.pk << 32 AND s.revision
 WHERE s.tenant = ? AND (? IS NULL OR s.id = ?)
 ORDER BY s.id, a.revision;

-- store_value: Something that the store knows about itself.
SELECT value FROM store WHERE name = ?;

-- put_store_value: Something that the store is to know about itself.
INSERT INTO store (name, value) VALUES (?, ?)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- drop_store_value: Something that is not true any more.
DELETE FROM store WHERE name = ?;

-- has_fts5: Whether this SQLite has the full-text index.
SELECT count(*) FROM pragma_module_list WHERE name = 'fts5';

-- has_index: Whether somebody has made the search index.
SELECT count(*) FROM sqlite_master WHERE name = 'search';

-- make_index: The search index. Words come to it ready-made, with spaces between them.
CREATE VIRTUAL TABLE search USING fts5(tenant, text, content = '', tokenize = 'ascii');

-- drop_index: An index that nothing is in, or nothing that could still be taken out.
DROP TABLE IF EXISTS search;

-- empty_index_words: Of FTS5's own tables, the words.
DELETE FROM search_data;

-- empty_index_terms: And where they begin.
DELETE FROM search_idx;

-- empty_index_sizes: And how many there are.
DELETE FROM search_docsize;

-- put_empty_index: What FTS5 puts into a new index.
INSERT INTO search_data (id, block) VALUES (1, x''), (10, x'00000000000000');

-- optimise_index: Merge the index into one piece, which has nothing of what was taken out.
INSERT INTO search (search) VALUES ('optimize');

-- index_words: The words of messages, and whose they are.
INSERT INTO search (rowid, tenant, text) VALUES (?, ?, ?);

-- index_messages: Where these messages stand in the log.
INSERT INTO searched_messages (id, revision, at, words) VALUES (?, ?, ?, ?);

-- unindex_words: Take words out, which have to be the same.
INSERT INTO search (search, rowid, tenant, text) VALUES ('delete', ?, ?, ?);

-- unindex_messages: Of messages that were taken out.
DELETE FROM searched_messages WHERE id BETWEEN ? AND ?;

-- indexed_entries: Entries of a session up to a revision that the index has.
SELECT m.revision, m.ordinal, m.at, CAST(m.payload AS BLOB), m.crc
  FROM (SELECT DISTINCT revision FROM searched_messages
         WHERE id BETWEEN ? AND ? AND revision <= ? LIMIT ?)
  LEFT JOIN messages m USING (revision);

-- unindexed_entries: Message entries of a session between two revisions.
SELECT revision, ordinal, at, CAST(payload AS BLOB), crc
  FROM messages
 WHERE revision > ? AND revision <= ? AND kind = 'message' ORDER BY revision LIMIT ?;

-- arrived_entries: The same of those that are not in their place yet; all others are older.
SELECT revision, ordinal, at, CAST(payload AS BLOB), crc
  FROM unsettled
 WHERE revision > ? AND revision <= ? ORDER BY revision LIMIT ?;

-- indexed_until: Up to which revision a session is in the index.
SELECT revision FROM searched_sessions WHERE session = ?;

-- put_indexed_until: The same, set.
INSERT INTO searched_sessions (session, revision) VALUES (?, ?)
    ON CONFLICT (session) DO UPDATE SET revision = excluded.revision;

-- drop_indexed_until: A session that is not in the index any more.
DELETE FROM searched_sessions WHERE session = ?;

-- is_indexed: Whether anything is in the index.
SELECT count(*) FROM (SELECT 1 FROM searched_sessions LIMIT 1);

-- forget_messages: With the next two: what is in the index is not known any more.
DELETE FROM searched_messages;

-- forget_sessions: See above.
DELETE FROM searched_sessions;

-- forget_tenants: See above.
DELETE FROM searched_tenants;

-- put_search_mark: Below which rank all is indexed; none beside version 1's code, which ranks nothing.
INSERT INTO searched_tenants (tenant, rank)
SELECT ?, ? FROM pragma_user_version WHERE user_version >= 2
    ON CONFLICT (tenant) DO UPDATE SET rank = excluded.rank;

-- lower_search_mark: A session is to be looked at again.
UPDATE searched_tenants SET rank = min(rank, (SELECT rank FROM sessions WHERE pk = ?))
 WHERE tenant = ?;

-- stale_sessions: Sessions that changed since they were indexed, and up to where the index has them.
SELECT s.pk, s.id, s.base, s.history_revision, s.rank, coalesce(i.revision, 0)
  FROM sessions s LEFT JOIN searched_sessions i ON i.session = s.pk
 WHERE s.tenant = ?
   AND s.rank >= coalesce((SELECT rank FROM searched_tenants WHERE tenant = s.tenant), 0)
   AND s.history_revision > max(coalesce(i.revision, 0), s.pk << 32)
   AND (? IS NULL OR s.user_id = ?)
 ORDER BY s.rank LIMIT ?;

-- all_sessions: Every session of a tenant, or a user's, as if nothing were indexed.
SELECT s.pk, s.id, s.base, s.history_revision, s.rank, 0
  FROM sessions s
 WHERE s.tenant = ? AND (? IS NULL OR s.user_id = ?)
 ORDER BY s.rank LIMIT ?;

-- search: The messages that the index finds, the best first.
SELECT s.id, s.pk, p.id, p.revision, p.at
  FROM search f
  JOIN searched_messages p ON p.id = f.rowid
  JOIN sessions s ON s.pk = p.id >> 32
 WHERE search MATCH ? AND s.tenant = ? AND p.revision > s.base AND (? IS NULL OR s.user_id = ?)
 ORDER BY bm25(search, 0.0, 1.0), p.at DESC, p.revision DESC, p.id DESC LIMIT ?;

-- found_entry: An entry that the index knows.
SELECT ordinal, CAST(payload AS BLOB), crc FROM messages WHERE revision = ?;

-- count_indexed: How many messages the index has, and how many words they have.
SELECT count(*), coalesce(sum(words), 0) FROM searched_messages;

-- count_holding: How many messages in the index have a phrase.
SELECT count(*) FROM search WHERE search MATCH ?;

-- turn_rows: The turn entries of one turn, in order.
SELECT revision, kind, 0, turn, attempt, at, CAST(payload AS BLOB), crc
  FROM activity
 WHERE turn = ? AND kind = 'turn' AND revision > ? AND revision <= ? ORDER BY revision;

-- all_turn_rows: The turn entries of a session, in order.
SELECT revision, kind, 0, turn, attempt, at, CAST(payload AS BLOB), crc
  FROM activity NOT INDEXED
 WHERE kind = 'turn' AND revision > ? AND revision <= ? ORDER BY revision;

-- tickets: Who waits for a session's turn.
SELECT id, number, expires FROM waiters WHERE session = ?;

-- count_waiters: How many wait for a session's turn.
SELECT count(*) FROM waiters WHERE session = (
    SELECT pk FROM sessions WHERE tenant = ? AND id = ?);

-- put_ticket: A place in the line, taken or renewed.
INSERT INTO waiters (session, id, number, expires) VALUES (?, ?, ?, ?)
    ON CONFLICT (session, id) DO UPDATE SET expires = excluded.expires;

-- drop_tickets: A place that is not needed any more, and those that lapsed.
DELETE FROM waiters WHERE session = ? AND (id = ? OR expires <= ?);

-- delete_deltas: Streamed text of turns that were closed long ago.
DELETE FROM activity WHERE kind = 'delta' AND revision > ? AND revision <= ?;

-- delete_waiters: A session that goes takes its line.
DELETE FROM waiters WHERE session = ?;

-- open_turns: A tenant's sessions with a turn that is running or waiting.
SELECT pk, tenant, id, revision, history_revision, base, floor, message_count,
       created, updated, rank, title, user_id, agent_name, meta, labels,
       fence, lease_until, lease_ttl, lease_owner, open_turn,
       open_attempt, turn_status, interrupt_fence
  FROM sessions WHERE tenant = ? AND open_turn IS NOT NULL;
