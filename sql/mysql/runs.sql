-- name: start_backfill
-- A backfill over the keys that are there now; nothing where one is running already.
INSERT INTO rowscore_run (prediction, kind, upper, rows_total) VALUES (:prediction, 'backfill', :upper, :total)
ON DUPLICATE KEY UPDATE status = status

-- name: finish_run
-- The run is over; only a running one can end.
UPDATE rowscore_run SET status = :status, finished_at = UTC_TIMESTAMP(6) WHERE id = :run AND status = 'running'

-- name: read_run
-- A run's progress.
SELECT id, kind, status, pos, upper, rows_total, rows_walked, rows_scored, rows_failed, rows_skipped, started_at, finished_at,
       TIMESTAMPDIFF(MICROSECOND, started_at, COALESCE(finished_at, UTC_TIMESTAMP(6))) / 1e6 AS seconds
FROM rowscore_run WHERE id = :run

-- name: count_state
-- How many rows are in a state; by the pending index, which holds every row.
SELECT COUNT(*) FROM {{ table }} AS c {{ by_pending(pending_index) }} WHERE c.{{ state|id }} = {{ claims.value }}
