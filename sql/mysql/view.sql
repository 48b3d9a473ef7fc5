-- name: find_views
-- The prediction's views by their mark, and whatever bears the name that is wanted; with views whose text names them.
SELECT CONCAT(v.table_schema, '.', v.table_name) AS oid, v.table_schema AS `schema`, v.table_name AS `name`, 'v' AS kind,
       REGEXP_SUBSTR(v.view_definition, 'maintained by rowscore: prediction [a-z0-9_]+, view [0-9a-f]{12}') AS comment,
       NULL AS `columns`, '[]' AS types, '[]' AS grants,
       (SELECT JSON_ARRAYAGG(CONCAT('view ', d.table_schema, '.', d.table_name)) FROM information_schema.views d
        WHERE INSTR(d.view_definition, CONCAT('`', REPLACE(v.table_schema, '`', '``'), '`.`', REPLACE(v.table_name, '`', '``'), '`')) > 0) AS dependents
FROM information_schema.views v
WHERE INSTR(v.view_definition, :prefix) > 0 AND (v.table_schema = DATABASE() OR INSTR(v.view_definition,
       CONCAT('`', REPLACE(COALESCE(:table_schema, DATABASE()), '`', '``'), '`.`', REPLACE(:table_name, '`', '``'), '`')) > 0)
   OR v.table_schema = :schema AND v.table_name = :name
UNION ALL
SELECT CONCAT(t.table_schema, '.', t.table_name), t.table_schema, t.table_name, 'r', NULL, '[]', '[]', '[]', '[]'
FROM information_schema.tables t
WHERE t.table_schema = :schema AND t.table_name = :name AND t.table_type NOT LIKE '%VIEW'

-- name: list_view_columns
-- Asked for each view on its own: beside the search MariaDB would open every table of the server.
SELECT c.column_name AS name FROM information_schema.columns c
WHERE c.table_schema = :schema AND c.table_name = :name ORDER BY c.ordinal_position

-- name: create_view
-- Each row is in exactly one branch, because the state is never NULL. No comments are kept: the mark is a condition.
{% macro state_name(alias) %}CASE {{ alias }}.{{ state|id }}{% for s in (states.FAILED, states.SKIPPED, states.EXISTING) %} WHEN {{ s.value }} THEN '{{ s.name.lower() }}'{% endfor %}
 WHEN {{ states.PENDING.value }} THEN CASE WHEN {{ alias }}.{{ scored_at|id }} IS NULL THEN 'pending' ELSE 'stale' END END{% endmacro %}
CREATE {{ "OR REPLACE " if replace }}SQL SECURITY INVOKER VIEW {{ view }} AS
SELECT 'scored' AS prediction_state{% for name in columns %}, c.{{ name|id }}{% endfor %}

FROM {{ table }} AS c
WHERE c.{{ state|id }} = {{ states.SCORED.value }}{% if mark %} AND {{ mark }} <> ''{% endif %}

UNION ALL
SELECT {{ state_name("c") }}{% for name in columns %}, c.{{ name|id }}{% endfor %}

FROM {{ table }} AS c
WHERE c.{{ state|id }} <> {{ states.SCORED.value }}
{%- if live %}
{% if where %} AND (c.{{ state|id }} <> {{ states.PENDING.value }} OR ({{ where }}) IS NOT TRUE)
{%- else %} AND c.{{ state|id }} <> {{ states.PENDING.value }}
{%- endif %}

UNION ALL
SELECT {{ state_name("a") }}{% for name in columns %}, {% if name in answered %}{{ answered[name] }}{% else %}a.{{ name|id }}{% endif %}{% endfor %}

FROM (SELECT c.{{ state|id }}{% for name in columns %}, c.{{ name|id }}{% endfor %}, {{ call(function, inputs) }} AS `rowscore$a`
      FROM {{ table }} AS c
      WHERE c.{{ state|id }} = {{ states.PENDING.value }}{% if where %} AND ({{ where }}) IS TRUE{% endif %}) AS a
{%- endif %}


-- name: cast_answer
-- An answer in the column's kind of type, so that the branches agree.
{% set plain = type.lower() %}
{% if plain.startswith(("double", "real", "float")) %}CAST({{ answer }} AS DOUBLE)
{%- elif plain.startswith(("dec", "numeric")) %}CAST({{ answer }} AS DECIMAL{{ plain[plain.index("("):] if "(" in plain }})
{%- elif "unsigned" in plain %}CAST({{ answer }} AS UNSIGNED)
{%- elif "int" in plain or plain.startswith(("bool", "signed")) %}CAST({{ answer }} AS SIGNED)
{%- else %}{{ answer }}{% endif %}

-- name: drop_view
-- What others built upon it was looked for; the server would not refuse.
DROP VIEW {{ view }}
