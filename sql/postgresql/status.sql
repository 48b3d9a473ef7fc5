-- name: read_prediction
-- What was applied, the circuit, and the sizes that were learned; locks nothing and needs SELECT alone.
SELECT p.definition_hash, p.version, p.generation, p.applied_at,
       c.failures, c.failure_class, c.reason, c.open_until, coalesce(c.open_until > clock_timestamp(), false) AS circuit_open,
       CAST(extract(epoch FROM c.open_until - clock_timestamp()) AS double precision) AS circuit_seconds,
       l.rows_per_claim, l.rows_per_call
FROM rowscore.prediction p
LEFT JOIN rowscore.circuit c ON c.prediction = p.name LEFT JOIN rowscore.learned l ON l.prediction = p.name
WHERE p.name = :prediction

-- name: measure_table
-- How many rows and bytes the table has by the catalogue, partitions together; -1 rows where one was never analysed.
SELECT CASE WHEN bool_and(c.reltuples >= 0) THEN sum(c.reltuples)::bigint ELSE -1 END AS rows,
       sum(pg_relation_size(c.oid))::bigint AS bytes
FROM pg_class c
WHERE c.relkind <> 'p' AND (c.oid = :oid OR c.oid IN (SELECT t.relid FROM pg_partition_tree(:oid) t WHERE t.isleaf))

-- name: count_states
-- Rows by state, exactly; reads the whole table, so only where it is small.
SELECT c.{{ state|id }} AS state, count(*) AS rows FROM {{ table }} AS c GROUP BY 1

-- name: estimate_states
-- The share of rows in each state as the last ANALYZE saw it; no row where there was none since `apply`.
SELECT v.state, v.share
FROM pg_stats s
CROSS JOIN LATERAL unnest(CAST(CAST(s.most_common_vals AS text) AS smallint[]), s.most_common_freqs) AS v(state, share)
WHERE s.schemaname = :schema AND s.tablename = :table AND s.attname = :state AND s.inherited = :partitioned

-- name: count_pending
-- Rows that wait, up to a limit, and how long the oldest has waited; walks the pending index and reads its rows.
SELECT count(*) AS rows, count(q.scored_at) AS stale,
       {% if arrived_at %}CAST(extract(epoch FROM clock_timestamp() - min(q.arrived_at) FILTER (WHERE q.scored_at IS NULL)) AS double precision){% else %}CAST(NULL AS double precision){% endif %} AS oldest
FROM (SELECT c.{{ scored_at|id }} AS scored_at{% if arrived_at %}, CAST(c.{{ arrived_at|id }} AS timestamptz) AS arrived_at{% endif %}

      FROM {{ table }} AS c WHERE c.{{ state|id }} = {{ states.PENDING.value }} LIMIT :limit) AS q

-- name: measure_freshness
-- From arrival to prediction, over the newest keys: rows that arrived lately and since `apply`, so no backfilled ones.
SELECT count(*) AS rows,
       CAST(percentile_cont(0.5) WITHIN GROUP (ORDER BY q.seconds) AS double precision) AS p50,
       CAST(percentile_cont(0.99) WITHIN GROUP (ORDER BY q.seconds) AS double precision) AS p99
FROM (SELECT c.{{ state|id }} AS state, CAST(c.{{ arrived_at|id }} AS timestamptz) AS arrived_at,
             extract(epoch FROM c.{{ scored_at|id }} - CAST(c.{{ arrived_at|id }} AS timestamptz)) AS seconds
      FROM {{ table }} AS c
      ORDER BY {% for k in keys %}c.{{ k.name|id }} DESC{{ ", " if not loop.last }}{% endfor %} LIMIT :sample) AS q
WHERE q.state = {{ states.SCORED.value }}
  AND q.arrived_at >= greatest(CAST(:applied_at AS timestamptz), clock_timestamp() - make_interval(secs => :window))

-- name: count_failures
-- Rows in quarantine or on their way back from it: all, those that are due, and those that are not tried again.
SELECT count(*) AS rows, count(*) FILTER (WHERE next_retry_at <= clock_timestamp()) AS due,
       count(*) FILTER (WHERE next_retry_at IS NULL) AS final
FROM rowscore.failure WHERE prediction = :prediction

-- name: recent_batches
-- What the batches of the last minutes did, by the bounded log; sizes in rows, times in seconds.
SELECT count(*) AS batches, coalesce(sum(b.rows_scored), 0)::bigint AS scored, coalesce(sum(b.rows_failed), 0)::bigint AS failed,
       coalesce(sum(b.rows_skipped), 0)::bigint AS skipped, coalesce(sum(b.rows_lost), 0)::bigint AS lost,
       min(b.rows_taken) AS batch_min, CAST(avg(b.rows_taken) AS double precision) AS batch_avg, max(b.rows_taken) AS batch_max,
       coalesce(sum(b.rows_taken), 0)::bigint AS asked, coalesce(sum(b.call_rows), 0)::bigint AS sent,
       coalesce(sum(b.rows_remembered), 0)::bigint AS remembered, coalesce(sum(b.rows_equal), 0)::bigint AS equal,
       coalesce(sum(b.calls), 0)::bigint AS calls, coalesce(sum(b.single_calls), 0)::bigint AS single_calls,
       min(b.call_rows_min) AS call_rows_min, max(b.call_rows_max) AS call_rows_max,
       CAST(sum(b.call_rows) AS double precision) / nullif(sum(b.calls), 0) AS call_rows_avg,
       min(b.call_seconds_min) AS call_seconds_min, max(b.call_seconds_max) AS call_seconds_max,
       sum(b.call_seconds) / nullif(sum(b.calls), 0) AS call_seconds_avg,
       coalesce(sum(b.retries), 0)::bigint AS retries, coalesce(sum(b.throttled), 0)::bigint AS throttled,
       coalesce(sum(b.busy), 0) AS busy_seconds,
       (array_agg(b.error ORDER BY b.id DESC) FILTER (WHERE b.error IS NOT NULL))[1] AS error,
       (SELECT CAST(extract(epoch FROM clock_timestamp() - l.finished_at) AS double precision) FROM rowscore.batch l
        WHERE l.prediction = :prediction ORDER BY l.id DESC LIMIT 1) AS idle
FROM (SELECT w.*, greatest(CAST(extract(epoch FROM w.finished_at - greatest(w.started_at,
               max(w.finished_at) OVER (ORDER BY w.started_at, w.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
             )) AS double precision), 0) AS busy -- the part that no earlier batch of another worker covers
      FROM (SELECT n.*, n.finished_at - make_interval(secs => n.total_seconds) AS started_at
            FROM rowscore.batch n WHERE n.prediction = :prediction ORDER BY n.id DESC LIMIT :lines) AS w
      WHERE w.finished_at >= clock_timestamp() - make_interval(secs => :window)) AS b

-- name: run_speed
-- Rows that a run's batches of the last minutes dealt with, and the seconds from the first of them until now.
SELECT coalesce(sum(b.rows_scored + b.rows_failed + b.rows_skipped), 0)::bigint AS rows,
       CAST(extract(epoch FROM clock_timestamp()
                    - min(b.finished_at - make_interval(secs => b.total_seconds))) AS double precision) AS seconds
FROM (SELECT * FROM rowscore.batch WHERE prediction = :prediction ORDER BY id DESC LIMIT :lines) AS b
WHERE b.run_id = :run AND b.finished_at >= clock_timestamp() - make_interval(secs => :window)
