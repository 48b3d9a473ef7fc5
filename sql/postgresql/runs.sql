-- name: start_run
-- A backfill or rescore over the keys that are there now; nothing where one is running already.
INSERT INTO rowscore.run (prediction, kind, lower, upper, rows_total, options)
VALUES (:prediction, :kind, CAST(:lower AS jsonb), CAST(:upper AS jsonb), :total, CAST(:options AS jsonb))
ON CONFLICT (prediction, kind) WHERE status IN ('running', 'paused') DO NOTHING

-- name: change_run
-- The run is finished, paused, resumed or cancelled; nothing where it is no longer as it was seen.
UPDATE rowscore.run SET status = :after, finished_at = CASE WHEN :over THEN clock_timestamp() END
WHERE id = :run AND status = :before

-- name: void_leases
-- Workers of a cancelled run notice before their next call; what is paid for is still written.
DELETE FROM rowscore.lease WHERE run_id = :run

-- name: pace_run
-- When the next window may be handed out: each window moves it by the time that its rows are worth.
UPDATE rowscore.run SET next_at = greatest(next_at, clock_timestamp()) + make_interval(secs => :seconds) WHERE id = :run

-- name: read_run
-- A run's progress.
SELECT id, kind, status, pos, lower, upper, options, spent_calls, spent_rows, spent_money, rows_total, rows_walked, rows_scored, rows_failed, rows_skipped,
       started_at, finished_at, extract(epoch FROM coalesce(finished_at, clock_timestamp()) - started_at) AS seconds
FROM rowscore.run WHERE id = :run

-- name: count_state
-- How many rows a backfill or rescore will find; reads the table, so only where that was asked for.
SELECT count(*) FROM {{ table }} AS c WHERE c.{{ state|id }} = {{ claims.value }}{{ of_run(keys, "c", lower, upper, only) }}

-- name: check_key
-- A key that a person typed, as the database writes it; an error where it is none.
SELECT jsonb_build_array({% for k in keys %}CAST(CAST({{ bind("key_" ~ loop.index) }} AS {{ k.cast_type }}) AS text){{ ", " if not loop.last }}{% endfor %})

-- name: spend
-- Reserves what a call is going to cost; no row where the budget does not allow it. A daily budget begins anew each day.
UPDATE rowscore.run
SET spent_calls = {% if daily %}CASE WHEN spent_on = CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date) THEN spent_calls ELSE 0 END{% else %}spent_calls{% endif %} + :calls,
    spent_rows = {% if daily %}CASE WHEN spent_on = CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date) THEN spent_rows ELSE 0 END{% else %}spent_rows{% endif %} + :rows,
    spent_money = {% if daily %}CASE WHEN spent_on = CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date) THEN spent_money ELSE 0 END{% else %}spent_money{% endif %} + CAST(:money AS numeric(20, 6)),
    spent_on = CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date)
WHERE id = :run AND {% if daily %}CASE WHEN spent_on = CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date) THEN spent_{{ unit }} ELSE 0 END{% else %}spent_{{ unit }}{% endif %} + CAST(:asked AS numeric(20, 6)) <= CAST(:amount AS numeric(20, 6))

-- name: give_back
-- What was reserved and not spent.
UPDATE rowscore.run SET spent_calls = spent_calls - :calls, spent_rows = spent_rows - :rows, spent_money = spent_money - CAST(:money AS numeric(20, 6))
WHERE id = :run{% if daily %} AND spent_on = CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date){% endif %}

-- name: tell_time
-- The database's clock, by which rows are too old.
SELECT clock_timestamp() AS clock

-- name: scored_otherwise
-- Another model version scored the row, or none that is known.
{{ version|id }} IS DISTINCT FROM {{ value }}

-- name: scored_before
-- The row was scored before that moment in UTC, or nobody knows when.
({{ scored_at|id }} IS NULL OR {{ scored_at|id }} < CAST({{ moment }} AS timestamp) AT TIME ZONE 'UTC')

-- name: daily_account
-- The run that the day's sums are kept with: what scheduled work may spend.
SELECT r.id, r.spent_calls, r.spent_rows, r.spent_money,
       coalesce(r.spent_on = CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date), false) AS spent_today
FROM rowscore.run r WHERE r.prediction = :prediction AND r.kind = 'drain' AND r.status = 'running'

-- name: last_begun
-- Seconds since the newest run of that kind began; none where there was none.
SELECT CAST(extract(epoch FROM clock_timestamp() - r.started_at) AS double precision) AS seconds
FROM rowscore.run r WHERE r.prediction = :prediction AND r.kind = :kind ORDER BY r.id DESC LIMIT 1

-- name: prune_runs
-- Keeps the newest runs of those that are over.
DELETE FROM rowscore.run r WHERE r.prediction = :prediction AND r.status IN ('finished', 'cancelled') AND r.id <= (
  SELECT id FROM rowscore.run WHERE prediction = :prediction AND status IN ('finished', 'cancelled') ORDER BY id DESC OFFSET :keep LIMIT 1)

-- name: keep_options
-- What somebody changed of a live run's options.
UPDATE rowscore.run SET options = CAST(:options AS jsonb) WHERE id = :run
