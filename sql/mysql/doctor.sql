-- name: find_server
-- What the server is, and what this account and this session are to it.
SELECT {% if mariadb %}'MariaDB'{% else %}CASE WHEN {{ is_aurora() }} THEN 'Aurora MySQL' ELSE 'MySQL' END{% endif %} AS product,
       CAST(SUBSTRING_INDEX(VERSION(), '.', 1) * 10000 + SUBSTRING_INDEX(SUBSTRING_INDEX(VERSION(), '.', 2), '.', -1) * 100 AS SIGNED) AS version_number,
       SUBSTRING_INDEX(VERSION(), '-', 1) AS version, {{ "FALSE" if mariadb else is_aurora() }} AS aurora,
       CURRENT_USER() AS role, {{ account() }} AS quoted_role, DATABASE() AS `database`,
       @@GLOBAL.innodb_read_only OR @@GLOBAL.read_only AS replica, @@SESSION.{{ "tx_read_only" if mariadb else "transaction_read_only" }} AS read_only,
       LOWER(REPLACE(@@GLOBAL.{{ "tx_isolation" if mariadb else "transaction_isolation" }}, '-', ' ')) AS isolation, @@port AS port,
       FALSE AS local, TRUE AS readers_rights

-- name: locate_tables
-- The table of that name, as far as this account may see it at all.
SELECT CONCAT(t.table_schema, '.', t.table_name) AS oid, t.table_schema AS `schema`, {{ identifier("t.table_schema") }} AS quoted_schema,
       t.table_name AS `name`, CONCAT({{ identifier("t.table_schema") }}, '.', {{ identifier("t.table_name") }}) AS target,
       TRUE AS usable, TRUE AS visible, NULL AS `owner`, TRUE AS owned,
       EXISTS (SELECT 1 FROM information_schema.columns c
               WHERE c.table_schema = COALESCE(:schema, DATABASE()) AND c.table_name = :name AND FIND_IN_SET('select', c.privileges)) AS readable
FROM information_schema.tables t WHERE t.table_name = :name AND t.table_schema = COALESCE(:schema, DATABASE())

-- name: try_table
-- Reads no row: the server tells whether this account may not read the table, or sees none of that name.
SELECT 1 FROM {{ relation }} LIMIT 0

-- name: try_column
-- The same for a column, which is hidden from who may do nothing with it.
SELECT c.{{ column|id }} FROM {{ relation }} AS c LIMIT 0

-- name: find_column_privileges
-- What this account, with its active roles, may do with each column of the table, of those that it sees.
SELECT c.column_name AS `name`, {{ identifier("c.column_name") }} AS quoted,
       FIND_IN_SET('select', c.privileges) > 0 AS readable, FIND_IN_SET('update', c.privileges) > 0 AS writable
FROM information_schema.columns c WHERE c.table_schema = :schema AND c.table_name = :name ORDER BY c.ordinal_position

-- name: find_noted
-- Columns that move by themselves, as whoever applied the prediction saw them.
SELECT JSON_EXTRACT(p.definition, '$.held') AS held FROM rowscore_prediction p WHERE p.name = :prediction

-- name: find_own_privileges
-- Which of rowscore's own tables this account sees, and which of those it may not read and write.
SELECT COUNT(*) > 0 AS there, TRUE AS usable,
       CONCAT('[', COALESCE(GROUP_CONCAT(CASE WHEN NOT o.enough THEN JSON_QUOTE(o.name) END ORDER BY o.name), ''), ']') AS lacking,
       CONCAT('[', COALESCE(GROUP_CONCAT(JSON_QUOTE(o.name) ORDER BY o.name), ''), ']') AS seen
FROM ({% for name in ("alembic_version", "batch", "circuit", "failure", "learned", "lease", "prediction", "run", "throttle") %}
{{ "UNION ALL " if not loop.first }}SELECT c.table_name AS name,
             MIN(FIND_IN_SET('select', c.privileges) > 0
                 AND (c.table_name = 'rowscore_alembic_version'
                      OR FIND_IN_SET('insert', c.privileges) > 0 AND FIND_IN_SET('update', c.privileges) > 0)) AS enough
      FROM information_schema.columns c
      WHERE c.table_schema = DATABASE() AND c.table_name = 'rowscore_{{ name }}' GROUP BY c.table_name
{% endfor %}) AS o

-- name: try_delete
-- Planned and never run: the server tells whether rows of the table may be deleted, whatever grants that.
EXPLAIN DELETE FROM {{ relation|id }} WHERE FALSE

-- name: locate_functions
-- Functions of that name that this account sees: it does not where it may not call them.
SELECT CONCAT(r.routine_schema, '.', r.routine_name) AS oid, {{ identifier("r.routine_schema") }} AS quoted_schema, r.routine_name AS `name`,
       r.security_type = 'DEFINER' AS as_owner,
       CONCAT({{ identifier("r.routine_schema") }}, '.', {{ identifier("r.routine_name") }}) AS signature,
       TRUE AS usable, TRUE AS executable, TRUE AS visible, COALESCE(r.routine_definition, '') AS source
FROM information_schema.routines r
WHERE r.routine_type = 'FUNCTION' AND r.routine_name = :name AND r.routine_schema = COALESCE(:schema, DATABASE())

-- name: try_function
-- Asks for a function that this account does not see, planned and never called: the error tells why it sees none.
EXPLAIN SELECT {{ function }}({% for _ in inputs %}NULL{{ ", " if not loop.last }}{% endfor %})

-- name: describe_answers
-- The function's answers to the inputs, never run: the server says whether it takes them.
SELECT {{ call(function, inputs) }} FROM {{ table }} AS c LIMIT 0

-- name: find_view_rights
-- The view, and whether it checks the reader's rights instead of its definer's.
SELECT t.table_type = 'VIEW' AS is_view,
       COALESCE((SELECT v.security_type = 'INVOKER' FROM information_schema.views v
                 WHERE v.table_schema = :schema AND v.table_name = :name), FALSE) AS as_reader
FROM information_schema.tables t
WHERE t.table_schema = :schema AND t.table_name = :name

-- name: find_old_snapshots
-- Transactions that keep old row versions from being purged, prepared ones included; the oldest first.
SELECT x.trx_mysql_thread_id AS pid, CASE x.trx_mysql_thread_id WHEN 0 THEN 'of XA RECOVER' END AS gid, p.user AS role, NULL AS application, LOWER(p.command) AS state,
       TIMESTAMPDIFF(SECOND, x.trx_started, NOW()) AS seconds
FROM information_schema.innodb_trx x LEFT JOIN information_schema.processlist p ON p.id = x.trx_mysql_thread_id
WHERE x.trx_mysql_thread_id <> CONNECTION_ID() AND (p.id IS NOT NULL OR x.trx_mysql_thread_id = 0)
  AND x.trx_started < NOW() - INTERVAL :older_than SECOND
ORDER BY x.trx_started LIMIT 5

-- name: find_history
-- How many transactions' old row versions wait to be purged.
SELECT CAST(m.count AS SIGNED) FROM information_schema.innodb_metrics m WHERE m.name = 'trx_rseg_history_len'

-- name: find_replication
-- What the binary log asks of statements.
SHOW GLOBAL VARIABLES WHERE Variable_name IN ('log_bin', 'binlog_format', 'log_bin_trust_function_creators')

-- name: find_model_counters
-- Aurora's counters of its machine learning since the server started; no row anywhere else.
SHOW GLOBAL STATUS LIKE 'Aurora_ml%'
