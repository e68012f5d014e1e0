-- The order of change gets a number of its own. A session that is its tenant's newest already keeps
-- its rank, so that talking in one session does not rewrite an index with every message.

ALTER TABLE sessions ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;     -- the highest changed last
ALTER TABLE sessions ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';  -- names of revisions, JSON
UPDATE sessions
   SET rank = ranked.rank
  FROM (SELECT pk, row_number() OVER (ORDER BY updated, pk) AS rank FROM sessions) AS ranked
 WHERE ranked.pk = sessions.pk;
CREATE INDEX sessions_by_rank ON sessions (tenant, rank);
CREATE INDEX sessions_by_user_and_rank ON sessions (tenant, user_id, rank)
    WHERE user_id IS NOT NULL;
