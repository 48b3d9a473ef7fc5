-- name: find_own_schema
-- Which of rowscore's own tables are there: DDL commits by itself, so a crash may have left some.
SELECT TRUE AS schema_exists, COALESCE(MAX(t.table_name = 'rowscore_alembic_version'), FALSE) AS migrated, COUNT(*) > 0 AS remains,
       COUNT(*) = 8 AS registrable, TRUE AS may_create_schema, DATABASE() AS `database`, CURRENT_USER() AS role
FROM information_schema.tables t
WHERE t.table_schema = DATABASE()
  AND t.table_name IN ('rowscore_alembic_version', 'rowscore_prediction', 'rowscore_run', 'rowscore_lease', 'rowscore_failure',
                       'rowscore_circuit', 'rowscore_learned', 'rowscore_batch')

-- name: find_revision
-- The migration that rowscore's own tables stand at.
SELECT version_num FROM rowscore_alembic_version

-- name: find_own_parts
-- The columns and indexes of rowscore's own tables: DDL commits by itself, so a migration that died has made some of them.
SELECT c.table_name AS `table`, 'column' AS kind, c.column_name AS name
FROM information_schema.columns c WHERE c.table_schema = DATABASE() AND c.table_name LIKE 'rowscore\_%'
UNION ALL
SELECT DISTINCT s.table_name, 'index', s.index_name
FROM information_schema.statistics s WHERE s.table_schema = DATABASE() AND s.table_name LIKE 'rowscore\_%'

-- name: lock_plans
-- One at a time migrates, applies or removes; DDL commits, so the lock is the session's and is given back by name.
SELECT GET_LOCK(CONCAT('rowscore.', LEFT(SHA2(DATABASE(), 256), 48)), :patience)

-- name: keep_plans
-- Before the lock is given back, which is not the transaction's: whoever gets it next must see what was done.
COMMIT

-- name: unlock_plans
-- Gives the lock back.
SELECT RELEASE_LOCK(CONCAT('rowscore.', LEFT(SHA2(DATABASE(), 256), 48)))

-- name: drop_own_tables
-- All that are there, the version first: what a crash leaves of it counts as never finished, and is dropped again.
DROP TABLE IF EXISTS rowscore_alembic_version, rowscore_throttle, rowscore_batch, rowscore_learned, rowscore_circuit, rowscore_failure, rowscore_lease,
  rowscore_run, rowscore_prediction

-- name: find_registrations
-- What is registered, and whether the rows that belong to it are there.
SELECT p.name, p.definition_hash, p.version, p.definition,
       EXISTS (SELECT 1 FROM rowscore_run r WHERE r.prediction = p.name AND r.kind = 'drain' AND r.status = 'running')
   AND EXISTS (SELECT 1 FROM rowscore_circuit c WHERE c.prediction = p.name)
   AND EXISTS (SELECT 1 FROM rowscore_learned l WHERE l.prediction = p.name) AS complete
FROM rowscore_prediction p ORDER BY p.name

-- name: lock_registration
-- The prediction's row alone and first: workers that lease hold it shared, and their leases are seen afterwards.
SELECT generation FROM rowscore_prediction WHERE name = :prediction FOR UPDATE

-- name: cancel_outdated_backfills
-- A backfill goes on only under the definition that somebody agreed to pay for, a rescore only with its model version.
UPDATE rowscore_run r JOIN rowscore_prediction p ON p.name = r.prediction
SET r.status = 'cancelled', r.finished_at = UTC_TIMESTAMP(6)
WHERE p.name = :prediction AND r.status IN ('running', 'paused')
  AND (r.kind IN ('backfill', 'rescore') AND p.definition_hash <> :definition_hash OR r.kind = 'rescore' AND NOT (p.version <=> :version))

-- name: void_outdated_leases
-- Workers of the old definition or version lose their windows; their late writes fail the generation's guard.
DELETE l FROM rowscore_lease l JOIN rowscore_run r ON r.id = l.run_id JOIN rowscore_prediction p ON p.name = r.prediction
WHERE p.name = :prediction AND NOT (p.definition_hash <=> :definition_hash AND p.version <=> :version)

-- name: rewind_drain
-- The cursor is a key of the old definition, which may have been another key: begin from the beginning.
UPDATE rowscore_run r JOIN rowscore_prediction p ON p.name = r.prediction SET r.pos = NULL
WHERE p.name = :prediction AND p.definition_hash <> :definition_hash AND r.kind IN ('drain', 'verify')

-- name: save_definition
-- Registers the prediction, or begins a new generation where its definition or version changed.
INSERT INTO rowscore_prediction (name, definition_hash, definition, version)
VALUES (:prediction, :definition_hash, :definition, :version)
ON DUPLICATE KEY UPDATE
  generation = generation + (NOT (definition_hash <=> VALUES(definition_hash) AND version <=> VALUES(version))),
  applied_at = CASE WHEN definition_hash <=> VALUES(definition_hash) AND version <=> VALUES(version) THEN applied_at ELSE UTC_TIMESTAMP(6) END,
  definition_hash = VALUES(definition_hash), definition = VALUES(definition), version = VALUES(version)

-- name: add_drain
-- The one run that walks the pending index for ever.
INSERT INTO rowscore_run (prediction, kind) SELECT :prediction, 'drain' FROM DUAL WHERE NOT EXISTS (
  SELECT 1 FROM rowscore_run r WHERE r.prediction = :prediction AND r.kind = 'drain' AND r.status = 'running')

-- name: add_circuit
-- A closed circuit.
INSERT IGNORE INTO rowscore_circuit (prediction) VALUES (:prediction)

-- name: add_learned
-- The batch size to begin with; the controller changes it.
INSERT IGNORE INTO rowscore_learned (prediction, rows_per_claim) VALUES (:prediction, :rows_per_claim)

-- name: delete_prediction
-- Its runs, leases, failures and log go with it; workers find it gone at their next statement.
DELETE FROM rowscore_prediction WHERE name = :prediction
