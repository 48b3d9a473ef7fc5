-- name: start_run
-- A backfill or rescore over the keys that are there now; nothing where one is running already.
INSERT INTO rowscore_run (prediction, kind, lower, upper, rows_total, options)
VALUES (:prediction, :kind, :lower, :upper, :total, :options)
ON DUPLICATE KEY UPDATE status = status

-- name: change_run
-- The run is finished, paused, resumed or cancelled; nothing where it is no longer as it was seen.
UPDATE rowscore_run SET status = :after, finished_at = CASE WHEN :over THEN UTC_TIMESTAMP(6) END
WHERE id = :run AND status = :before

-- name: void_leases
-- Workers of a cancelled run notice before their next call; what is paid for is still written.
DELETE FROM rowscore_lease WHERE run_id = :run

-- name: pace_run
-- When the next window may be handed out: each window moves it by the time that its rows are worth.
UPDATE rowscore_run
SET next_at = GREATEST(COALESCE(next_at, UTC_TIMESTAMP(6)), UTC_TIMESTAMP(6)) + INTERVAL ROUND(:seconds * 1000000) MICROSECOND
WHERE id = :run

-- name: read_run
-- A run's progress.
SELECT id, kind, status, pos, lower, upper, options, spent_calls, spent_rows, spent_money, rows_total, rows_walked, rows_scored, rows_failed, rows_skipped, started_at, finished_at,
       TIMESTAMPDIFF(MICROSECOND, started_at, COALESCE(finished_at, UTC_TIMESTAMP(6))) / 1e6 AS seconds
FROM rowscore_run WHERE id = :run

-- name: count_state
-- How many rows a backfill or rescore will find; by the pending index, which holds every row.
SELECT COUNT(*) FROM {{ table }} AS c {{ by_pending(pending_index) }} WHERE c.{{ state|id }} = {{ claims.value }}{{ of_run(keys, "c", lower, upper, only) }}

-- name: check_key
-- A key that a person typed, as the database writes it; NULL in it where it is none.
SELECT JSON_ARRAY({% for k in keys %}{{ as_text(k, from_text(k, bind("key_" ~ loop.index))) }}{{ ", " if not loop.last }}{% endfor %})

-- name: spend
-- Reserves what a call is going to cost; no row where the budget does not allow it. A daily budget begins anew each day.
UPDATE rowscore_run
SET spent_calls = {% if daily %}CASE WHEN spent_on = UTC_DATE() THEN spent_calls ELSE 0 END{% else %}spent_calls{% endif %} + :calls,
    spent_rows = {% if daily %}CASE WHEN spent_on = UTC_DATE() THEN spent_rows ELSE 0 END{% else %}spent_rows{% endif %} + :rows,
    spent_money = {% if daily %}CASE WHEN spent_on = UTC_DATE() THEN spent_money ELSE 0 END{% else %}spent_money{% endif %} + CAST(:money AS DECIMAL(20, 6)),
    spent_on = UTC_DATE()
WHERE id = :run AND {% if daily %}CASE WHEN spent_on = UTC_DATE() THEN spent_{{ unit }} ELSE 0 END{% else %}spent_{{ unit }}{% endif %} + CAST(:asked AS DECIMAL(20, 6)) <= CAST(:amount AS DECIMAL(20, 6))

-- name: give_back
-- What was reserved and not spent.
UPDATE rowscore_run SET spent_calls = spent_calls - :calls, spent_rows = spent_rows - :rows, spent_money = spent_money - CAST(:money AS DECIMAL(20, 6))
WHERE id = :run{% if daily %} AND spent_on = UTC_DATE(){% endif %}

-- name: tell_time
-- The database's clock, by which rows are too old.
SELECT UTC_TIMESTAMP(6) AS clock

-- name: scored_otherwise
-- Another model version scored the row, or none that is known; by its bytes, since collations fold case.
NOT (CAST(CONVERT({{ version|id }} USING utf8mb4) AS BINARY) <=> CAST({{ value }} AS BINARY))

-- name: scored_before
-- The row was scored before that moment in UTC, or nobody knows when.
({{ scored_at|id }} IS NULL OR {{ scored_at|id }} < CAST({{ moment }} AS DATETIME(6)))

-- name: daily_account
-- The run that the day's sums are kept with: what scheduled work may spend.
SELECT r.id, r.spent_calls, r.spent_rows, r.spent_money, COALESCE(r.spent_on = UTC_DATE(), FALSE) AS spent_today
FROM rowscore_run r WHERE r.prediction = :prediction AND r.kind = 'drain' AND r.status = 'running'

-- name: last_begun
-- Seconds since the newest run of that kind began; none where there was none.
SELECT TIMESTAMPDIFF(MICROSECOND, r.started_at, UTC_TIMESTAMP(6)) / 1e6 AS seconds
FROM rowscore_run r WHERE r.prediction = :prediction AND r.kind = :kind ORDER BY r.id DESC LIMIT 1

-- name: prune_runs
-- Keeps the newest runs of those that are over.
DELETE FROM rowscore_run WHERE prediction = :prediction AND status IN ('finished', 'cancelled') AND id <= (
  SELECT n.id FROM (SELECT r.id FROM rowscore_run r WHERE r.prediction = :prediction AND r.status IN ('finished', 'cancelled')
                    ORDER BY r.id DESC LIMIT 1 OFFSET :keep) AS n)

-- name: keep_options
-- What somebody changed of a live run's options.
UPDATE rowscore_run SET options = :options WHERE id = :run
