-- name: sample_window
-- The first keys of any rows, where none waits, to plan for.
WITH q AS (SELECT {% for k in keys %}c.{{ k.name|id }}{{ ", " if not loop.last }}{% endfor %} FROM {{ table }} AS c FORCE INDEX ({{ key_index|id }})
  ORDER BY {{ key_list(keys, "c") }} LIMIT :limit)
SELECT (SELECT {{ key_text(keys, "q") }} FROM q ORDER BY {{ key_list(keys, "q") }} LIMIT 1) AS lo,
       (SELECT {{ key_text(keys, "q") }} FROM q ORDER BY {% for k in keys %}q.{{ k.name|id }} DESC{{ ", " if not loop.last }}{% endfor %} LIMIT 1) AS hi,
       (SELECT COUNT(*) FROM q) AS `rows`

-- name: sample_keys
-- Keys of a window's rows whatever their state, as the values of a write that is planned and never made.
SELECT {{ key_read(keys, "c") }} FROM {{ table }} AS c FORCE INDEX ({{ key_index|id }}) WHERE {{ between(keys, "c") }}
ORDER BY {{ key_list(keys, "c") }} LIMIT :limit

-- name: explain_access
-- How each table is reached, a line for each; runs nothing.
EXPLAIN FORMAT=TRADITIONAL {{ statement }}

-- name: find_batch_settings
-- What decides on batch mode: whether this is Aurora. It has no setting that turns it off.
SELECT {{ "FALSE" if mariadb else is_aurora() }} AS aurora

-- name: find_callers
-- What else in the database calls the function outside batch mode: triggers, other functions, columns.
SELECT 'trigger' AS kind, CONCAT(t.trigger_name, ' of ', t.event_object_schema, '.', t.event_object_table) AS `name`, t.action_statement AS `text`
FROM information_schema.triggers t WHERE t.event_object_schema = DATABASE() AND LOWER(t.action_statement) REGEXP :call
UNION ALL
SELECT 'function', CONCAT(r.routine_schema, '.', r.routine_name), r.routine_definition
FROM information_schema.routines r WHERE r.routine_schema = DATABASE() AND r.routine_type = 'FUNCTION'
  AND CONCAT(r.routine_schema, '.', r.routine_name) <> :label AND LEFT(r.routine_comment, CHAR_LENGTH(:own)) <> :own
  AND LOWER(COALESCE(r.routine_definition, '')) REGEXP :call
UNION ALL
SELECT 'column', CONCAT(c.table_schema, '.', c.table_name, '.', c.column_name), c.generation_expression
FROM information_schema.columns c WHERE c.table_schema = DATABASE() AND LOWER(COALESCE(c.generation_expression, '')) REGEXP :call
ORDER BY 1, 2

-- name: find_service_calls
-- Aurora's counters of calls to its services since the server started; no row anywhere else.
SHOW GLOBAL STATUS LIKE 'Aurora_ml%cnt'

-- name: count_service_calls
-- The same, before and after a sample: they count what every session does.
SHOW GLOBAL STATUS LIKE 'Aurora_ml%cnt'

-- name: find_learned
-- The sizes that the last batches taught.
SELECT l.rows_per_claim, l.rows_per_call FROM rowscore_learned l WHERE l.prediction = :prediction
