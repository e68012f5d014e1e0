-- The log: one row a session, one clustered range for its messages and one for its activity.

CREATE TABLE store (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- A session's key is never used again, and its revisions start at key * 2^32.
CREATE TABLE sessions (
    pk               INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant           TEXT    NOT NULL,
    id               TEXT    NOT NULL,
    revision         INTEGER NOT NULL,  -- of the last entry
    history_revision INTEGER NOT NULL,  -- of the last message or reset
    base             INTEGER NOT NULL,  -- the last reset: the current history lies above it
    floor            INTEGER NOT NULL,  -- what lies below was purged
    message_count    INTEGER NOT NULL,  -- in the current generation
    created          INTEGER NOT NULL,  -- milliseconds since 1970, UTC, as every time here
    updated          INTEGER NOT NULL,
    title            TEXT,
    user_id          TEXT,
    agent_name       TEXT,
    meta             TEXT    NOT NULL,  -- a JSON object
    UNIQUE (tenant, id)
);
CREATE INDEX sessions_by_time ON sessions (tenant, updated);
CREATE INDEX sessions_by_user ON sessions (tenant, user_id, updated) WHERE user_id IS NOT NULL;

-- Messages and resets. A revision is unique in the whole store and holds its session's key, so it
-- is the one clustered key: a session's history is one range. `payload` is JSON, one message a line;
-- `crc` its CRC-32.
CREATE TABLE messages (
    revision INTEGER PRIMARY KEY,
    kind     TEXT    NOT NULL,
    ordinal  INTEGER NOT NULL,  -- messages before it in its generation; a reset's last revision
    turn     TEXT,
    attempt  INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    payload  TEXT    NOT NULL,
    crc      INTEGER NOT NULL,
    session  INTEGER AS (revision >> 32) VIRTUAL
);
CREATE INDEX resets ON messages (revision) WHERE kind = 'reset';

-- Everything else that a session's log records.
CREATE TABLE activity (
    revision INTEGER PRIMARY KEY,
    kind     TEXT    NOT NULL,
    turn     TEXT,
    attempt  INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    payload  TEXT    NOT NULL,
    crc      INTEGER NOT NULL,
    session  INTEGER AS (revision >> 32) VIRTUAL
);

-- Callers' idempotency keys and what their writes came to.
CREATE TABLE keys (
    session  INTEGER NOT NULL,
    key      TEXT    NOT NULL,
    kind     TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    kept     INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (session, key)
) WITHOUT ROWID;
