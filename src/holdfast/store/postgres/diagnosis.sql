-- set_tenant: Whose rows this transaction is about, for row-level security. All calls are PostgreSQL's.
SELECT set_config('holdfast.tenant', %s, true),
       set_config('search_path', 'pg_catalog, pg_temp', true);

-- role: Who this is, and whether row-level security lets this role see every tenant.
SELECT current_user, NOT row_security_active('holdfast.sessions');

-- missing_rights: What this role may not do that a program does.
SELECT needed.right_to, needed.name
  FROM (SELECT r AS right_to, t AS name, has_table_privilege(format('holdfast.%%s', t), r) AS had
          FROM unnest(%s::text[]) AS t, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS r
         UNION ALL
        SELECT 'USAGE', s, has_sequence_privilege(format('holdfast.%%s', s), 'USAGE')
          FROM unnest(%s::text[]) AS s
         UNION ALL
        SELECT 'EXECUTE', p.proname, has_function_privilege(p.oid, 'EXECUTE')
          FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE n.nspname = %s) AS needed
 WHERE NOT needed.had ORDER BY 2, 1;

-- two_tenants: The first and the last of the tenants that this role sees, by name.
SELECT min(tenant), max(tenant) FROM holdfast.sessions;

-- replicas: Who copies this server's log, and how far a commit waits for it; null if not told.
SELECT coalesce(nullif(application_name, ''), host(client_addr), 'a local one'), state, sync_state
  FROM pg_stat_replication ORDER BY 1;

-- connections: How many other clients there are, how many of them are ours, and how many there may be.
SELECT count(*) FILTER (WHERE coalesce(backend_type, 'client backend') = 'client backend'
                          AND usename IS NOT NULL),
       count(*) FILTER (WHERE application_name = 'holdfast'),
       current_setting('max_connections')::integer
           - current_setting('superuser_reserved_connections')::integer
  FROM pg_stat_activity WHERE pid <> pg_backend_pid();

-- timeouts: What ends our statements, locks and transactions sooner than some milliseconds.
SELECT name, current_setting(name) FROM pg_settings
 WHERE name IN ('lock_timeout', 'statement_timeout', 'transaction_timeout')
   AND setting::bigint > 0 AND setting::bigint < %s::bigint ORDER BY 1;

-- blockers: Who, waiting for nobody, keeps others waiting in this database with a transaction that has
-- been open for some seconds. Who waits may have begun to only just now: our writes try again and again.
SELECT b.pid, a.usename, a.application_name, a.state,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8, count(DISTINCT w.pid)
  FROM pg_locks w
  JOIN pg_stat_activity waiting ON waiting.pid = w.pid AND waiting.datname = current_database()
  CROSS JOIN LATERAL unnest(pg_blocking_pids(w.pid)) AS b (pid)
  LEFT JOIN pg_stat_activity a ON a.pid = b.pid
 WHERE NOT w.granted
   AND (a.xact_start IS NULL OR clock_timestamp() - a.xact_start >= make_interval(secs => %s))
   AND cardinality(pg_blocking_pids(b.pid)) = 0
 GROUP BY 1, 2, 3, 4, 5 ORDER BY 6 DESC;

-- idlers: Whose transaction is open in this database and has done nothing for some seconds.
SELECT pid, usename, application_name, state,
       extract(epoch FROM clock_timestamp() - xact_start)::float8
  FROM pg_stat_activity
 WHERE datname = current_database() AND state LIKE 'idle in transaction%%'
   AND clock_timestamp() - state_change >= make_interval(secs => %s)
 ORDER BY 5 DESC;

-- vacuum: Rows of our tables that are gone and still in the files, and when they were vacuumed.
SELECT s.relname, s.n_live_tup, s.n_dead_tup,
       extract(epoch FROM clock_timestamp() - greatest(s.last_vacuum, s.last_autovacuum))::float8,
       coalesce('autovacuum_enabled=off' = ANY (c.reloptions)
                OR 'autovacuum_enabled=false' = ANY (c.reloptions), false)
  FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
 WHERE s.schemaname = %s ORDER BY 1;

-- autovacuum: Whether it runs, with what it needs.
SELECT current_setting('autovacuum')::boolean AND current_setting('track_counts')::boolean;

-- open_turns: A tenant's turns: those that wait, and those whose lease ran out.
SELECT count(*) FILTER (WHERE turn_status = 'waiting'),
       count(*) FILTER (WHERE turn_status = 'running'),
       count(*) FILTER (WHERE turn_status = 'running'
                          AND NOT (now.ms < lease_until AND lease_until <= now.ms + lease_ttl))
  FROM holdfast.sessions,
       (SELECT extract(epoch FROM clock_timestamp()) * 1000 AS ms) AS now
 WHERE tenant = %s AND open_turn IS NOT NULL;

-- search: About how many entries of a tenant the search index lacks.
SELECT coalesce(sum(greatest(1, history_revision - greatest(indexed, base))), 0)::bigint
  FROM holdfast.sessions WHERE tenant = %s AND stale;
