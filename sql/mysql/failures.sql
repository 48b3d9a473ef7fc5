-- name: record_failures
-- Quarantined rows with their error; a row that fails again counts one more attempt and waits twice as long.
INSERT INTO rowscore_failure (prediction, key_hash, row_key, failure_class, message, next_retry_at)
SELECT :prediction, UNHEX(SHA2(v.row_key, 256)), v.row_key, v.failure_class, v.message,
       UTC_TIMESTAMP(6) + INTERVAL ROUND(:retry_after * 1000000) MICROSECOND
FROM JSON_TABLE(:rows, '$[*]' COLUMNS (row_key LONGTEXT CHARACTER SET utf8mb4 PATH '$[0]',
       failure_class VARCHAR(24) CHARACTER SET utf8mb4 PATH '$[1]', message LONGTEXT CHARACTER SET utf8mb4 PATH '$[2]')) AS v
ON DUPLICATE KEY UPDATE failure_class = VALUES(failure_class), message = VALUES(message),
  next_retry_at = CASE WHEN rowscore_failure.attempts + 1 < :max_attempts
    THEN UTC_TIMESTAMP(6) + INTERVAL ROUND(:retry_after * POW(2, LEAST(rowscore_failure.attempts, 20)) * 1000000) MICROSECOND END,
  attempts = rowscore_failure.attempts + 1, last_failed_at = UTC_TIMESTAMP(6)

-- name: forget_failures
-- Rows of the window that are no longer failed and no longer waiting have been scored: which errors are history.
SELECT HEX(f.key_hash), f.attempts FROM rowscore_failure AS f JOIN {{ table }} AS c ON {{ key_is_stored(keys, "c", "f.row_key") }}
WHERE f.prediction = :prediction
  AND {{ stored_to_bound(keys, "f.row_key", ">=", "lo") }} AND {{ stored_to_bound(keys, "f.row_key", "<=", "hi") }}
  AND c.{{ state|id }} NOT IN ({{ states.FAILED.value }}, {{ states.PENDING.value }})

-- name: list_due
-- Keys of the failed rows that are due, or of all, when asked for by hand.
SELECT {{ key_read(keys, "c") }}, NULL FROM rowscore_failure AS f
STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {{ key_is_stored(keys, "c", "f.row_key") }}
WHERE f.prediction = :prediction AND c.{{ state|id }} = {{ states.FAILED.value }}{% if not everything %} AND f.next_retry_at <= UTC_TIMESTAMP(6){% endif %}

ORDER BY {{ key_list(keys, "c") }} LIMIT :limit

-- name: retry_failures
-- Failed rows wait to be scored again; they are locked already, and their attempts are kept.
UPDATE {{ answers(keys, (), fingerprint_type) }} AS v
STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {{ same_key(keys, "c", "v") }}
SET c.{{ state|id }} = {{ states.PENDING.value }}{{ holding("c", held) }}
WHERE c.{{ state|id }} = {{ states.FAILED.value }}

-- name: list_failures
-- Rows in quarantine, the latest first.
SELECT f.row_key, f.failure_class, f.message, f.attempts, f.first_failed_at, f.last_failed_at, f.next_retry_at
FROM rowscore_failure f WHERE f.prediction = :prediction
ORDER BY f.last_failed_at DESC, f.row_key LIMIT :limit

-- name: forget_orphans
-- Which errors are those of rows that were deleted, scored or skipped meanwhile.
SELECT HEX(f.key_hash), f.attempts FROM rowscore_failure AS f LEFT JOIN {{ table }} AS c ON {{ key_is_stored(keys, "c", "f.row_key") }}
  AND c.{{ state|id }} IN ({{ states.FAILED.value }}, {{ states.PENDING.value }})
WHERE f.prediction = :prediction AND c.{{ state|id }} IS NULL

-- name: drop_failures
-- Deletes errors that were found to be history: a DELETE that reads the rows themselves would wait for whoever holds one.
DELETE f FROM JSON_TABLE(:rows, '$[*]' COLUMNS (key_hash VARCHAR(64) PATH '$[0]', attempts INT PATH '$[1]')) AS v
STRAIGHT_JOIN rowscore_failure AS f ON f.key_hash = UNHEX(v.key_hash) AND f.attempts = v.attempts
WHERE f.prediction = :prediction
