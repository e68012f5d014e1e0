-- Messages of batches with many sessions, in the order in which they came; the columns are those of
-- `messages`. They wait here until they are put there, several of a session at once. What stands
-- here of a session is newer than all its messages there.

CREATE TABLE arrivals (
    revision INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    ordinal  INTEGER NOT NULL,
    turn     TEXT,
    attempt  INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    payload  TEXT    NOT NULL,
    crc      INTEGER NOT NULL,
    session  INTEGER AS (revision >> 32) VIRTUAL
);
CREATE UNIQUE INDEX arrivals_by_revision ON arrivals (revision);

-- For people who look into the file; Holdfast itself reads the one and then the other.
CREATE VIEW all_messages AS
SELECT revision, kind, ordinal, turn, attempt, at, payload, crc, session FROM messages
UNION ALL
SELECT revision, kind, ordinal, turn, attempt, at, payload, crc, session FROM arrivals;
