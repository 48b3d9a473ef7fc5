-- name: start_backfill
-- A backfill over the keys that are there now; nothing where one is running already.
INSERT INTO rowscore.run (prediction, kind, upper, rows_total)
VALUES (:prediction, 'backfill', CAST(:upper AS jsonb), :total)
ON CONFLICT (prediction, kind) WHERE status = 'running' DO NOTHING

-- name: finish_run
-- The run is over; only a running one can end.
UPDATE rowscore.run SET status = :status, finished_at = clock_timestamp() WHERE id = :run AND status = 'running'

-- name: read_run
-- A run's progress.
SELECT id, kind, status, pos, upper, rows_total, rows_walked, rows_scored, rows_failed, rows_skipped,
       started_at, finished_at, extract(epoch FROM coalesce(finished_at, clock_timestamp()) - started_at) AS seconds
FROM rowscore.run WHERE id = :run

-- name: count_state
-- How many rows are in a state; reads the table, so only where that was asked for.
SELECT count(*) FROM {{ table }} AS c WHERE c.{{ state|id }} = {{ claims.value }}
