-- Turns: which one a session has open and who holds it, whose turn it is next, and how to find them.

ALTER TABLE sessions ADD COLUMN fence INTEGER NOT NULL DEFAULT 0;         -- rises with every lease
ALTER TABLE sessions ADD COLUMN lease_until INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN lease_ttl INTEGER NOT NULL DEFAULT 0;     -- milliseconds
ALTER TABLE sessions ADD COLUMN lease_owner TEXT;
ALTER TABLE sessions ADD COLUMN open_turn TEXT;
ALTER TABLE sessions ADD COLUMN open_attempt INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN turn_status TEXT;                         -- running or waiting
ALTER TABLE sessions ADD COLUMN interrupt_fence INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keys ADD COLUMN turn TEXT;
CREATE INDEX open_turns ON sessions (tenant, open_turn) WHERE open_turn IS NOT NULL;
CREATE INDEX turns ON activity (turn, revision) WHERE kind = 'turn';
CREATE INDEX deltas ON activity (revision) WHERE kind = 'delta';
CREATE INDEX usages ON activity (revision) WHERE kind = 'usage';

-- Who waits for a session's turn, in the order of number; a row that is not renewed lapses.
CREATE TABLE waiters (
    session INTEGER NOT NULL,
    id      TEXT    NOT NULL,
    number  INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    PRIMARY KEY (session, id)
) WITHOUT ROWID;
