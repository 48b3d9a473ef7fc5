-- name: export_rows
-- The inputs of the window's rows, and what is exported beside them, as scoring reads them; nothing is locked.
SELECT {% for input in read_inputs %}{{ input }}{{ ", " if not loop.last }}{% endfor %} FROM {{ table }} AS c FORCE INDEX ({{ key_index|id }})
WHERE {{ between(keys, "c") }}{% if scored %} AND c.{{ state|id }} = {{ states.SCORED.value }}{% endif %}
{% if where %} AND ({{ where }}) IS TRUE{% endif %}{% if only %} AND ({{ only }}) IS TRUE{% endif %}

ORDER BY {{ key_list(keys, "c") }}

-- name: list_exported
-- Keys of the window's rows with none of the user's expressions, for bisection where one of those fails.
SELECT {{ key_read(keys, "c") }}, NULL FROM {{ table }} AS c FORCE INDEX ({{ key_index|id }})
WHERE {{ between(keys, "c") }}
ORDER BY {{ key_list(keys, "c") }}

-- name: export_query
-- The whole export as one query, for the server to write it itself: values as they are written for the model.
SELECT {% for f in fields %}
COALESCE({% if f.named %}CASE {{ f.read }} WHEN 0 THEN {{ no }} WHEN 1 THEN {{ yes }} ELSE CAST({{ f.read }} AS CHAR) END
{%- elif f.type.startswith("datetime") or f.type.startswith("timestamp") %}
DATE_FORMAT({{ f.read }}, CASE WHEN MICROSECOND({{ f.read }}) = 0 THEN '%Y-%m-%dT%H:%i:%s' ELSE '%Y-%m-%dT%H:%i:%s.%f' END)
{%- elif f.type == "time" or f.type.startswith("time(") %}
CAST(TIME_TO_SEC({{ f.read }}) + MICROSECOND({{ f.read }}) / 1e6 AS CHAR)
{%- else %}
CAST({{ f.read }} AS CHAR)
{%- endif %}
, {{ null }}) AS {{ f.name|id }}{{ ", " if not loop.last }}
{%- endfor %}

FROM {{ table }} AS c
WHERE TRUE{% if scored %} AND c.{{ state|id }} = {{ states.SCORED.value }}{% endif %}
{% if where %} AND ({{ where }}) IS TRUE{% endif %}{% if only %} AND ({{ only }}) IS TRUE{% endif %}
{% for expression in never_null %} AND {{ expression }} IS NOT NULL{% endfor %}

ORDER BY {{ key_list(keys, "c") }}{% if most is not none %} LIMIT {{ most }}{% endif %}

-- name: export_to_s3
-- The same written to S3 by Aurora MySQL itself; the file's name gets .part_00000 behind it.
-- Needs the cluster parameter aurora_select_into_s3_role or aws_default_s3_role, and GRANT AWS_SELECT_S3_ACCESS TO ...
-- MySQL writes 1 for 1.0, and may quote where quotes are not needed: readers of CSV see the same values. A TIMESTAMP
-- comes in the session's time zone: SET time_zone = '+00:00' before.
{{ query }}
INTO OUTFILE S3 {{ uri }} CHARACTER SET utf8mb4 FORMAT CSV{% if header %} HEADER{% endif %}{% if force %} OVERWRITE ON{% endif %}
