-- name: lock_pair
-- Both predictions' rows, one after the other in an order that all keep: who writes holds them shared until it is done.
SELECT name FROM rowscore.prediction WHERE name IN (:live, :shadow) ORDER BY name FOR UPDATE

-- name: cancel_runs
-- Backfills and rescores end: somebody agreed to pay for them with the other model.
UPDATE rowscore.run SET status = 'cancelled', finished_at = clock_timestamp()
WHERE prediction IN (:live, :shadow) AND kind IN ('backfill', 'rescore') AND status IN ('running', 'paused')

-- name: void_pair
-- Workers of both lose their windows.
DELETE FROM rowscore.lease l USING rowscore.run r WHERE r.id = l.run_id AND r.prediction IN (:live, :shadow)

-- name: rewind_pair
-- Other rows wait on each side: drains, and walks of verify, begin from the beginning.
UPDATE rowscore.run SET pos = NULL WHERE prediction IN (:live, :shadow) AND kind IN ('drain', 'verify')

-- name: switch_registration
-- Another definition, and a new generation under which answers of before are void.
UPDATE rowscore.prediction SET generation = generation + 1, definition_hash = :definition_hash,
       definition = CAST(:definition AS jsonb), version = :version, applied_at = clock_timestamp()
WHERE name = :prediction

-- name: switch_own_rows
-- What is known of a model goes with it: runs and what they spent, failures, faults, sizes, the log; by a third name.
INSERT INTO rowscore.prediction (name, definition_hash, definition) VALUES ('$switch', '', '{}');
{% for own in ("run", "failure", "circuit", "learned", "batch") %}
UPDATE rowscore.{{ own }} SET prediction = '$switch' WHERE prediction = :live;
UPDATE rowscore.{{ own }} SET prediction = :live WHERE prediction = :shadow;
UPDATE rowscore.{{ own }} SET prediction = :shadow WHERE prediction = '$switch';
{% endfor %}
DELETE FROM rowscore.prediction WHERE name = '$switch'

-- name: read_definition
-- What is registered of one prediction.
SELECT p.definition FROM rowscore.prediction p WHERE p.name = :prediction

-- name: switch_columns
-- Each column takes the other's name, by way of a third one.
{% for one, other in pairs %}
ALTER TABLE {{ table }} RENAME COLUMN {{ one|id }} TO {{ "rowscore$other"|id }};
ALTER TABLE {{ table }} RENAME COLUMN {{ other|id }} TO {{ one|id }};
ALTER TABLE {{ table }} RENAME COLUMN {{ "rowscore$other"|id }} TO {{ other|id }}{{ ";" if not loop.last }}
{% endfor %}

-- name: rename_index
-- An index is bound to its columns by their numbers, and so takes the other's name as they do.
ALTER INDEX {{ schema|id }}.{{ index|id }} RENAME TO {{ wanted|id }}

-- name: find_comments
-- The comments of columns, which belong to their names.
SELECT a.attname::text AS column, col_description(a.attrelid, a.attnum) AS comment
FROM pg_attribute a WHERE a.attrelid = :oid AND a.attname = ANY (CAST(:columns AS text[]))

-- name: find_column_grants
-- Privileges on single columns, which belong to their names as well.
SELECT a.attname::text AS column, g.privilege_type AS privilege, g.is_grantable AS grantable,
       CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END AS grantee
FROM pg_attribute a CROSS JOIN aclexplode(a.attacl) AS g
WHERE a.attrelid = :oid AND a.attname = ANY (CAST(:columns AS text[])) ORDER BY 1, 2, 4

-- name: revoke_column
-- A privilege that the other column's name does not come with.
REVOKE {{ grant.privilege }} ({{ column|id }}) ON {{ table }} FROM {{ grant.grantee }}

-- name: grant_column
-- A privilege that comes with the column's name.
GRANT {{ grant.privilege }} ({{ column|id }}) ON {{ table }} TO {{ grant.grantee }}{{ " WITH GRANT OPTION" if grant.grantable }}

-- name: find_bound
-- What others made upon the columns, which is bound to them by their numbers and would stay with the old values.
SELECT DISTINCT CASE WHEN r.oid IS NULL THEN pg_describe_object(d.classid, d.objid, d.objsubid)
                     ELSE pg_describe_object('pg_class'::regclass, r.ev_class, 0) END AS description
FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
LEFT JOIN pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
WHERE d.refclassid = 'pg_class'::regclass AND a.attname = ANY (CAST(:columns AS text[]))
  AND d.refobjid IN (SELECT CAST(:oid AS oid) UNION ALL SELECT p.relid::oid FROM pg_partition_tree(:oid) p)
  AND t.tgname IS DISTINCT FROM :trigger AND t.tgname IS DISTINCT FROM :other_trigger
  AND (f.oid IS NULL OR f.adnum <> a.attnum) AND k.contype IS DISTINCT FROM 'n' -- the columns' own defaults and NOT NULL
  AND NOT (d.classid = 'pg_class'::regclass AND d.objid::bigint = ANY (CAST(:indexes AS bigint[])))
  AND coalesce(r.ev_class, 0)::bigint <> ALL (CAST(:views AS bigint[]))
ORDER BY 1

-- name: count_unscored
-- Rows that the one has scored and the other has not, by what the other says of them; reads the table.
SELECT c.{{ other|id }} AS state, count(*) AS rows FROM {{ table }} AS c
WHERE c.{{ state|id }} = {{ states.SCORED.value }} AND c.{{ other|id }} <> {{ states.SCORED.value }}
GROUP BY 1 ORDER BY 1
