-- name: log_batch
-- One line of the bounded log that status, Flower and the summary read.
INSERT INTO rowscore.batch (prediction, run_id, worker, rows_taken, rows_scored, rows_failed, rows_skipped, rows_lost,
  calls, call_rows, call_seconds, call_seconds_min, call_seconds_max, call_rows_min, call_rows_max, retries, throttled,
  rows_remembered, rows_equal, single_calls, database_seconds, total_seconds, error)
VALUES (:prediction, :run, :worker, :rows_taken, :rows_scored, :rows_failed, :rows_skipped, :rows_lost,
  :calls, :call_rows, :call_seconds, :call_seconds_min, :call_seconds_max, :call_rows_min, :call_rows_max, :retries,
  :throttled, :rows_remembered, :rows_equal, :single_calls, :database_seconds, :total_seconds, :error)

-- name: count_run
-- The run's totals; last in its transaction, since all workers share the row.
UPDATE rowscore.run SET rows_scored = rows_scored + :scored, rows_failed = rows_failed + :failed,
       rows_skipped = rows_skipped + :skipped, rows_walked = rows_walked + :walked
WHERE id = :run

-- name: learn
-- The sizes that the last batches taught; read with the next lease.
INSERT INTO rowscore.learned AS l (prediction, rows_per_claim, rows_per_call) VALUES (:prediction, :claim, :call)
ON CONFLICT (prediction) DO UPDATE
SET rows_per_claim = excluded.rows_per_claim, rows_per_call = excluded.rows_per_call, changed_at = clock_timestamp()
WHERE (l.rows_per_claim, l.rows_per_call) IS DISTINCT FROM (excluded.rows_per_claim, excluded.rows_per_call)

-- name: open_circuit
-- The service is at fault: nobody calls it before then.
INSERT INTO rowscore.circuit AS c (prediction, failures, failure_class, reason, open_until)
VALUES (:prediction, :failures, :failure_class, :reason, clock_timestamp() + make_interval(secs => :seconds))
ON CONFLICT (prediction) DO UPDATE SET failures = excluded.failures, failure_class = excluded.failure_class,
  reason = excluded.reason, open_until = excluded.open_until, changed_at = clock_timestamp()

-- name: close_circuit
-- The service answers again.
UPDATE rowscore.circuit SET failures = 0, failure_class = NULL, reason = NULL, open_until = NULL,
       changed_at = clock_timestamp()
WHERE prediction = :prediction AND failures > 0

-- name: prune_batches
-- Keeps the newest lines of the log.
DELETE FROM rowscore.batch b WHERE b.prediction = :prediction AND b.id <= (
  SELECT id FROM rowscore.batch WHERE prediction = :prediction ORDER BY id DESC OFFSET :keep LIMIT 1)
