-- name: find_abilities
-- What this role may do to the table, and what the table is to others.
SELECT current_setting('server_version_num')::int >= 150000 AS security_invoker, current_user::text AS role,
       pg_has_role(c.relowner, 'USAGE') AS owns_table, pg_get_userbyid(c.relowner)::text AS owner,
       has_schema_privilege(c.relnamespace, 'CREATE') AS may_create_index,
       coalesce(has_schema_privilege(to_regnamespace(quote_ident(:view_schema))::oid, 'CREATE'), false) AS may_create_view,
       c.relispartition AS is_partition,
       c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits h WHERE h.inhparent = c.oid) AS has_children
FROM pg_class c WHERE c.oid = :oid

-- name: find_marked_columns
-- Columns that bear rowscore's mark, in all tables: who made them and what for.
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS table, a.attname AS column, d.description AS comment
FROM pg_description d
JOIN pg_class c ON c.oid = d.objoid AND c.relkind IN ('r', 'p') JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND NOT a.attisdropped
WHERE d.classoid = 'pg_class'::regclass AND d.objsubid > 0 AND starts_with(d.description, :prefix)
ORDER BY n.nspname, c.relname, a.attnum

-- name: find_partition_keys
-- Columns that decide in which partition a row lives.
SELECT DISTINCT a.attname::text AS name
FROM pg_partition_tree(:oid) t JOIN pg_partitioned_table p ON p.partrelid = t.relid
JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs::smallint[])

-- name: find_costly_type
-- Whether a new column of this type would not simply be NULL everywhere: a default or a constraint rewrites the table.
WITH RECURSIVE chain AS (
  SELECT t.oid, t.typbasetype, t.typdefault, t.typnotnull FROM pg_type t WHERE t.oid = to_regtype(:type)
  UNION ALL
  SELECT t.oid, t.typbasetype, t.typdefault, t.typnotnull FROM chain c JOIN pg_type t ON t.oid = c.typbasetype
)
SELECT coalesce(bool_or(c.typnotnull OR c.typdefault IS NOT NULL
                        OR EXISTS (SELECT FROM pg_constraint k WHERE k.contypid = c.oid)), false)
FROM chain c

-- name: find_relations
-- The table and all partitions below it, parents first.
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, c.relkind AS kind, t.parent::bigint AS parent
FROM (SELECT p.relid, p.parentrelid::oid AS parent, p.level FROM pg_partition_tree(:oid) p WHERE p.level > 0
      UNION ALL SELECT CAST(:oid AS oid), NULL, 0) AS t(relid, parent, level)
JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY t.level, n.nspname, c.relname

-- name: find_pending_indexes
-- Indexes of ours on the table and its partitions: by name, or as parts of a partitioned one; whether they are as wanted.
SELECT i.indexrelid::oid::bigint AS oid, i.indrelid::oid::bigint AS relation, n.nspname AS schema, c.relname AS name,
       i.indisvalid AND i.indisready AS valid, h.inhparent::oid::bigint AS parent,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(number, place)
             LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number ORDER BY k.place)
         = CAST(:state AS text) || CAST(:key AS text[])
       AND NOT EXISTS (SELECT FROM unnest(i.indoption::smallint[]) WITH ORDINALITY AS o(option, place)
                       WHERE o.option <> CASE WHEN o.place = 1 THEN 0 ELSE 2 END)
       AND coalesce(pg_get_expr(i.indpred, i.indrelid) = '(' || quote_ident(:state) || ' = 0)', false) AS fits
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid
WHERE i.indrelid = ANY (CAST(:relations AS oid[])) AND (c.relname = ANY (CAST(:names AS text[])) OR h.inhparent IS NOT NULL)
ORDER BY i.indexrelid

-- name: find_staleness_trigger
-- Our trigger on the table, with its mark.
SELECT obj_description(t.oid, 'pg_trigger') AS comment, t.tgenabled <> 'D' AS enabled
FROM pg_trigger t WHERE t.tgrelid = :oid AND t.tgname = :trigger AND NOT t.tgisinternal

-- name: find_staleness_function
-- Our trigger function's mark.
SELECT obj_description(p.oid, 'pg_proc') AS comment
FROM pg_proc p WHERE p.pronamespace = to_regnamespace('rowscore') AND p.proname = :function

-- name: probe_expressions
-- Lets PostgreSQL parse the expressions over the table; only ever made in a transaction that is rolled back.
CREATE TEMPORARY VIEW "rowscore$probe" AS
SELECT {% for expression in expressions %}({{ expression }}) AS "e{{ loop.index }}"{{ ", " if not loop.last }}{% endfor %} FROM {{ table }} AS c

-- name: read_probe
-- The columns that the probe's expressions read.
SELECT a.attname::text AS name FROM pg_rewrite r
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE r.ev_class = 'pg_temp."rowscore$probe"'::regclass AND d.refclassid = 'pg_class'::regclass
  AND d.refobjid = :oid AND d.refobjsubid > 0

-- name: read_probe_whole_row
-- Whether an expression takes the row as a whole; dependencies do not tell.
SELECT r.ev_action::text ~ '[:]varattno 0 ' FROM pg_rewrite r WHERE r.ev_class = 'pg_temp."rowscore$probe"'::regclass

-- name: find_generated
-- Generated columns and the columns that each is generated from.
SELECT g.attname::text AS name, a.attname::text AS source
FROM pg_attribute g JOIN pg_attrdef f ON f.adrelid = g.attrelid AND f.adnum = g.attnum
JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass
  AND d.refobjid = g.attrelid AND d.refobjsubid > 0 AND d.refobjsubid <> g.attnum
JOIN pg_attribute a ON a.attrelid = g.attrelid AND a.attnum = d.refobjsubid
WHERE g.attrelid = :oid AND g.attgenerated <> '' ORDER BY 1, 2

-- name: find_column_dependents
-- What stops the columns from being dropped: objects that others made upon them.
SELECT DISTINCT CASE WHEN r.oid IS NULL THEN pg_describe_object(d.classid, d.objid, d.objsubid)
                     ELSE pg_describe_object('pg_class'::regclass, r.ev_class, 0) END AS description
FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
LEFT JOIN pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = :oid AND a.attname = ANY (CAST(:columns AS text[]))
  AND d.deptype = 'n' AND t.tgname IS DISTINCT FROM :trigger
  AND coalesce(r.ev_class, 0)::bigint <> ALL (CAST(:own_views AS bigint[]))
ORDER BY 1

-- name: find_blockers
-- Sessions that hold locks on the table or its partitions, or rowscore's own lock; the longest transaction first.
SELECT DISTINCT a.pid, a.usename::text AS role, a.state, a.xact_start, left(regexp_replace(a.query, '\s+', ' ', 'g'), 200) AS query,
       extract(epoch FROM clock_timestamp() - a.xact_start)::int AS seconds
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND l.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.locktype = 'relation' AND l.relation IN (
         SELECT u.oid FROM unnest(CAST(:relations AS oid[])) AS u(oid)
         UNION ALL SELECT p.relid::oid FROM unnest(CAST(:relations AS oid[])) AS u(oid) CROSS JOIN LATERAL pg_partition_tree(u.oid) p)
       OR l.locktype = 'advisory' AND l.classid = 7599103)
ORDER BY a.xact_start LIMIT 5

-- name: add_columns
-- All columns at once; the state is NOT NULL by a default that the catalogue holds, so no row is touched.
ALTER TABLE {{ table }}
{% for column in columns %}
  {{ ", " if not loop.first }}ADD COLUMN {{ column.name|id }} {{ column.type }}
{% if column.role == "state" %}
    NOT NULL DEFAULT {{ existing }}
{% endif %}
{% endfor %}

-- name: set_pending_default
-- Rows that come from now on wait to be scored.
ALTER TABLE {{ table }} ALTER COLUMN {{ state|id }} SET DEFAULT {{ pending }}

-- name: comment_column
-- The mark by which a later run knows what rowscore made; NULL where it lets go.
COMMENT ON COLUMN {{ table }}.{{ column|id }} IS {{ comment }}

-- name: rename_column
-- What takes a column to the name that the configuration has.
ALTER TABLE {{ table }} RENAME COLUMN {{ column|id }} TO {{ wanted|id }}

-- name: allow_null
-- What lets an output column be NULL; it takes no time.
ALTER TABLE {{ table }} ALTER COLUMN {{ column|id }} DROP NOT NULL

-- name: drop_columns
-- All at once; refused by the database where anything of the user's depends on one.
ALTER TABLE {{ table }}
{% for column in columns %}
  {{ ", " if not loop.first }}DROP COLUMN {{ column|id }}
{% endfor %}

-- name: create_pending_index
-- The rows that wait, in key order. The state leads and NULLS come FIRST so that no other index can take its place.
CREATE INDEX {{ "CONCURRENTLY " if concurrently }}{{ index|id }} ON {{ "ONLY " if only }}{{ table }} ({{ state|id }}{% for k in key %}, {{ k|id }} NULLS FIRST{% endfor %})
WHERE {{ state|id }} = {{ pending }}

-- name: drop_pending_index
-- Outside a transaction where it stands alone; with the table locked where it is partitioned.
DROP INDEX {{ "CONCURRENTLY " if concurrently }}IF EXISTS {{ schema|id }}.{{ index|id }}

-- name: attach_pending_index
-- Makes a partition's index a part of the index above it; the last part makes the whole valid.
ALTER INDEX {{ parent_schema|id }}.{{ parent|id }} ATTACH PARTITION {{ schema|id }}.{{ index|id }}

-- name: create_staleness_function
-- Calls no model and reads nothing: it only puts the row back into the queue.
CREATE OR REPLACE FUNCTION rowscore.{{ function|id }}() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS {{ body }}

-- name: staleness_body
-- The function's body.
BEGIN NEW.{{ state|id }} := {{ pending }}; RETURN NEW; END

-- name: create_staleness_trigger
-- Never UPDATE OF: another BEFORE trigger may change an input that the statement does not name.
CREATE TRIGGER {{ trigger|id }} BEFORE UPDATE ON {{ table }} FOR EACH ROW
WHEN (OLD.{{ state|id }} = NEW.{{ state|id }} AND NEW.{{ state|id }} <> {{ pending }} AND OLD.{{ scored_at|id }} IS NOT DISTINCT FROM NEW.{{ scored_at|id }} AND ({{ " OR ".join(changed) }}))
EXECUTE FUNCTION rowscore.{{ function|id }}()

-- name: column_changed
-- Types whose equality tells apart what their text does: 0.4 µs for 20 columns an UPDATE, 0.9 µs by image.
OLD.{{ column|id }} IS DISTINCT FROM NEW.{{ column|id }}

-- name: columns_changed_image
-- Takes types that have no equality (json, point) and equalities that are too wide (citext, interval).
ROW({% for column in columns %}OLD.{{ column.name|id }}{{ ", " if not loop.last }}{% endfor %})::record OPERATOR(pg_catalog.*<>) ROW({% for column in columns %}NEW.{{ column.name|id }}{{ ", " if not loop.last }}{% endfor %})::record

-- name: comment_trigger
-- The mark with the digest of the trigger's SQL.
COMMENT ON TRIGGER {{ trigger|id }} ON {{ table }} IS {{ comment }}

-- name: comment_function
-- The mark with the digest of the function's SQL.
COMMENT ON FUNCTION rowscore.{{ function|id }}() IS {{ comment }}

-- name: drop_staleness_trigger
-- For a moment no change of an input is noticed, under the lock that keeps changes out.
DROP TRIGGER IF EXISTS {{ trigger|id }} ON {{ table }}

-- name: drop_staleness_function
-- After its trigger.
DROP FUNCTION IF EXISTS rowscore.{{ function|id }}()

-- name: find_own_triggers
-- Tables that our trigger is on, found without the configuration.
SELECT n.nspname AS schema, c.relname AS table FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_proc p ON p.oid = t.tgfoid
WHERE t.tgname = :trigger AND t.tgparentid = 0 AND p.pronamespace = to_regnamespace('rowscore') AND p.proname = :function

-- name: find_own_indexes
-- Our pending indexes, found without the configuration: whole ones, and parts that were never attached.
SELECT n.nspname AS schema, c.relname AS name, i.indrelid::regclass::text AS table, c.relkind = 'I' AS partitioned
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_index i ON i.indexrelid = c.oid
WHERE c.relkind IN ('i', 'I') AND NOT c.relispartition
  AND (c.relname = :index OR c.relname ~ ('^' || :stem || '_[0-9a-f]{8}$'))
ORDER BY c.relname

-- name: count_own_objects
-- What keeps the schema rowscore in use besides its own tables: trigger functions of other predictions.
SELECT count(*) FROM pg_proc p WHERE p.pronamespace = to_regnamespace('rowscore') AND p.proname <> :function

-- name: in_transaction
-- A change as the DBA runs it by hand: all of it or nothing, and never long in the queue for a lock.
BEGIN;
SET LOCAL lock_timeout = '2s';
{{ body }};
COMMIT;

-- name: find_older_transactions
-- What an index that is built concurrently waits for: transactions that were there first.
SELECT a.pid, a.usename::text AS role, a.state, left(regexp_replace(a.query, '\s+', ' ', 'g'), 200) AS query,
       extract(epoch FROM clock_timestamp() - a.xact_start)::int AS seconds
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
  AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL) AND a.xact_start < clock_timestamp() - interval '10 s'
ORDER BY a.xact_start LIMIT 5
