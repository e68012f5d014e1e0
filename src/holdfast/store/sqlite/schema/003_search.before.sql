-- The search index, as far as it has got. It is filled by those who search; what appends knows
-- nothing of it. The index itself, the virtual table `search`, is made by whoever fills it first,
-- for not every SQLite has FTS5.

-- Of a tenant's sessions, those with a lower rank than this are in the index up to their end.
CREATE TABLE searched_tenants (
    tenant TEXT PRIMARY KEY,
    rank   INTEGER NOT NULL
) WITHOUT ROWID;

-- Up to which revision a session's current history is in the index.
CREATE TABLE searched_sessions (
    session  INTEGER PRIMARY KEY,
    revision INTEGER NOT NULL
);

-- The messages in the index: one generation of a session at a time. `id` is also the row of the
-- index: the session's key times 2^32, plus the number of messages before it in its generation.
CREATE TABLE searched_messages (
    id       INTEGER PRIMARY KEY,
    revision INTEGER NOT NULL,  -- of its entry
    at       INTEGER NOT NULL,  -- the entry's time
    words    INTEGER NOT NULL   -- how many it has
);

-- A session that goes may have had its tenant's highest rank, and then lower ones are given again.
-- Whoever deletes one without knowing of the index leaves its words there: the index starts anew.
CREATE TRIGGER session_goes AFTER DELETE ON sessions BEGIN
    UPDATE searched_tenants
       SET rank = min(rank, (SELECT coalesce(max(rank), 0) FROM sessions WHERE tenant = OLD.tenant))
     WHERE tenant = OLD.tenant;
    DELETE FROM searched_messages
     WHERE EXISTS (SELECT 1 FROM searched_sessions WHERE session = OLD.pk);
    DELETE FROM searched_tenants
     WHERE EXISTS (SELECT 1 FROM searched_sessions WHERE session = OLD.pk);
    DELETE FROM searched_sessions
     WHERE EXISTS (SELECT 1 FROM searched_sessions WHERE session = OLD.pk);
END;
