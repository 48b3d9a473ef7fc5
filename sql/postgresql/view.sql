-- name: find_views
-- The prediction's views by their mark, and whatever bears the name that is wanted; with grants and dependents.
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind, obj_description(c.oid, 'pg_class') AS comment,
       ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 ORDER BY a.attnum) AS columns,
       ARRAY(SELECT format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 ORDER BY a.attnum) AS types,
       ARRAY(SELECT g.privilege_type || ' ON ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname) || ' TO '
                    || CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END
                    || CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
             FROM aclexplode(c.relacl) g WHERE g.grantee <> c.relowner ORDER BY 1) AS grants,
       ARRAY(SELECT DISTINCT CASE WHEN r.oid IS NULL THEN pg_describe_object(d.classid, d.objid, d.objsubid)
                                  ELSE pg_describe_object('pg_class'::regclass, r.ev_class, 0) END
             FROM pg_depend d LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
             WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.deptype = 'n'
               AND r.ev_class IS DISTINCT FROM c.oid
             ORDER BY 1) AS dependents
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid IN (SELECT d.objoid FROM pg_description d WHERE d.classoid = 'pg_class'::regclass AND d.objsubid = 0
                AND starts_with(d.description, :prefix))
   OR n.nspname = CAST(:schema AS text) AND c.relname = CAST(:name AS text)

-- name: create_view
-- Scored rows and the rest in one; each row is in exactly one branch, because the state is never NULL.
{% macro state_name(alias) %}CASE {{ alias }}.{{ state|id }}{% for s in (states.FAILED, states.SKIPPED, states.EXISTING) %} WHEN {{ s.value }} THEN '{{ s.name.lower() }}'{% endfor %}
 WHEN {{ states.PENDING.value }} THEN CASE WHEN {{ alias }}.{{ scored_at|id }} IS NULL THEN 'pending' ELSE 'stale' END END{% endmacro %}
CREATE {{ "OR REPLACE " if replace }}VIEW {{ view }}{{ " WITH (security_invoker = true)" if security_invoker }} AS
SELECT 'scored'::text AS prediction_state{% for name in columns %}, c.{{ name|id }}{% endfor %}

FROM {{ table }} AS c
WHERE c.{{ state|id }} = {{ states.SCORED.value }}
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

FROM (SELECT p.*, {{ call(function, inputs, max_rows_per_batch) }} AS "rowscore$a",
             clock_timestamp() AS "rowscore$once" -- volatile: keeps the call single, and lets a reader's WHERE through
      FROM (SELECT c.{{ state|id }}{% for name in columns %}, c.{{ name|id }}{% endfor %}{% for name, expression in inputs %}, {{ expression }} AS "rowscore$i{{ loop.index }}"{% endfor %}

            FROM {{ table }} AS c
            WHERE c.{{ state|id }} = {{ states.PENDING.value }}{% if where %} AND ({{ where }}) IS TRUE{% endif %}) AS p) AS a
{%- endif %}


-- name: cast_answer
-- An answer in the column's own type, so that the branches agree; one that does not fit fails in the reader's query.
CAST({{ answer }} AS {{ type }})

-- name: drop_view
-- Refused by the database where anything of the user's depends on it.
DROP VIEW {{ view }}

-- name: comment_view
-- The mark with the digest of the view's SQL.
COMMENT ON VIEW {{ view }} IS {{ comment }}

-- name: grant_view
-- A privilege that somebody granted on the view before it was made anew.
GRANT {{ grant }}
