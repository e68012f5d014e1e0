-- session: One session by its tenant and id.
SELECT pk, tenant, id, revision, history_revision, base, floor, message_count,
       created, updated, rank, title, user_id, agent_name, meta, labels
  FROM sessions WHERE tenant = ? AND id = ?;

-- last_key: The highest key that a session ever had, deleted ones included.
SELECT seq FROM sqlite_sequence WHERE name = 'sessions';

-- last_rank: The rank of the session that a tenant changed last.
SELECT coalesce(max(rank), 0) FROM sessions WHERE tenant = ?;

-- put_sessions: The rows of a batch's sessions, new or changed.
INSERT INTO sessions (pk, tenant, id, revision, history_revision, base, floor, message_count,
                      created, updated, rank, title, user_id, agent_name, meta, labels)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (pk) DO UPDATE
   SET revision = excluded.revision, history_revision = excluded.history_revision,
       base = excluded.base, floor = excluded.floor, message_count = excluded.message_count,
       updated = excluded.updated, rank = excluded.rank, title = excluded.title,
       user_id = excluded.user_id, agent_name = excluded.agent_name, meta = excluded.meta,
       labels = excluded.labels;

-- move_sessions: The same for rows whose log grew and nothing else: what no index holds is set alone.
INSERT INTO sessions (pk, tenant, id, revision, history_revision, base, floor, message_count,
                      created, updated, rank, title, user_id, agent_name, meta, labels)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (pk) DO UPDATE
   SET revision = excluded.revision, history_revision = excluded.history_revision,
       base = excluded.base, message_count = excluded.message_count, updated = excluded.updated;

-- insert_messages: Message and reset entries.
INSERT INTO messages (revision, kind, ordinal, turn, attempt, at, payload, crc)
VALUES (?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?);

-- insert_activity: All other entries; they take the same values as a message entry.
INSERT INTO activity (revision, kind, turn, attempt, at, payload, crc)
SELECT column1, column2, column4, column5, column6, CAST(column7 AS TEXT), column8
  FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?));

-- key: What a key recorded.
SELECT kind, revision, kept FROM keys WHERE session = ? AND key = ?;

-- insert_keys: Keys and what their writes came to.
INSERT INTO keys (session, key, kind, revision, kept, at) VALUES (?, ?, ?, ?, ?, ?);

-- messages_after: The message entries above a revision, to be carried over by a rewrite.
SELECT revision, kind, ordinal, turn, attempt, at, CAST(payload AS BLOB), crc
  FROM messages
 WHERE revision > ? AND revision <= ? AND kind = 'message' ORDER BY revision;

-- resets_after: The resets above a revision: each ended a generation, which may be purged.
SELECT revision, kind, ordinal, turn, attempt, at, CAST(payload AS BLOB), crc
  FROM messages
 WHERE revision > ? AND revision <= ? AND kind = 'reset' ORDER BY revision;

-- history: The message entries of a generation up to a revision, oldest first.
SELECT revision, CAST(payload AS BLOB), crc
  FROM messages WHERE revision > ? AND revision <= ? ORDER BY revision;

-- history_backwards: The same, newest first; the reader stops when it has enough.
SELECT revision, ordinal, CAST(payload AS BLOB), crc
  FROM messages WHERE revision > ? AND revision <= ? ORDER BY revision DESC;

-- resets_until: The last two resets at or before a revision; one may be the commit it lies in.
SELECT revision, ordinal FROM messages
 WHERE revision > ? AND revision <= ? AND kind = 'reset' ORDER BY revision DESC LIMIT 2;

-- log: The entries above a revision of both ranges, in order.
SELECT revision, kind, ordinal, turn, attempt, at, CAST(payload AS BLOB), crc
  FROM messages WHERE revision > ? AND revision <= ?
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
SELECT pk, tenant, id, revision, history_revision, base, floor, message_count,
       created, updated, rank, title, user_id, agent_name, meta, labels
  FROM sessions
 WHERE tenant = ? AND (rank, pk) < (?, ?) AND (? IS NULL OR agent_name = ?)
 ORDER BY rank DESC, pk DESC LIMIT ?;

-- list_user_sessions: The same for one user.
SELECT pk, tenant, id, revision, history_revision, base, floor, message_count,
       created, updated, rank, title, user_id, agent_name, meta, labels
  FROM sessions
 WHERE tenant = ? AND (rank, pk) < (?, ?) AND (? IS NULL OR agent_name = ?)
   AND user_id = ?
 ORDER BY rank DESC, pk DESC LIMIT ?;

-- sessions_after: A tenant's sessions by key, to walk over all of them.
SELECT pk, tenant, id, revision, history_revision, base, floor, message_count,
       created, updated, rank, title, user_id, agent_name, meta, labels
  FROM sessions WHERE tenant = ? AND pk > ? ORDER BY pk LIMIT ?;

-- count_sessions: How many sessions a tenant has, current messages, and first generations.
SELECT count(*), coalesce(sum(message_count), 0), coalesce(sum(floor = pk << 32), 0)
  FROM sessions WHERE tenant = ? AND (? IS NULL OR id = ?);

-- count_messages: How many message entries and resets a tenant has.
SELECT count(*), coalesce(sum(m.kind = 'reset'), 0)
  FROM sessions s JOIN messages m ON m.revision BETWEEN s.pk << 32 AND s.revision
 WHERE s.tenant = ? AND (? IS NULL OR s.id = ?);

-- count_activity: How many other entries a tenant has.
SELECT count(*)
  FROM sessions s JOIN activity a ON a.revision BETWEEN s.pk << 32 AND s.revision
 WHERE s.tenant = ? AND (? IS NULL OR s.id = ?);

-- store_value: Something that the store knows about itself.
SELECT value FROM store WHERE name = ?;

-- put_store_value: Something that the store is to know about itself.
INSERT INTO store (name, value) VALUES (?, ?)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- drop_store_value: Something that is not true any more.
DELETE FROM store WHERE name = ?;
