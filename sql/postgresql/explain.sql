-- name: sample_keys
-- Keys of a window's rows whatever their state, as the values of a write that is planned and never made.
SELECT {{ key_read(keys, "c") }} FROM {{ table }} AS c WHERE {{ between(keys, "c") }}
ORDER BY {{ key_list(keys, "c") }} LIMIT :limit

-- name: explain_plan
-- The plan as data, with the schemas of functions; runs nothing.
EXPLAIN (VERBOSE, FORMAT JSON) {{ statement }}

-- name: explain_text
-- The plan for people; runs nothing.
EXPLAIN {{ statement }}

-- name: explain_analyze
-- The plan for people with what happened when it ran, Aurora's batches among it; what it writes is rolled back.
EXPLAIN (ANALYZE, VERBOSE) {{ statement }}

-- name: find_batch_settings
-- What decides on batch mode: whether this is Aurora, and its settings; NULL where the server does not know one.
SELECT EXISTS (SELECT FROM pg_proc WHERE proname = 'aurora_version' AND pronamespace = 'pg_catalog'::regnamespace) AS aurora,
       current_setting('apg_enable_function_migration', true) AS apg_enable_function_migration,
       current_setting('apg_enable_batch_mode_function_execution', true) AS apg_enable_batch_mode_function_execution,
       current_setting('track_functions') AS track_functions

-- name: find_callers
-- What else in the database calls the function: views, triggers, functions in other languages than SQL, columns.
WITH f AS (SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
           WHERE p.oid = :oid OR :oid = 0 AND n.nspname = :schema AND p.proname = :name),
     g AS (SELECT p.oid, l.lanname, p.prosrc FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
           WHERE l.lanname NOT IN ('internal', 'c', 'sql') AND p.prosrc ~* :call AND p.oid NOT IN (SELECT oid FROM f))
SELECT CASE c.relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END AS kind, c.oid::regclass::text AS name, pg_get_viewdef(c.oid) AS text
FROM f JOIN pg_depend d ON d.refclassid = 'pg_proc'::regclass AND d.refobjid = f.oid AND d.classid = 'pg_rewrite'::regclass
JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class c ON c.oid = r.ev_class
WHERE NOT starts_with(coalesce(obj_description(c.oid, 'pg_class'), ''), :own)
UNION
SELECT 'trigger', format('%I of %s', t.tgname, t.tgrelid::regclass), g.prosrc FROM g JOIN pg_trigger t ON t.tgfoid = g.oid WHERE NOT t.tgisinternal
UNION
SELECT g.lanname || ' function', g.oid::regprocedure::text, g.prosrc FROM g WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgfoid = g.oid)
UNION
SELECT 'column', format('%s.%I', a.adrelid::regclass, c.attname), pg_get_expr(a.adbin, a.adrelid)
FROM f JOIN pg_depend d ON d.refclassid = 'pg_proc'::regclass AND d.refobjid = f.oid AND d.classid = 'pg_attrdef'::regclass
JOIN pg_attrdef a ON a.oid = d.objid JOIN pg_attribute c ON c.attrelid = a.adrelid AND c.attnum = a.adnum
ORDER BY 1, 2

-- name: find_unbatched_plans
-- Statements that call the function outside batch mode, where query plan management has recorded plans; for people to run.
SELECT sql_hash, plan_hash, status, environment_variables, left(sql_text, 50) AS sql_text, plan_outline
FROM apg_plan_mgmt.dba_plans
WHERE position({{ function_name }} IN sql_text) > 0 AND plan_outline NOT LIKE '%"FuncScan"%'

-- name: count_all_functions
-- Lets this transaction count calls of functions in any language; a privilege of its own.
SET LOCAL track_functions = 'all'

-- name: count_service_calls
-- How often this transaction called aws_ml's functions, as far as the server counts calls.
SELECT schemaname || '.' || funcname AS name, calls::bigint AS calls FROM pg_stat_xact_user_functions
WHERE schemaname IN ('aws_sagemaker', 'aws_comprehend', 'aws_bedrock') AND funcname NOT IN ('post', 'csv', 'reply') ORDER BY 1

-- name: find_service_calls
-- How often aws_ml's functions were called since the statistics began; counted only with track_functions = 'all'.
SELECT schemaname || '.' || funcname AS name, calls::bigint AS calls FROM pg_stat_user_functions
WHERE schemaname IN ('aws_sagemaker', 'aws_comprehend', 'aws_bedrock') AND funcname NOT IN ('post', 'csv', 'reply') ORDER BY 1

-- name: find_learned
-- The sizes that the last batches taught.
SELECT l.rows_per_claim, l.rows_per_call FROM rowscore.learned l WHERE l.prediction = :prediction
