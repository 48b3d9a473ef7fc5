-- name: lock_pair
-- Both predictions' rows, one after the other in an order that all keep: who writes holds them shared until it is done.
SELECT name FROM rowscore_prediction WHERE name IN (:live, :shadow) ORDER BY name FOR UPDATE

-- name: cancel_runs
-- Backfills and rescores end: somebody agreed to pay for them with the other model.
UPDATE rowscore_run SET status = 'cancelled', finished_at = UTC_TIMESTAMP(6)
WHERE prediction IN (:live, :shadow) AND kind IN ('backfill', 'rescore') AND status IN ('running', 'paused')

-- name: void_pair
-- Workers of both lose their windows.
DELETE l FROM rowscore_lease l JOIN rowscore_run r ON r.id = l.run_id WHERE r.prediction IN (:live, :shadow)

-- name: rewind_pair
-- Other rows wait on each side: drains, and walks of verify, begin from the beginning.
UPDATE rowscore_run SET pos = NULL WHERE prediction IN (:live, :shadow) AND kind IN ('drain', 'verify')

-- name: switch_registration
-- Another definition, and a new generation under which answers of before are void.
UPDATE rowscore_prediction SET generation = generation + 1, definition_hash = :definition_hash, definition = :definition,
       version = :version, applied_at = UTC_TIMESTAMP(6)
WHERE name = :prediction

-- name: switch_own_rows
-- What is known of a model goes with it: runs and what they spent, failures, faults, sizes, the log; by a third name.
INSERT INTO rowscore_prediction (name, definition_hash, definition) VALUES ('$switch', '', '{}');
{% for own in ("run", "failure", "circuit", "learned", "batch") %}
UPDATE rowscore_{{ own }} SET prediction = '$switch' WHERE prediction = :live;
UPDATE rowscore_{{ own }} SET prediction = :live WHERE prediction = :shadow;
UPDATE rowscore_{{ own }} SET prediction = :shadow WHERE prediction = '$switch';
{% endfor %}
DELETE FROM rowscore_prediction WHERE name = '$switch'

-- name: read_definition
-- What is registered of one prediction.
SELECT p.definition FROM rowscore_prediction p WHERE p.name = :prediction

-- name: switch_columns
-- Columns and pending indexes take each other's names in one statement, which changes the dictionary alone.
ALTER TABLE {{ table }}
{% for column, definition in columns %}
  {{ ", " if not loop.first }}CHANGE COLUMN {{ column|id }} {{ definition }}
{% endfor %}
{% for one, other in indexes %}
  , RENAME INDEX {{ one|id }} TO {{ other|id }}, RENAME INDEX {{ other|id }} TO {{ one|id }}
{% endfor %}
{% if not allow_copy %}
  , ALGORITHM=INPLACE, LOCK=NONE
{% endif %}

-- name: find_bound
-- What others made upon the columns and follows them under their new names; views name them, and see the new values.
SELECT DISTINCT q.description FROM (
  SELECT CONCAT('index ', s.index_name) AS description FROM information_schema.statistics s
  WHERE s.table_schema = :schema AND s.table_name = :name AND s.index_name NOT IN :indexes AND s.column_name IN :columns
  UNION ALL
  SELECT CONCAT('foreign key ', k.constraint_name) FROM information_schema.key_column_usage k
  WHERE k.referenced_table_name IS NOT NULL
    AND k.table_schema = :schema -- those of other databases would have every table of the server opened
    AND (k.table_name = :name AND k.column_name IN :columns
         OR k.referenced_table_schema = :schema AND k.referenced_table_name = :name AND k.referenced_column_name IN :columns)
  UNION ALL
  SELECT CONCAT('generated column ', g.column_name)
  FROM information_schema.columns g JOIN information_schema.columns c
    ON INSTR(g.generation_expression, CONCAT('`', REPLACE(c.column_name, '`', '``'), '`')) > 0
  WHERE g.table_schema = :schema AND g.table_name = :name AND c.table_schema = :schema AND c.table_name = :name
    AND c.column_name IN :columns
  UNION ALL
  SELECT CONCAT('constraint ', k.constraint_name)
  FROM information_schema.check_constraints k JOIN information_schema.columns c
    ON INSTR(k.check_clause, CONCAT('`', REPLACE(c.column_name, '`', '``'), '`')) > 0
{% if mariadb %}
  WHERE k.constraint_schema = :schema AND k.table_name = :name
    AND NOT (k.level = 'Column' AND k.check_clause = CONCAT('json_valid(`', REPLACE(c.column_name, '`', '``'), '`)'))
{% else %}
  JOIN information_schema.table_constraints t
    ON t.constraint_schema = k.constraint_schema AND t.constraint_name = k.constraint_name AND t.constraint_type = 'CHECK'
  WHERE t.table_schema = :schema AND t.table_name = :name
{% endif %}
    AND c.table_schema = :schema AND c.table_name = :name AND c.column_name IN :columns
{% if not mariadb %}
  UNION ALL
  SELECT CONCAT('index ', s.index_name) FROM information_schema.statistics s JOIN information_schema.columns c
    ON INSTR(s.expression, CONCAT('`', REPLACE(c.column_name, '`', '``'), '`')) > 0
  WHERE s.table_schema = :schema AND s.table_name = :name AND c.table_schema = :schema AND c.table_name = :name
    AND c.column_name IN :columns
{% endif %}
) AS q ORDER BY 1

-- name: count_unscored
-- Rows that the one has scored and the other has not, by what the other says of them; reads the table.
SELECT c.{{ other|id }} AS state, COUNT(*) AS `rows` FROM {{ table }} AS c
WHERE c.{{ state|id }} = {{ states.SCORED.value }} AND c.{{ other|id }} <> {{ states.SCORED.value }}
GROUP BY 1 ORDER BY 1
