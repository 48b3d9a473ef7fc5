-- name: find_abilities
-- What the table is to others; what the role may do, `find_missing_grants` says.
SELECT TRUE AS security_invoker, CURRENT_USER() AS role, TRUE AS owns_table, CURRENT_USER() AS `owner`,
       TRUE AS may_create_index, TRUE AS may_create_view, FALSE AS is_partition, FALSE AS has_children

-- name: find_missing_grants
-- Privileges that the account lacks on the table, the view's database and rowscore's own; an active role counts as all.
WITH wanted AS (
  SELECT 'table' AS `on`, 'SELECT' AS privilege UNION ALL SELECT 'table', 'UPDATE' UNION ALL SELECT 'table', 'ALTER'
  UNION ALL SELECT 'table', 'INDEX'
{% if trigger %}
  UNION ALL SELECT 'table', 'TRIGGER'
{% endif %}
  UNION ALL SELECT 'database', 'LOCK TABLES'
{% if view %}
  UNION ALL SELECT 'view', 'CREATE VIEW' UNION ALL SELECT 'view', 'SHOW VIEW' UNION ALL SELECT 'view', 'DROP'
{% endif %}
{% if function %}
  UNION ALL SELECT 'function', 'CREATE ROUTINE' UNION ALL SELECT 'function', 'ALTER ROUTINE'
{% endif %}
  UNION ALL SELECT 'own', 'CREATE' UNION ALL SELECT 'own', 'ALTER' UNION ALL SELECT 'own', 'INDEX' UNION ALL SELECT 'own', 'REFERENCES'
  UNION ALL SELECT 'own', 'SELECT' UNION ALL SELECT 'own', 'INSERT' UNION ALL SELECT 'own', 'UPDATE' UNION ALL SELECT 'own', 'DELETE'
), placed AS (
  SELECT w.privilege, CASE w.`on` WHEN 'view' THEN :view_schema WHEN 'function' THEN :function_schema WHEN 'own' THEN DATABASE() ELSE :schema END AS `schema`,
         CASE w.`on` WHEN 'table' THEN :name END AS `name` FROM wanted w
), me AS (
  SELECT CONCAT('''', LEFT(CURRENT_USER(), CHAR_LENGTH(CURRENT_USER()) - 1 - CHAR_LENGTH(SUBSTRING_INDEX(CURRENT_USER(), '@', -1))),
                '''@''', SUBSTRING_INDEX(CURRENT_USER(), '@', -1), '''') AS grantee
)
SELECT p.privilege, p.`schema`, p.`name`, me.grantee FROM placed p CROSS JOIN me
WHERE COALESCE(CURRENT_ROLE(), 'NONE') = 'NONE'
  AND NOT EXISTS (SELECT 1 FROM information_schema.user_privileges u WHERE u.grantee = me.grantee AND u.privilege_type = p.privilege)
  AND NOT EXISTS (SELECT 1 FROM information_schema.schema_privileges s
                  WHERE (s.grantee = me.grantee OR s.grantee LIKE '%PUBLIC%') AND s.privilege_type = p.privilege AND p.`schema` LIKE s.table_schema)
  AND NOT EXISTS (SELECT 1 FROM information_schema.table_privileges t
                  WHERE (t.grantee = me.grantee OR t.grantee LIKE '%PUBLIC%') AND t.privilege_type = p.privilege
                    AND t.table_schema = p.`schema` AND t.table_name = p.`name`)
ORDER BY p.`name` IS NULL, p.`schema`, p.privilege

-- name: grant_missing
-- What whoever may has to run.
GRANT {{ privileges }} ON {{ target }} TO {{ grantee }}

-- name: find_trigger_obstacle
-- Whether the server lets none but SUPER make a trigger, for the sake of the binary log, and the account has it not.
SELECT @@log_bin AND NOT @@log_bin_trust_function_creators AND COALESCE(CURRENT_ROLE(), 'NONE') = 'NONE' AND NOT EXISTS (
  SELECT 1 FROM information_schema.user_privileges u
  WHERE u.grantee = CONCAT('''', LEFT(CURRENT_USER(), CHAR_LENGTH(CURRENT_USER()) - 1 - CHAR_LENGTH(SUBSTRING_INDEX(CURRENT_USER(), '@', -1))),
                           '''@''', SUBSTRING_INDEX(CURRENT_USER(), '@', -1), '''') AND u.privilege_type = 'SUPER')

-- name: find_marked_columns
-- Columns that bear rowscore's mark, in this database and in the tables of others that this one's predictions name.
SELECT q.oid, q.`schema`, q.`table`, q.`column`, q.comment FROM (
{% for number in parts %}
{{ "UNION ALL " if number }}SELECT CONCAT(c.table_schema, '.', c.table_name) AS oid, c.table_schema AS `schema`, c.table_name AS `table`,
       c.column_name AS `column`, c.column_comment AS comment, c.ordinal_position AS place
FROM information_schema.columns c
WHERE LEFT(c.column_comment, CHAR_LENGTH(:prefix)) = :prefix AND {{ here_or_named("c.table_schema", "c.table_name", number) }}

{% endfor %}) AS q
ORDER BY q.`schema`, q.`table`, q.place

-- name: find_partition_keys
-- Columns that decide in which partition a row lives.
SELECT DISTINCT c.column_name AS name
FROM information_schema.partitions p
JOIN information_schema.columns c ON c.table_schema = :schema AND c.table_name = :name
WHERE p.table_schema = :schema AND p.table_name = :name AND p.partition_name IS NOT NULL
  AND INSTR(CONCAT_WS(' ', p.partition_expression, p.subpartition_expression), CONCAT('`', REPLACE(c.column_name, '`', '``'), '`')) > 0

-- name: find_costly_type
-- No type has a default or a constraint of its own.
SELECT FALSE

-- name: find_relations
-- The table alone: its partitions share its columns and indexes.
SELECT :oid AS oid, :schema AS `schema`, :name AS `name`, 'r' AS kind, NULL AS parent

-- name: find_pending_indexes
-- Our index on the table, by name; whether it is as wanted.
SELECT CONCAT(:oid, '.', s.index_name) AS oid, :oid AS relation, s.table_schema AS `schema`, s.index_name AS `name`,
       MAX({{ "s.ignored = 'YES'" if mariadb else "s.is_visible = 'NO'" }}) = 0 AS valid, NULL AS parent,
       CONCAT('[', GROUP_CONCAT(COALESCE(JSON_QUOTE(s.column_name), 'null') ORDER BY s.seq_in_index SEPARATOR ', '), ']')
         = CONCAT('[', JSON_QUOTE(:state), ', ', SUBSTR(JSON_ARRAY :key, 2))
       AND COUNT(s.sub_part) = 0 AND SUM(s.collation = 'A') = COUNT(*) AND MAX(s.index_type) = 'BTREE' AS fits
FROM information_schema.statistics s
WHERE s.table_schema = :schema AND s.table_name = :name AND s.index_name IN :names
GROUP BY s.table_schema, s.index_name

-- name: find_staleness_trigger
-- Our trigger on the table, with its mark; in force where none of the application's comes after it.
SELECT REGEXP_SUBSTR(t.action_statement, 'maintained by rowscore: prediction [a-z0-9_]+, trigger [0-9a-f]{12}') AS comment,
       NOT EXISTS (SELECT 1 FROM information_schema.triggers o
                   WHERE o.event_object_schema = :schema AND o.event_object_table = :name
                     AND o.event_manipulation = 'UPDATE' AND o.action_timing = 'BEFORE'
                     AND o.action_order > t.action_order AND LEFT(o.trigger_name, 13) <> 'zzz_rowscore_') AS enabled
FROM information_schema.triggers t
WHERE t.event_object_schema = :schema AND t.event_object_table = :name AND t.trigger_schema = :schema AND t.trigger_name = :trigger

-- name: find_generated
-- Generated columns and the columns that each is generated from.
SELECT g.column_name AS `name`, s.column_name AS `source`
FROM information_schema.columns g
JOIN information_schema.columns s ON s.table_schema = :schema AND s.table_name = :name AND s.column_name <> g.column_name
WHERE g.table_schema = :schema AND g.table_name = :name AND COALESCE(g.generation_expression, '') <> ''
  AND INSTR(g.generation_expression, CONCAT('`', REPLACE(s.column_name, '`', '``'), '`')) > 0
ORDER BY 1, 2

-- name: find_column_dependents
-- Views of others that read the columns, as far as their text tells; the server would drop the columns under them.
SELECT DISTINCT CONCAT('view ', v.table_schema, '.', v.table_name) AS description
FROM information_schema.columns c
JOIN information_schema.views v -- of any database: this one statement looks at all of the server's, and opens views alone
  ON INSTR(v.view_definition, CONCAT('`', REPLACE(c.table_schema, '`', '``'), '`.`', REPLACE(c.table_name, '`', '``'), '`')) > 0
 AND INSTR(v.view_definition, CONCAT('.`', REPLACE(c.column_name, '`', '``'), '`')) > 0
WHERE c.table_schema = :schema AND c.table_name = :name AND c.column_name IN :columns AND INSTR(v.view_definition, :view_mark) = 0
ORDER BY 1

-- name: find_blockers
-- Sessions that hold metadata locks on the table, or rowscore's own lock; the longest statement first.
{% if mariadb %}
SELECT DISTINCT p.id AS pid, p.user AS role, p.command AS state, LEFT(REGEXP_REPLACE(COALESCE(p.info, ''), '\\s+', ' '), 200) AS query,
       p.time AS seconds
FROM information_schema.processlist p
WHERE p.id <> CONNECTION_ID()
  AND (p.id IN (SELECT l.thread_id FROM information_schema.metadata_lock_info l
                WHERE CONCAT(l.table_schema, '.', l.table_name) IN :relations)
       OR p.id = IS_USED_LOCK(CONCAT('rowscore.', LEFT(SHA2(DATABASE(), 256), 48))))
ORDER BY p.time DESC LIMIT 5
{% else %}
SELECT t.processlist_id AS pid, t.processlist_user AS role, t.processlist_command AS state,
       LEFT(REGEXP_REPLACE(COALESCE(t.processlist_info, e.sql_text, ''), '\\s+', ' '), 200) AS query, t.processlist_time AS seconds
FROM performance_schema.threads t LEFT JOIN performance_schema.events_statements_current e
  ON e.thread_id = t.thread_id AND e.nesting_event_id IS NULL
WHERE t.processlist_id <> CONNECTION_ID()
  AND (t.thread_id IN (SELECT l.owner_thread_id FROM performance_schema.metadata_locks l
                       WHERE l.object_type = 'TABLE' AND l.lock_status = 'GRANTED'
                         AND CONCAT(l.object_schema, '.', l.object_name) IN :relations)
       OR t.processlist_id = IS_USED_LOCK(CONCAT('rowscore.', LEFT(SHA2(DATABASE(), 256), 48))))
ORDER BY t.processlist_time DESC LIMIT 5
{% endif %}

-- name: find_suspects
-- Where no table of locks tells: who holds rowscore's own lock, then the longest transactions.
SELECT p.id AS pid, p.user AS role, p.command AS state, LEFT(REGEXP_REPLACE(COALESCE(p.info, ''), '\\s+', ' '), 200) AS query,
       COALESCE(TIMESTAMPDIFF(SECOND, x.trx_started, NOW()), p.time) AS seconds
FROM information_schema.processlist p LEFT JOIN information_schema.innodb_trx x ON x.trx_mysql_thread_id = p.id
WHERE p.id <> CONNECTION_ID()
  AND (x.trx_id IS NOT NULL OR p.id = IS_USED_LOCK(CONCAT('rowscore.', LEFT(SHA2(DATABASE(), 256), 48))))
ORDER BY x.trx_id IS NOT NULL, x.trx_started LIMIT 5

-- name: find_older_transactions
-- What an index that is built online waits for at its end: transactions that may have read the table.
SELECT p.id AS pid, p.user AS role, p.command AS state, LEFT(REGEXP_REPLACE(COALESCE(p.info, ''), '\\s+', ' '), 200) AS query,
       TIMESTAMPDIFF(SECOND, x.trx_started, NOW()) AS seconds
FROM information_schema.innodb_trx x JOIN information_schema.processlist p ON p.id = x.trx_mysql_thread_id
WHERE p.id <> CONNECTION_ID() AND x.trx_started < NOW() - INTERVAL 10 SECOND
ORDER BY x.trx_started LIMIT 5

-- name: add_columns
-- All columns at once; old rows are existing by a default that the dictionary holds, so no row is touched.
ALTER TABLE {{ table }}
{% for column in columns %}
  {{ ", " if not loop.first }}ADD COLUMN {{ column.name|id }} {{ column.type }} {% if column.role == "state" %}NOT NULL DEFAULT {{ existing }}{% else %}NULL DEFAULT NULL{% endif %} COMMENT {{ column.comment }}
{% endfor %}
{% if not allow_copy %}
  , ALGORITHM=INSTANT
{% endif %}

-- name: set_pending_default
-- Rows that come from now on wait; in one statement with ADD COLUMN MySQL refuses it, and MariaDB makes all old rows wait.
ALTER TABLE {{ table }} ALTER COLUMN {{ state|id }} SET DEFAULT {{ pending }}

-- name: lock_table
-- DDL commits by itself: nobody may insert, or change an input, between two statements that belong together.
LOCK TABLES {{ table }} WRITE

-- name: unlock_table
-- Gives it back.
UNLOCK TABLES

-- name: rename_column
-- What takes a column to the name that the configuration has.
ALTER TABLE {{ table }} RENAME COLUMN {{ column|id }} TO {{ wanted|id }}

-- name: allow_null
-- What lets an output column be NULL.
ALTER TABLE {{ table }} MODIFY COLUMN {{ column|id }} {{ type }} NULL

-- name: show_table
-- The table's definition, of which a column's is a line.
SHOW CREATE TABLE {{ table }}

-- name: comment_column
-- The column as it is but for rowscore's mark, where it lets go.
ALTER TABLE {{ table }} MODIFY COLUMN {{ definition }}

-- name: drop_columns
-- All at once; refused by the server where a generated column or a constraint depends on one.
ALTER TABLE {{ table }}
{% for column in columns %}
  {{ ", " if not loop.first }}DROP COLUMN {{ column|id }}
{% endfor %}

-- name: create_pending_index
-- The rows that wait, in key order: the state leads.
ALTER TABLE {{ table }} ADD KEY {{ index|id }} ({{ state|id }}{% for k in key %}, {{ k|id }}{% endfor %}){{ "" if allow_copy else ", ALGORITHM=INPLACE, LOCK=NONE" }}

-- name: drop_pending_index
-- Reads and writes go on.
ALTER TABLE {{ table }} DROP KEY {{ index|id }}, ALGORITHM=INPLACE, LOCK=NONE

-- name: create_staleness_trigger
-- The last BEFORE UPDATE trigger. One statement needs no DELIMITER; clients strip comments, so the mark is a constant.
CREATE TRIGGER {{ schema|id }}.{{ trigger|id }} BEFORE UPDATE ON {{ table }} FOR EACH ROW
SET NEW.{{ state|id }} = CASE WHEN OLD.{{ state|id }} = NEW.{{ state|id }} AND NEW.{{ state|id }} <> {{ pending }} AND OLD.{{ scored_at|id }} <=> NEW.{{ scored_at|id }} AND {{ mark }} <> ''
  AND ({{ " OR ".join(changed) }}) THEN {{ pending }} ELSE NEW.{{ state|id }} END

-- name: column_changed
-- Types whose equality tells apart what their text does.
NOT (OLD.{{ column|id }} <=> NEW.{{ column|id }})

-- name: columns_changed_image
-- By their bytes: texts are equal under a collation where their letters differ. FLOAT by value: its text is rounded.
NOT ({% for column in columns %}{% if column.base_type.startswith("float") %}OLD.{{ column.name|id }} <=> NEW.{{ column.name|id }}{% elif column.type == "json" %}CAST(CAST(OLD.{{ column.name|id }} AS CHAR) AS BINARY) <=> CAST(CAST(NEW.{{ column.name|id }} AS CHAR) AS BINARY){% else %}CAST(OLD.{{ column.name|id }} AS BINARY) <=> CAST(NEW.{{ column.name|id }} AS BINARY){% endif %}{{ " AND " if not loop.last }}{% endfor %})

-- name: drop_staleness_trigger
-- For a moment no change of an input is noticed, under the lock that keeps changes out.
DROP TRIGGER IF EXISTS {{ schema|id }}.{{ trigger|id }}

-- name: find_own_triggers
-- Tables that our trigger is on, found without the configuration.
{% for number in parts %}
{{ "UNION ALL " if number }}SELECT t.event_object_schema AS `schema`, t.event_object_table AS `table` FROM information_schema.triggers t
WHERE t.trigger_name = :trigger AND INSTR(t.action_statement, 'maintained by rowscore: prediction ') > 0
  AND {{ here_or_named("t.event_object_schema", "t.event_object_table", number) }}

{% endfor %}

-- name: find_own_indexes
-- Our pending index, found without the configuration.
{% for number in parts %}
{{ "UNION ALL " if number }}SELECT DISTINCT s.table_schema AS `schema`, s.index_name AS `name`, s.table_name AS `table`, FALSE AS partitioned
FROM information_schema.statistics s WHERE s.index_name = :index AND {{ here_or_named("s.table_schema", "s.table_name", number) }}

{% endfor %}
ORDER BY 1, 3

-- name: count_own_objects
-- Nothing needs rowscore's own tables besides the predictions.
SELECT 0

-- name: in_transaction
-- Rows of rowscore's own tables as the DBA changes them by hand: all of it or nothing.
START TRANSACTION;
{{ body }};
COMMIT;

-- name: alone
-- DDL as the DBA runs it by hand: never long in the queue for a lock, behind which everybody else queues.
SET SESSION lock_wait_timeout = 2;
{{ body }};
