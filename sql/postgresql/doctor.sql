-- name: find_server
-- What the server is, and what this role and this session are to it.
SELECT CASE WHEN a.aurora THEN 'Aurora PostgreSQL' ELSE 'PostgreSQL' END AS product, a.aurora,
       current_setting('server_version_num')::int AS version_number, split_part(current_setting('server_version'), ' ', 1) AS version,
       current_setting('server_version_num')::int >= 150000 AS readers_rights,
       current_user::text AS role, quote_ident(current_user) AS quoted_role, current_database()::text AS database,
       pg_is_in_recovery() AS replica, current_setting('default_transaction_read_only') = 'on' AS read_only,
       current_setting('default_transaction_isolation') AS isolation, current_setting('port')::int AS port,
       inet_server_addr() IS NULL AS local, current_setting('autovacuum') = 'on' AS autovacuum
FROM (SELECT EXISTS (SELECT FROM pg_proc WHERE proname = 'aurora_version' AND pronamespace = 'pg_catalog'::regnamespace)) AS a(aurora)

-- name: locate_tables
-- Relations of that name in any schema, whether or not this role may look into it; those on the search path first.
SELECT c.oid::bigint AS oid, n.nspname AS schema, quote_ident(n.nspname) AS quoted_schema, c.relname AS name,
       format('%I.%I', n.nspname, c.relname) AS target, has_schema_privilege(n.oid, 'USAGE') AS usable,
       pg_table_is_visible(c.oid) AS visible, pg_get_userbyid(c.relowner)::text AS owner,
       pg_has_role(c.relowner, 'USAGE') AS owned, has_table_privilege(c.oid, 'SELECT') AS readable
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = :name AND (CAST(:schema AS text) IS NULL OR n.nspname = :schema)
  AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY pg_table_is_visible(c.oid) DESC, n.nspname

-- name: find_column_privileges
-- What this role may do with each column of the table.
SELECT a.attname AS name, quote_ident(a.attname) AS quoted, has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS readable,
       has_column_privilege(a.attrelid, a.attnum, 'UPDATE') AS writable
FROM pg_attribute a WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum

-- name: find_own_privileges
-- Whether rowscore's own schema is there, and which of its tables this role may not fully use.
SELECT n.oid IS NOT NULL AS there, coalesce(has_schema_privilege(n.oid, 'USAGE'), false) AS usable,
       ARRAY(SELECT c.relname::text FROM pg_class c
             WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p') AND NOT (has_table_privilege(c.oid, 'SELECT')
               AND (c.relname = 'alembic_version' OR has_table_privilege(c.oid, 'INSERT')
                    AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')))
             ORDER BY c.relname) AS lacking
FROM (SELECT to_regnamespace('rowscore')::oid) AS n(oid)

-- name: locate_functions
-- Functions of that name in any schema, whether or not this role may call them; those on the search path first.
SELECT p.oid::bigint AS oid, quote_ident(n.nspname) AS quoted_schema, p.proname AS name, p.prosecdef AS as_owner,
       format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) AS signature,
       has_schema_privilege(n.oid, 'USAGE') AS usable, has_function_privilege(p.oid, 'EXECUTE') AS executable,
       pg_function_is_visible(p.oid) AS visible, coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) AS source
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.proname = :name AND (CAST(:schema AS text) IS NULL OR n.nspname = :schema) AND p.prokind = 'f'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY pg_function_is_visible(p.oid) DESC, n.nspname, p.oid

-- name: find_extension
-- The installed version of an extension, and whether the server could install it.
SELECT e.extversion AS version, EXISTS (SELECT FROM pg_available_extensions a WHERE a.name = :name) AS available
FROM (SELECT) AS one LEFT JOIN pg_extension e ON e.extname = :name

-- name: describe_answers
-- The function's answers to the inputs, never run: the driver reads their types from the answer's description.
SELECT {% for output in outputs %}{{ function.answer('a."rowscore$a"', loop.index0) }} AS "o{{ loop.index }}"{{ ", " if not loop.last }}{% endfor %}

FROM (SELECT {{ call(function, inputs, max_rows_per_batch) }} AS "rowscore$a"
      FROM (SELECT {% for name, expression in inputs %}{{ expression }} AS "rowscore$i{{ loop.index }}"{{ ", " if not loop.last }}{% endfor %}

            FROM {{ table }} AS c LIMIT 0) AS p) AS a

-- name: find_unassignable
-- Answers whose type the database would not store in the output's column, by their places from 1.
SELECT u.place::int AS place, format_type(u.answer, NULL) AS answer, u.output
FROM unnest(CAST(:answers AS bigint[]), CAST(:outputs AS text[])) WITH ORDINALITY AS u(answer, output, place)
JOIN pg_type a ON a.oid = u.answer JOIN pg_type o ON o.oid = to_regtype(u.output)
CROSS JOIN LATERAL (SELECT CASE a.typtype WHEN 'd' THEN a.typbasetype ELSE a.oid END AS answer,
                           CASE o.typtype WHEN 'd' THEN o.typbasetype ELSE o.oid END AS output, o.typcategory) AS b
WHERE b.answer <> b.output AND b.typcategory <> 'S'
  AND NOT EXISTS (SELECT FROM pg_cast c WHERE c.castsource = b.answer AND c.casttarget = b.output AND c.castcontext IN ('a', 'i'))
ORDER BY u.place

-- name: find_row_security
-- Whether policies choose this role's rows, and whether one of them lets it reach all rows.
SELECT row_security_active(CAST(:oid AS oid)) AS active,
       coalesce(bool_or(p.polpermissive AND p.polcmd = '*' AND pg_get_expr(p.polqual, p.polrelid) = 'true'
                        AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'true') = 'true'), false)
       AND NOT coalesce(bool_or(NOT p.polpermissive), false) AS sees_all
FROM (SELECT) AS one LEFT JOIN pg_policy p ON p.polrelid = :oid
 AND EXISTS (SELECT FROM unnest(p.polroles) AS r(oid) WHERE CASE r.oid WHEN 0 THEN true ELSE pg_has_role(r.oid, 'USAGE') END)

-- name: find_view_rights
-- The view, and whether it checks the reader's rights instead of its owner's.
SELECT c.relkind = 'v' AS is_view,
       EXISTS (SELECT FROM pg_options_to_table(c.reloptions) o
               WHERE o.option_name = 'security_invoker' AND CAST(o.option_value AS boolean)) AS as_reader
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = :schema AND c.relname = :name

-- name: find_unvacuumed
-- The table or those of its partitions for which somebody turned autovacuum off.
SELECT format('%I.%I', n.nspname, c.relname) AS target
FROM (SELECT CAST(:oid AS oid) UNION SELECT p.relid::oid FROM pg_partition_tree(:oid) p) AS t(oid)
JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE EXISTS (SELECT FROM pg_options_to_table(c.reloptions) o
              WHERE o.option_name = 'autovacuum_enabled' AND NOT CAST(o.option_value AS boolean))
ORDER BY n.nspname, c.relname

-- name: find_old_snapshots
-- Transactions that keep dead rows of this database from being removed, prepared ones included; the oldest first.
SELECT x.pid, x.gid, x.role, x.application, x.state, extract(epoch FROM clock_timestamp() - x.began)::int AS seconds
FROM (SELECT a.pid, NULL::text AS gid, a.usename::text AS role, a.application_name AS application, a.state, a.xact_start AS began
      FROM pg_stat_activity a
      WHERE a.pid <> pg_backend_pid() AND a.datname = current_database() AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
      UNION ALL
      SELECT NULL, p.gid, p.owner::text, NULL, 'prepared', p.prepared FROM pg_prepared_xacts p WHERE p.database = current_database()) AS x
WHERE x.began < clock_timestamp() - make_interval(secs => :older_than)
ORDER BY x.began LIMIT 5

-- name: count_hidden_sessions
-- Sessions of other roles in this database, whose transactions this role may not see.
SELECT count(*) FROM pg_stat_activity a WHERE a.datname = current_database() AND a.query = '<insufficient privilege>'

-- name: find_argument_types
-- The types by which ALTER FUNCTION knows a function.
SELECT format_type(u.oid, NULL) AS type FROM pg_proc p CROSS JOIN LATERAL unnest(p.proargtypes) WITH ORDINALITY AS u(oid, place)
WHERE p.oid = :oid ORDER BY u.place
