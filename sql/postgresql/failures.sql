-- name: record_failures
-- Quarantined rows with their error; a row that fails again counts one more attempt and waits twice as long.
INSERT INTO rowscore.failure AS f (prediction, row_key, failure_class, message, next_retry_at)
SELECT :prediction, CAST(v.row_key AS jsonb), v.failure_class, v.message,
       clock_timestamp() + make_interval(secs => :retry_after)
FROM unnest(CAST(:keys AS text[]), CAST(:classes AS text[]), CAST(:messages AS text[]))
  AS v(row_key, failure_class, message)
ON CONFLICT (prediction, row_key) DO UPDATE
SET failure_class = excluded.failure_class, message = excluded.message, attempts = f.attempts + 1,
    last_failed_at = clock_timestamp(),
    next_retry_at = CASE WHEN f.attempts + 1 < :max_attempts
      THEN clock_timestamp() + make_interval(secs => :retry_after * power(2, least(f.attempts, 20))) END

-- name: forget_failures
-- Rows of the window that are no longer failed and no longer waiting have been scored: their errors are history.
DELETE FROM rowscore.failure AS f
WHERE f.prediction = :prediction
  AND {{ stored(keys, "f.row_key") }} >= {{ bound(keys, "lo") }} AND {{ stored(keys, "f.row_key") }} <= {{ bound(keys, "hi") }}
  AND EXISTS (SELECT FROM {{ table }} AS c WHERE {{ key(keys, "c") }} = {{ stored(keys, "f.row_key") }}
              AND c.{{ state|id }} NOT IN ({{ states.FAILED.value }}, {{ states.PENDING.value }}) OFFSET 0)

-- name: retry_failures
-- Failed rows that are due (or all, when asked for by hand) wait to be scored again; their attempts are kept.
WITH due AS MATERIALIZED (
  SELECT {{ key_names(keys, "c") }} FROM rowscore.failure AS f
  JOIN {{ table }} AS c ON {{ key(keys, "c") }} = {{ stored(keys, "f.row_key") }}
  WHERE f.prediction = :prediction AND c.{{ state|id }} = {{ states.FAILED.value }}{% if not everything %} AND f.next_retry_at <= clock_timestamp(){% endif %}

  ORDER BY {{ key_list(keys, "c") }} LIMIT :limit FOR NO KEY UPDATE OF c SKIP LOCKED)
UPDATE {{ table }} AS c SET {{ state|id }} = {{ states.PENDING.value }} FROM due AS v WHERE {{ same_key(keys, "c", "v") }}

-- name: list_failures
-- Rows in quarantine, the latest first.
SELECT f.row_key, f.failure_class, f.message, f.attempts, f.first_failed_at, f.last_failed_at, f.next_retry_at
FROM rowscore.failure f WHERE f.prediction = :prediction
ORDER BY f.last_failed_at DESC, f.row_key LIMIT :limit

-- name: forget_orphans
-- Errors of rows that were deleted, scored or skipped meanwhile.
DELETE FROM rowscore.failure AS f
WHERE f.prediction = :prediction AND NOT EXISTS (
  SELECT FROM {{ table }} AS c WHERE {{ key(keys, "c") }} = {{ stored(keys, "f.row_key") }}
    AND c.{{ state|id }} IN ({{ states.FAILED.value }}, {{ states.PENDING.value }}))
