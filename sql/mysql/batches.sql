-- name: log_batch
-- One line of the bounded log that status, Flower and the summary read.
INSERT INTO rowscore_batch (prediction, run_id, worker, rows_taken, rows_scored, rows_failed, rows_skipped, rows_lost,
  calls, call_rows, call_seconds, call_seconds_min, call_seconds_max, call_rows_min, call_rows_max, retries, throttled,
  rows_remembered, rows_equal, single_calls, database_seconds, total_seconds, error)
VALUES (:prediction, :run, :worker, :rows_taken, :rows_scored, :rows_failed, :rows_skipped, :rows_lost,
  :calls, :call_rows, :call_seconds, :call_seconds_min, :call_seconds_max, :call_rows_min, :call_rows_max, :retries,
  :throttled, :rows_remembered, :rows_equal, :single_calls, :database_seconds, :total_seconds, :error)

-- name: count_run
-- The run's totals; last in its transaction, since all workers share the row.
UPDATE rowscore_run SET rows_scored = rows_scored + :scored, rows_failed = rows_failed + :failed,
       rows_skipped = rows_skipped + :skipped, rows_walked = rows_walked + :walked
WHERE id = :run

-- name: learn
-- The sizes that the last batches taught; read with the next lease.
UPDATE rowscore_learned SET rows_per_claim = :claim, rows_per_call = :call, changed_at = UTC_TIMESTAMP(6)
WHERE prediction = :prediction AND NOT (rows_per_claim <=> :claim AND rows_per_call <=> :call)

-- name: open_circuit
-- The service is at fault: nobody calls it before then.
UPDATE rowscore_circuit SET failures = :failures, failure_class = :failure_class, reason = :reason,
       open_until = UTC_TIMESTAMP(6) + INTERVAL ROUND(:seconds * 1000000) MICROSECOND, changed_at = UTC_TIMESTAMP(6)
WHERE prediction = :prediction

-- name: close_circuit
-- The service answers again.
UPDATE rowscore_circuit SET failures = 0, failure_class = NULL, reason = NULL, open_until = NULL,
       changed_at = UTC_TIMESTAMP(6)
WHERE prediction = :prediction AND failures > 0

-- name: prune_batches
-- Keeps the newest lines of the log.
DELETE FROM rowscore_batch WHERE prediction = :prediction AND id <= (
  SELECT n.id FROM (SELECT b.id FROM rowscore_batch b WHERE b.prediction = :prediction ORDER BY b.id DESC LIMIT 1 OFFSET :keep) AS n)
