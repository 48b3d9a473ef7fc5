-- name: find_own_schema
-- Whether rowscore's own tables are there at all, and may be made.
SELECT to_regnamespace('rowscore') IS NOT NULL AS schema_exists,
       to_regclass('rowscore.alembic_version') IS NOT NULL AS migrated,
       to_regclass('rowscore.alembic_version') IS NOT NULL AS remains,
       to_regclass('rowscore.prediction') IS NOT NULL AS registrable,
       has_database_privilege(current_database(), 'CREATE') AS may_create_schema,
       current_database() AS database, current_user::text AS role

-- name: find_revision
-- The migration that rowscore's own tables stand at.
SELECT version_num FROM rowscore.alembic_version

-- name: lock_plans
-- One at a time migrates, applies or removes; ends with the transaction.
SELECT pg_advisory_xact_lock(7599103, 0)

-- name: outlast_timeouts
-- The transaction that holds the lock stays open and idle while an index is built; no server setting shall end it.
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout')

-- name: create_own_schema
-- Where rowscore keeps its own tables.
CREATE SCHEMA IF NOT EXISTS rowscore

-- name: drop_revision_table
-- The last of rowscore's own tables; the migrations leave it.
DROP TABLE rowscore.alembic_version

-- name: drop_own_schema
-- Fails where somebody keeps objects of their own in it.
DROP SCHEMA rowscore

-- name: find_registrations
-- What is registered, and whether the rows that belong to it are there.
SELECT p.name, p.definition_hash, p.version, p.definition,
       EXISTS (SELECT FROM rowscore.run r WHERE r.prediction = p.name AND r.kind = 'drain' AND r.status = 'running')
   AND EXISTS (SELECT FROM rowscore.circuit c WHERE c.prediction = p.name)
   AND EXISTS (SELECT FROM rowscore.learned l WHERE l.prediction = p.name) AS complete
FROM rowscore.prediction p ORDER BY p.name

-- name: lock_registration
-- The prediction's row alone and first: workers that lease hold it shared, and their leases are seen afterwards.
SELECT generation FROM rowscore.prediction WHERE name = :prediction FOR UPDATE

-- name: cancel_outdated_backfills
-- A backfill goes on only under the definition that somebody agreed to pay for, a rescore only with its model version.
UPDATE rowscore.run r SET status = 'cancelled', finished_at = clock_timestamp()
FROM rowscore.prediction p
WHERE p.name = :prediction AND r.prediction = p.name AND r.status IN ('running', 'paused')
  AND (r.kind IN ('backfill', 'rescore') AND p.definition_hash <> :definition_hash OR r.kind = 'rescore' AND p.version <> :version)

-- name: void_outdated_leases
-- Workers of the old definition or version lose their windows; their late writes fail the generation's guard.
DELETE FROM rowscore.lease l USING rowscore.run r, rowscore.prediction p
WHERE p.name = :prediction AND r.prediction = p.name AND l.run_id = r.id
  AND (p.definition_hash, p.version) IS DISTINCT FROM (:definition_hash, :version)

-- name: rewind_drain
-- The cursor is a key of the old definition, which may have been another key: begin from the beginning.
UPDATE rowscore.run r SET pos = NULL FROM rowscore.prediction p
WHERE p.name = :prediction AND r.prediction = p.name AND p.definition_hash <> :definition_hash AND r.kind IN ('drain', 'verify')

-- name: save_definition
-- Registers the prediction, or begins a new generation where its definition or version changed.
INSERT INTO rowscore.prediction AS p (name, definition_hash, definition, version)
VALUES (:prediction, :definition_hash, CAST(:definition AS jsonb), :version)
ON CONFLICT (name) DO UPDATE
SET generation = p.generation + 1, definition_hash = excluded.definition_hash, definition = excluded.definition,
    version = excluded.version, applied_at = clock_timestamp()
WHERE (p.definition_hash, p.version) IS DISTINCT FROM (excluded.definition_hash, excluded.version)

-- name: add_drain
-- The one run that walks the pending index for ever.
INSERT INTO rowscore.run (prediction, kind) VALUES (:prediction, 'drain')
ON CONFLICT (prediction, kind) WHERE status = 'running' DO NOTHING

-- name: add_circuit
-- A closed circuit.
INSERT INTO rowscore.circuit (prediction) VALUES (:prediction) ON CONFLICT DO NOTHING

-- name: add_learned
-- The batch size to begin with; the controller changes it.
INSERT INTO rowscore.learned (prediction, rows_per_claim) VALUES (:prediction, :rows_per_claim) ON CONFLICT DO NOTHING

-- name: delete_prediction
-- Its runs, leases, failures and log go with it; workers find it gone at their next statement.
DELETE FROM rowscore.prediction WHERE name = :prediction
