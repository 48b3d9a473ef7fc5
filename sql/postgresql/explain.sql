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

-- name: find_batch_settings
-- What decides on batch mode: whether this is Aurora, and its setting; NULL where the server does not know it.
SELECT EXISTS (SELECT FROM pg_proc WHERE proname = 'aurora_version' AND pronamespace = 'pg_catalog'::regnamespace) AS aurora,
       current_setting('apg_enable_function_migration', true) AS function_migration,
       current_setting('track_functions') AS track_functions

-- name: find_service_calls
-- How often aws_ml's functions were called since the statistics began; counted only with track_functions = 'all'.
SELECT schemaname || '.' || funcname AS name, calls::bigint AS calls FROM pg_stat_user_functions
WHERE schemaname IN ('aws_sagemaker', 'aws_comprehend', 'aws_bedrock') ORDER BY 1

-- name: find_learned
-- The sizes that the last batches taught.
SELECT l.rows_per_claim, l.rows_per_call FROM rowscore.learned l WHERE l.prediction = :prediction
