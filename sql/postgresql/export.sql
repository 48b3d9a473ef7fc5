-- name: export_rows
-- The inputs of the window's rows, and what is exported beside them, as scoring reads them; nothing is locked.
{% if ends_walks %}
SELECT {% for input in read_inputs %}{{ input }}{{ ", " if not loop.last }}{% endfor %} FROM {{ table }} AS c
WHERE {{ between(keys, "c") }}
{% else %}
WITH k AS MATERIALIZED (
  SELECT {{ key_names(keys, "b") }}
  FROM (SELECT {{ key_list(keys, "c") }} FROM {{ table }} AS c WHERE {{ key(keys, "c") }} >= {{ bound(keys, "lo") }}
        ORDER BY {{ key_list(keys, "c") }} LIMIT {{ bind("limit") }}) AS b WHERE {{ key(keys, "b") }} <= {{ bound(keys, "hi") }})
SELECT {% for input in read_inputs %}{{ input }}{{ ", " if not loop.last }}{% endfor %}

FROM k AS v JOIN {{ table }} AS c ON {{ same_key(keys, "c", "v") }} WHERE true
{% endif %}
{% if scored %} AND c.{{ state|id }} = {{ states.SCORED.value }}{% endif %}
{% if where %} AND ({{ where }}) IS TRUE{% endif %}
{% if only %} AND ({{ only }}) IS TRUE{% endif %}

ORDER BY {{ key_list(keys, "c") }}

-- name: list_exported
-- Keys of the window's rows with none of the user's expressions, for bisection where one of those fails.
SELECT {{ key_read(keys, "c") }}, NULL
FROM (SELECT {{ key_list(keys, "c") }} FROM {{ table }} AS c WHERE {{ between(keys, "c") }}
      ORDER BY {{ key_list(keys, "c") }} LIMIT :limit) AS c
ORDER BY {{ key_list(keys, "c") }}

-- name: export_query
-- The whole export as one query, for the server to write it itself: values as they are written for the model.
SELECT {% for f in fields %}
{% if f.type == "boolean" %}
CASE WHEN {{ f.read }} THEN {{ yes }} WHEN NOT {{ f.read }} THEN {{ no }} END
{%- elif f.type.startswith("timestamp") %}
to_json({{ f.read }}) #>> '{}'
{%- elif f.type.startswith("interval") %}
EXTRACT(epoch FROM {{ f.read }})
{%- else %}
{{ f.read }}
{%- endif %}
 AS {{ f.name|id }}{{ ", " if not loop.last }}
{%- endfor %}

FROM {{ table }} AS c
WHERE true{% if scored %} AND c.{{ state|id }} = {{ states.SCORED.value }}{% endif %}
{% if where %} AND ({{ where }}) IS TRUE{% endif %}{% if only %} AND ({{ only }}) IS TRUE{% endif %}
{% for expression in never_null %} AND {{ expression }} IS NOT NULL{% endfor %}

ORDER BY {{ key_list(keys, "c") }}{% if most is not none %} LIMIT {{ most }}{% endif %}

-- name: export_to_s3
-- The same written to S3 by Aurora PostgreSQL itself, in one transaction.
-- Needs the extension aws_s3, and a role of the cluster for the feature s3Export.
-- PostgreSQL writes 1 for 1.0, no zeros at the end of fractions of a second, and "" for a text that is empty: readers of
-- CSV see the same values.
SELECT * FROM aws_s3.query_export_to_s3(
  {{ query }},
  aws_commons.create_s3_uri({{ bucket }}, {{ key }}, {{ region }}),
  options := {{ options }})
