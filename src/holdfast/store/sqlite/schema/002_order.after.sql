-- Sessions that the code of version 1 made meanwhile get their rank; and what only it read, goes.

UPDATE sessions
   SET rank = ranked.rank
  FROM (SELECT pk, row_number() OVER (ORDER BY rank > 0, rank, updated, pk) AS rank
          FROM sessions) AS ranked
 WHERE ranked.pk = sessions.pk AND EXISTS (SELECT 1 FROM sessions WHERE rank = 0);
DROP INDEX sessions_by_time;
DROP INDEX sessions_by_user;
