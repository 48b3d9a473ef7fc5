-- name: list_tables
-- The database's tables that rows could be scored in, each with its columns and the best key that rowscore could use.
{% if mariadb %}WITH json_checks AS {{ json_checks("n.constraint_schema = DATABASE()") }}

{% endif %}
SELECT CONCAT(t.table_schema, '.', t.table_name) AS oid, t.table_schema AS `schema`, t.table_name AS `name`, TRUE AS visible,
       CAST(COALESCE(t.table_rows, 0) AS SIGNED) AS estimated_rows, d.columns AS `columns`, k.columns AS `key`
FROM information_schema.tables t
JOIN (SELECT c.table_name, CONCAT('[', GROUP_CONCAT(JSON_OBJECT(
               'name', c.column_name, 'type', {{ full_type("json_checks") }}, 'base_type', CASE {{ full_type("json_checks") }} WHEN 'json' THEN 'json' ELSE {{ plain_type("c") }} END,
               'category', CASE WHEN c.data_type IN ('date', 'datetime', 'timestamp') THEN 'D' WHEN c.character_set_name IS NOT NULL THEN 'S' ELSE 'N' END,
               'made', c.extra LIKE '%auto_increment%' OR COALESCE(c.generation_expression, '') <> '')
             ORDER BY c.ordinal_position), ']') AS columns
      FROM information_schema.columns c WHERE c.table_schema = DATABASE() GROUP BY c.table_name) AS d ON d.table_name = t.table_name
LEFT JOIN (SELECT i.*, ROW_NUMBER() OVER (PARTITION BY i.table_name ORDER BY i.is_primary DESC, i.width, i.index_name) AS place
           FROM (SELECT s.table_name, s.index_name, s.index_name = 'PRIMARY' AS is_primary, COUNT(*) AS width,
                        CONCAT('[', GROUP_CONCAT(JSON_QUOTE(s.column_name) ORDER BY s.seq_in_index), ']') AS columns
                 FROM information_schema.statistics s WHERE s.table_schema = DATABASE() AND s.non_unique = 0
                 GROUP BY s.table_name, s.index_name
                 HAVING COUNT(s.column_name) = COUNT(*) AND COUNT(s.sub_part) = 0 AND MAX(s.index_type) = 'BTREE'
                    AND MAX(s.nullable = 'YES') = 0) AS i) AS k
  ON k.table_name = t.table_name AND k.place = 1
WHERE t.table_schema = DATABASE() AND t.table_type = 'BASE TABLE' AND t.engine = 'InnoDB' AND LEFT(t.table_name, 9) <> 'rowscore_'
ORDER BY t.table_name

-- name: list_functions
-- The database's functions, with their arguments, answers and sources.
SELECT r.routine_schema AS `schema`, r.routine_name AS `name`, TRUE AS visible, p.names AS argument_names, p.types AS argument_types,
       {{ sized_type("r") }} AS `returns`, '[]' AS `fields`, COALESCE(r.routine_definition, '') AS source
FROM information_schema.routines r
JOIN (SELECT p.specific_name, CONCAT('[', GROUP_CONCAT(JSON_QUOTE(p.parameter_name) ORDER BY p.ordinal_position), ']') AS names,
             CONCAT('[', GROUP_CONCAT(JSON_QUOTE({{ plain_type("p", "dtd_identifier") }}) ORDER BY p.ordinal_position), ']') AS types
      FROM information_schema.parameters p
      WHERE p.specific_schema = DATABASE() AND p.routine_type = 'FUNCTION' AND p.ordinal_position > 0
      GROUP BY p.specific_name) AS p ON p.specific_name = r.specific_name
WHERE r.routine_schema = DATABASE() AND r.routine_type = 'FUNCTION'
ORDER BY r.routine_name

-- name: list_insert_triggers
-- Triggers that an INSERT into the database's tables fires, or into one table, with their bodies and what drops each.
SELECT CONCAT(t.event_object_schema, '.', t.event_object_table) AS table_oid, t.trigger_name AS `name`, t.action_timing = 'BEFORE' AS `before`,
       t.action_statement AS source, CONCAT('DROP TRIGGER ', {{ identifier("t.trigger_schema") }}, '.', {{ identifier("t.trigger_name") }}, ';') AS removal
FROM information_schema.triggers t WHERE t.event_manipulation = 'INSERT'
  AND {% if of_table %}t.event_object_schema = :schema AND t.event_object_table = :name{% else %}t.event_object_schema = DATABASE(){% endif %}

ORDER BY t.event_object_schema, t.event_object_table, t.action_timing = 'BEFORE' DESC, t.action_order
