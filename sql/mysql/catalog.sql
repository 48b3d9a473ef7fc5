-- name: find_table
-- The table's identity and what decides how it may be altered; one row, or none where it does not exist.
SELECT CONCAT(t.table_schema, '.', t.table_name) AS oid, t.table_schema AS `schema`, t.table_name AS `name`,
       CASE WHEN t.table_type LIKE '%VIEW' THEN 'v' WHEN t.engine = 'InnoDB' THEN 'r' ELSE 'e' END AS kind,
       FALSE AS row_security, FALSE AS forced_row_security, SUBSTRING_INDEX(CURRENT_USER(), '@', 1) AS `owner`,
       TRUE AS visible, CAST(COALESCE(t.table_rows, 0) AS SIGNED) AS estimated_rows, FALSE AS versioned
FROM information_schema.tables t
WHERE t.table_schema = COALESCE(:schema, DATABASE()) AND t.table_name = :name

-- name: find_columns
-- The table's columns in order: type, collation, how a value comes about, and how it travels as a key.
{% if mariadb %}WITH json_checks AS {{ json_checks("n.constraint_schema = " ~ bind("schema") ~ " AND n.table_name = " ~ bind("name")) }}

{% endif %}
SELECT c.column_name AS `name`,
       {{ full_type("json_checks") }} AS type,
       CASE WHEN c.data_type IN ('tinyint', 'smallint', 'mediumint', 'int', 'bigint', 'decimal', 'float', 'double', 'year') THEN 'N'
            WHEN c.character_set_name IS NOT NULL THEN 'S' ELSE '' END AS category,
       NULL AS element, {{ full_type("json_checks") }} AS base_type,
       CASE WHEN c.data_type IN ('bit', 'enum', 'set') THEN 'ORDINAL'
            WHEN c.character_set_name IS NOT NULL THEN 'TEXT'
            WHEN c.data_type LIKE '%binary' OR c.data_type LIKE '%blob' THEN 'HEX'
            WHEN c.data_type = 'year' OR c.column_type LIKE '%int%unsigned%' THEN 'UNSIGNED'
            WHEN c.data_type LIKE '%int' THEN 'SIGNED'
            WHEN c.data_type = 'decimal' THEN CONCAT('DECIMAL(', c.numeric_precision, ',', c.numeric_scale, ')')
            WHEN c.data_type IN ('datetime', 'timestamp') THEN 'DATETIME(6)'
            WHEN c.data_type = 'time' THEN 'TIME(6)' ELSE c.data_type END AS cast_type,
       c.is_nullable = 'NO' AS not_null, c.extra LIKE '%GENERATED%' AND c.extra NOT LIKE '%DEFAULT_GENERATED%' AS `generated`,
       c.extra LIKE '%auto_increment%' AS `identity`, c.column_default AS default_text, CAST(c.ordinal_position AS SIGNED) AS number,
       c.collation_name IS NULL OR c.collation_name LIKE '%\_bin' AS `deterministic`, c.collation_name AS collation,
       c.extra LIKE '%on update%' AS moves, FIND_IN_SET('select', c.privileges) > 0 AND FIND_IN_SET('update', c.privileges) > 0 AS settable
FROM information_schema.columns c WHERE c.table_schema = :schema AND c.table_name = :name
ORDER BY c.ordinal_position

-- name: name_account
-- This account, as GRANT takes it.
SELECT {{ account() }}

-- name: find_unique_keys
-- Unique indexes that can serve as a key: whole columns only; the primary key first.
SELECT s.index_name AS `index`, s.index_name = 'PRIMARY' AS is_primary,
       CONCAT('[', GROUP_CONCAT(JSON_QUOTE(s.column_name) ORDER BY s.seq_in_index), ']') AS `columns`,
       MAX(s.nullable = 'YES') = 0 AS not_null
FROM information_schema.statistics s
WHERE s.table_schema = :schema AND s.table_name = :name AND s.non_unique = 0
GROUP BY s.index_name HAVING COUNT(s.column_name) = COUNT(*) AND COUNT(s.sub_part) = 0 AND MAX(s.index_type) = 'BTREE'
ORDER BY s.index_name = 'PRIMARY' DESC, COUNT(*), s.index_name

-- name: find_partitions
-- None: an index of a partitioned table covers its partitions.
SELECT NULL AS oid, NULL AS `schema`, NULL AS `name`, NULL AS leaf, NULL AS level, NULL AS parent FROM DUAL WHERE :oid IS NULL

-- name: find_triggers
-- The application's row triggers that an UPDATE fires.
SELECT t.trigger_name AS `name`, '' AS `function`, t.action_timing = 'BEFORE' AS `before`, TRUE AS enabled,
       '' AS `columns`, CONCAT(t.action_timing, ' UPDATE FOR EACH ROW ', t.action_statement) AS definition
FROM information_schema.triggers t
WHERE t.event_object_schema = :schema AND t.event_object_table = :name AND t.event_manipulation = 'UPDATE'
ORDER BY t.action_timing = 'BEFORE' DESC, t.action_order

-- name: find_function
-- The function of that name; a scalar is all that a function of MySQL answers.
SELECT CONCAT(r.routine_schema, '.', r.routine_name) AS oid, r.routine_schema AS `schema`, r.routine_name AS `name`,
       (SELECT COUNT(*) FROM information_schema.parameters p WHERE p.specific_schema = r.routine_schema
          AND p.specific_name = r.specific_name AND p.routine_type = 'FUNCTION' AND p.ordinal_position > 0) AS arguments,
       0 AS defaults,
       (SELECT CONCAT('[', GROUP_CONCAT(JSON_QUOTE(p.parameter_name) ORDER BY p.ordinal_position), ']')
        FROM information_schema.parameters p WHERE p.specific_schema = r.routine_schema
          AND p.specific_name = r.specific_name AND p.routine_type = 'FUNCTION' AND p.ordinal_position > 0) AS argument_names,
       r.dtd_identifier AS `returns`, 'b' AS returns_kind, FALSE AS returns_set,
       CASE r.is_deterministic WHEN 'YES' THEN 'i' ELSE 'v' END AS volatility, 'u' AS `parallel`, 1.0e0 AS cost,
       'sql' AS `language`, COALESCE(r.routine_definition, '') AS `source`, FALSE AS `variadic`, r.dtd_identifier AS `result`,
       FALSE AS out_record, TRUE AS executable, TRUE AS batch_mode, NULL AS `fields`, NULL AS out_names,
       r.routine_comment AS comment, NULL AS `array`
FROM information_schema.routines r
WHERE r.routine_type = 'FUNCTION' AND r.routine_schema = COALESCE(:schema, DATABASE()) AND r.routine_name = :name

-- name: describe_expressions
-- The expressions over the table, never run: the driver reads their types from the answer's description.
SELECT {% for expression in expressions %}{{ expression }} AS `i{{ loop.index }}`{{ ", " if not loop.last }}{% endfor %}
 FROM {{ table }} AS c LIMIT 0
