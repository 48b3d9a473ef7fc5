-- name: find_services
-- Whether this is Aurora, and which stored functions bear the names of its own: stand-ins on a server that is not.
SELECT {{ "FALSE" if mariadb else is_aurora() }} AS aurora, FALSE AS installed,
       (SELECT CONCAT('[', COALESCE(GROUP_CONCAT(JSON_QUOTE(LOWER(r.routine_name)) ORDER BY r.routine_name), ''), ']') FROM information_schema.routines r
        WHERE r.routine_type = 'FUNCTION' AND r.routine_schema = DATABASE() AND r.routine_name LIKE 'aws\_%') AS functions,
       :schema IS NOT NULL AS may_create, CURRENT_USER() AS role

-- name: find_models
-- Functions that `apply` made to call a service for a prediction, and what bears the names that are wanted.
SELECT 'function' AS kind, r.routine_schema AS `schema`, r.routine_name AS `name`, r.routine_comment AS comment,
       CONCAT({{ identifier("r.routine_schema") }}, '.', {{ identifier("r.routine_name") }}) AS signature,
       NULL AS names, NULL AS types, NULL AS returns, '[]' AS dependents
FROM information_schema.routines r
WHERE r.routine_type = 'FUNCTION' AND (r.routine_schema = DATABASE() OR r.routine_schema = :schema)
  AND (LEFT(r.routine_comment, CHAR_LENGTH(:prefix)) = :prefix OR r.routine_schema = :schema AND r.routine_name IN :names)
ORDER BY r.routine_schema, r.routine_name

-- name: find_model_callers
-- Triggers and generated columns of the table whose text calls the function.
SELECT CONCAT('trigger ', t.trigger_schema, '.', t.trigger_name) AS caller FROM information_schema.triggers t
WHERE t.event_object_schema = :schema AND t.event_object_table = :name AND LOWER(t.action_statement) REGEXP :call
UNION ALL
SELECT CONCAT('generated column ', c.column_name) FROM information_schema.columns c
WHERE c.table_schema = :schema AND c.table_name = :name AND LOWER(COALESCE(c.generation_expression, '')) REGEXP :call
ORDER BY 1

-- name: create_sagemaker
-- ALIAS stands where a body would. A mark needs COMMENT, a characteristic like the ones that AWS's grammar shows.
CREATE FUNCTION {{ target }}({% for a in arguments %}{{ a.name|id }} {{ a.type }}{{ ", " if not loop.last }}{% endfor %})
RETURNS {{ returns }} COMMENT {{ comment }}
ALIAS AWS_SAGEMAKER_INVOKE_ENDPOINT ENDPOINT NAME {{ text(service.sagemaker) }}{% if max_rows_per_batch %} MAX_BATCH_SIZE {{ max_rows_per_batch }}{% endif %}


-- name: create_bedrock
-- Takes the request's body and answers the reply's, one row a call: Bedrock has no batches.
CREATE FUNCTION {{ target }}(request_body text CHARSET utf8mb4)
RETURNS text CHARSET utf8mb4 COMMENT {{ comment }}
ALIAS AWS_BEDROCK_INVOKE_MODEL MODEL ID {{ text(service.bedrock) }} CONTENT_TYPE {{ text(service.content_type) }} ACCEPT {{ text(service.accept) }}{% if timeout_ms %} TIMEOUT_MS {{ timeout_ms }}{% endif %}


-- name: create_bedrock_caller
-- Makes the request, takes the answer out of the reply. It calls once: a subquery with a LIMIT is not merged.
CREATE FUNCTION {{ target }}({% for a in arguments %}{{ a.name|id }} {{ a.type }}{{ ", " if not loop.last }}{% endfor %})
RETURNS {{ returns }} NOT DETERMINISTIC READS SQL DATA COMMENT {{ comment }}
{% set reply = callee ~ "(" ~ request ~ ")" %}
{% if service.answer %}
RETURN (SELECT IF(JSON_TYPE(r.answer) = 'NULL', NULL, JSON_UNQUOTE(r.answer))
        FROM (SELECT JSON_EXTRACT({{ reply }}, {{ text(path) }}) AS answer LIMIT 1) AS r)
{% else %}
RETURN {{ reply }}
{% endif %}

-- name: create_expression
-- A configured expression over the arguments.
CREATE FUNCTION {{ target }}({% for a in arguments %}{{ a.name|id }} {{ a.type }}{{ ", " if not loop.last }}{% endfor %})
RETURNS {{ returns }} NOT DETERMINISTIC READS SQL DATA COMMENT {{ comment }}
RETURN ({{ expression }})

-- name: request
-- A request's body as JSON: its constants as they are, an input in place of a text that is only its name, else within it.
{% macro made(node) %}{% if node.kind == "object" %}JSON_OBJECT({% for name, item in node.members %}{{ text(name) }}, {{ made(item) }}{{ ", " if not loop.last }}{% endfor %}){% elif node.kind == "array" %}JSON_ARRAY({% for item in node.members %}{{ made(item) }}{{ ", " if not loop.last }}{% endfor %}){% elif node.kind == "input" %}{{ node.value }}{% elif node.kind == "text" %}CONCAT({% for input, part in node.members %}{% if input %}COALESCE({{ part }}, ''){% else %}{{ text(part) }}{% endif %}{{ ", " if not loop.last }}{% endfor %}){% else %}JSON_EXTRACT({{ text(node.value) }}, '$'){% endif %}{% endmacro %}
{{ made(node) }}

-- name: drop_model
-- Nothing is told of what calls it: the server keeps no such dependency.
DROP FUNCTION {{ signature }}
