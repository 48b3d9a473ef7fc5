-- name: read_prediction
-- What was applied, the circuit, and the sizes that were learned; locks nothing and needs SELECT alone.
SELECT p.definition_hash, p.version, p.generation, p.applied_at,
       c.failures, c.failure_class, c.reason, c.open_until, COALESCE(c.open_until > UTC_TIMESTAMP(6), FALSE) AS circuit_open,
       TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), c.open_until) / 1e6 AS circuit_seconds,
       l.rows_per_claim, l.rows_per_call
FROM rowscore_prediction p
LEFT JOIN rowscore_circuit c ON c.prediction = p.name LEFT JOIN rowscore_learned l ON l.prediction = p.name
WHERE p.name = :prediction

-- name: measure_table
-- How many rows and bytes the table has by the engine's own estimate.
SELECT CAST(t.table_rows AS SIGNED) AS `rows`, CAST(t.data_length AS SIGNED) AS bytes
FROM information_schema.tables t WHERE t.table_schema = :schema AND t.table_name = :table

-- name: count_states
-- Rows by state, exactly; walks the whole pending index, so only where the table is small.
SELECT c.{{ state|id }} AS state, COUNT(*) AS `rows` FROM {{ table }} AS c {{ by_pending(pending_index) }} GROUP BY c.{{ state|id }}

-- name: estimate_state
-- EXPLAIN's estimate of the rows in a state by dives into the pending index, which MySQL spares unless they are counted.
EXPLAIN FORMAT=TRADITIONAL SELECT COUNT(*) FROM {{ table }} AS c {{ by_pending(pending_index) }}
WHERE c.{{ state|id }} BETWEEN {{ one.value }} AND {{ one.value }}

-- name: count_one_state
-- Rows in one state up to a limit, by the pending index alone.
SELECT COUNT(*) AS `rows` FROM (
  SELECT 1 FROM {{ table }} AS c {{ by_pending(pending_index) }} WHERE c.{{ state|id }} = {{ one.value }} LIMIT :limit) AS q

-- name: count_pending
-- Rows that wait, up to a limit, and how long the oldest has waited; walks the pending index and reads its rows.
SELECT COUNT(*) AS `rows`, COUNT(q.scored_at) AS stale,
       {% if arrived_at %}TIMESTAMPDIFF(MICROSECOND, MIN(CASE WHEN q.scored_at IS NULL THEN q.arrived_at END), UTC_TIMESTAMP(6)) / 1e6{% else %}NULL{% endif %} AS oldest
FROM (SELECT c.{{ scored_at|id }} AS scored_at{% if arrived_at %}, {{ instant("c." ~ arrived_at|id, zoned) }} AS arrived_at{% endif %}

      FROM {{ table }} AS c {{ by_pending(pending_index) }} WHERE c.{{ state|id }} = {{ states.PENDING.value }} LIMIT :limit) AS q

-- name: measure_freshness
-- From arrival to prediction, over the newest keys: rows that arrived lately and since `apply`, so no backfilled ones.
WITH q AS (
  SELECT c.{{ state|id }} AS state, {{ instant("c." ~ arrived_at|id, zoned) }} AS arrived_at, c.{{ scored_at|id }} AS scored_at
  FROM {{ table }} AS c FORCE INDEX ({{ key_index|id }})
  ORDER BY {% for k in keys %}c.{{ k.name|id }} DESC{{ ", " if not loop.last }}{% endfor %} LIMIT :sample),
r AS (
  SELECT TIMESTAMPDIFF(MICROSECOND, q.arrived_at, q.scored_at) / 1e6 AS seconds FROM q
  WHERE q.state = {{ states.SCORED.value }}
    AND q.arrived_at >= GREATEST(CAST(:applied_at AS DATETIME(6)), UTC_TIMESTAMP(6) - INTERVAL ROUND(:window * 1000000) MICROSECOND)),
n AS (
  SELECT r.seconds, ROW_NUMBER() OVER (ORDER BY r.seconds) - 1 AS place, COUNT(*) OVER () - 1 AS last FROM r)
SELECT COUNT(*) AS `rows`, {{ percentile("0.5e0") }} AS p50, {{ percentile("0.99e0") }} AS p99 FROM n

-- name: count_failures
-- Rows in quarantine or on their way back from it: all, those that are due, and those that are not tried again.
SELECT COUNT(*) AS `rows`, COUNT(CASE WHEN f.next_retry_at <= UTC_TIMESTAMP(6) THEN 1 END) AS due,
       COUNT(CASE WHEN f.next_retry_at IS NULL THEN 1 END) AS final
FROM rowscore_failure f WHERE f.prediction = :prediction

-- name: recent_batches
-- What the batches of the last minutes did, by the bounded log; sizes in rows, times in seconds.
SELECT COUNT(*) AS batches, {{ total("b.rows_scored") }} AS scored, {{ total("b.rows_failed") }} AS failed,
       {{ total("b.rows_skipped") }} AS skipped, {{ total("b.rows_lost") }} AS lost,
       MIN(b.rows_taken) AS batch_min, AVG(b.rows_taken) + 0e0 AS batch_avg, MAX(b.rows_taken) AS batch_max,
       {{ total("b.rows_taken") }} AS asked, {{ total("b.call_rows") }} AS sent,
       {{ total("b.rows_remembered") }} AS remembered, {{ total("b.rows_equal") }} AS equal,
       {{ total("b.calls") }} AS calls, {{ total("b.single_calls") }} AS single_calls,
       MIN(b.call_rows_min) AS call_rows_min, MAX(b.call_rows_max) AS call_rows_max,
       (SUM(b.call_rows) + 0e0) / NULLIF(SUM(b.calls), 0) AS call_rows_avg,
       MIN(b.call_seconds_min) AS call_seconds_min, MAX(b.call_seconds_max) AS call_seconds_max,
       SUM(b.call_seconds) / NULLIF(SUM(b.calls), 0) AS call_seconds_avg,
       {{ total("b.retries") }} AS retries, {{ total("b.throttled") }} AS throttled,
       COALESCE(SUM(b.busy), 0e0) AS busy_seconds,
       (SELECT e.error FROM rowscore_batch e
        WHERE e.prediction = :prediction AND e.error IS NOT NULL AND {{ lately("e.finished_at") }}
        ORDER BY e.id DESC LIMIT 1) AS error,
       (SELECT TIMESTAMPDIFF(MICROSECOND, l.finished_at, UTC_TIMESTAMP(6)) / 1e6 FROM rowscore_batch l
        WHERE l.prediction = :prediction ORDER BY l.id DESC LIMIT 1) AS idle
FROM (SELECT w.*, GREATEST(TIMESTAMPDIFF(MICROSECOND, GREATEST(w.started_at, COALESCE(
               MAX(w.finished_at) OVER (ORDER BY w.started_at, w.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
               w.started_at)), w.finished_at), 0) / 1e6 AS busy -- the part that no earlier batch of another worker covers
      FROM (SELECT n.*, {{ earlier("n.finished_at", "n.total_seconds") }} AS started_at
            FROM rowscore_batch n WHERE n.prediction = :prediction ORDER BY n.id DESC LIMIT :lines) AS w
      WHERE {{ lately("w.finished_at") }}) AS b

-- name: run_speed
-- Rows that a run's batches of the last minutes dealt with, and the seconds from the first of them until now.
SELECT {{ total("b.rows_scored + b.rows_failed + b.rows_skipped") }} AS `rows`,
       TIMESTAMPDIFF(MICROSECOND, MIN({{ earlier("b.finished_at", "b.total_seconds") }}), UTC_TIMESTAMP(6)) / 1e6 AS seconds
FROM (SELECT * FROM rowscore_batch n WHERE n.prediction = :prediction ORDER BY n.id DESC LIMIT :lines) AS b
WHERE b.run_id = :run AND {{ lately("b.finished_at") }}
