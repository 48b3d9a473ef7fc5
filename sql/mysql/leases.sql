-- name: share_prediction
-- The prediction's generation, held still until this transaction ends; what stands in subqueries is not locked.
SELECT p.generation, p.definition_hash, p.version,
       (SELECT c.open_until > UTC_TIMESTAMP(6) FROM rowscore_circuit c WHERE c.prediction = p.name) AS circuit_open,
       (SELECT TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), c.open_until) / 1e6 FROM rowscore_circuit c WHERE c.prediction = p.name) AS circuit_seconds,
       (SELECT c.reason FROM rowscore_circuit c WHERE c.prediction = p.name) AS reason,
       (SELECT c.failures FROM rowscore_circuit c WHERE c.prediction = p.name) AS failures,
       (SELECT l.rows_per_claim FROM rowscore_learned l WHERE l.prediction = p.name) AS rows_per_claim,
       (SELECT l.rows_per_call FROM rowscore_learned l WHERE l.prediction = p.name) AS rows_per_call,
       EXISTS (SELECT 1 FROM rowscore_failure f WHERE f.prediction = p.name) AS has_failures, JSON_EXTRACT(p.definition, '$.held') AS held
FROM rowscore_prediction p WHERE p.name = :prediction {{ "LOCK IN SHARE MODE" if mariadb else "FOR SHARE" }}

-- name: lock_run
-- The run's cursor, locked alone and first: a snapshot taken before the wait would not see the last lease.
SELECT r.id, r.kind, r.status, r.pos, r.lower, r.upper, r.token, r.wrap_seconds,
       r.rows_scored + r.rows_failed + r.rows_skipped AS done,
       TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), r.next_at) / 1e6 AS rest,
       UTC_TIMESTAMP(6) AS clock, r.spent_calls, r.spent_rows, r.spent_money, COALESCE(r.spent_on = UTC_DATE(), FALSE) AS spent_today,
       TIMESTAMPDIFF(MICROSECOND, r.wrapped_at, UTC_TIMESTAMP(6)) / 1e6 AS since_wrap
FROM rowscore_run r WHERE r.prediction = :prediction AND r.kind = :kind AND r.status IN ('running', 'paused') FOR UPDATE

-- name: find_run
-- The prediction's run of that kind that is running or paused.
SELECT r.id FROM rowscore_run r WHERE r.prediction = :prediction AND r.kind = :kind AND r.status IN ('running', 'paused')

-- name: take_expired_lease
-- An expired lease to take over; one whose owner is writing is locked and counts as live.
SELECT l.token, l.lo, l.hi, l.attempts FROM rowscore_lease l
WHERE l.run_id = :run AND l.expires_at < UTC_TIMESTAMP(6)
ORDER BY l.expires_at, l.token LIMIT 1 FOR UPDATE SKIP LOCKED

-- name: count_leases
-- How many other workers hold leases of the run, live ones and any, how many are out with what rows, and how many expired.
SELECT COUNT(DISTINCT CASE WHEN l.owner <> :owner THEN l.owner END) AS others, COUNT(*) AS `out`,
       CAST(COALESCE(SUM(l.size), 0) AS SIGNED) AS rows_out, COUNT(DISTINCT CASE WHEN l.owner <> :owner AND l.expires_at >= UTC_TIMESTAMP(6) THEN l.owner END) AS live_others,
       COUNT(CASE WHEN l.expires_at < UTC_TIMESTAMP(6) THEN 1 END) AS expired
FROM rowscore_lease l WHERE l.run_id = :run

-- name: next_lease
-- The nearest lease that reaches beyond the position, and whether it covers the position.
SELECT l.lo, l.hi, {% if start %}{{ stored_to_bound(keys, "l.lo", "<=", "start") }}{% else %}FALSE{% endif %} AS covers
FROM rowscore_lease l
WHERE l.run_id = :run{% if start %} AND {{ stored_to_bound(keys, "l.hi", ">" if start == "after" else ">=", "start") }}{% endif %}

ORDER BY {{ stored_order(keys, "l.lo") }} LIMIT 1

-- name: probe_window
-- First and last key of the next rows beyond the position, and how many they are; walks one index.
WITH q AS (
  SELECT {% for k in keys %}c.{{ k.name|id }}{{ ", " if not loop.last }}{% endfor %} FROM {{ table }} AS c {{ by_pending(pending_index) }}
  WHERE c.{{ state|id }} = {{ claims.value }}
{% if start %} AND {{ key_to_bound(keys, "c", ">" if start == "after" else ">=", "start") }}{% endif %}
{% if cap %} AND {{ key_to_bound(keys, "c", "<" if cap == "before" else "<=", "cap") }}{% endif %}
{% if upper %} AND {{ key_to_bound(keys, "c", "<=", "upper") }}{% endif %}

  ORDER BY {{ key_list(keys, "c") }} LIMIT :limit)
SELECT (SELECT {{ key_text(keys, "q") }} FROM q ORDER BY {{ key_list(keys, "q") }} LIMIT 1) AS lo,
       (SELECT {{ key_text(keys, "q") }} FROM q ORDER BY {% for k in keys %}q.{{ k.name|id }} DESC{{ ", " if not loop.last }}{% endfor %} LIMIT 1) AS hi,
       (SELECT COUNT(*) FROM q) AS `rows`

-- name: first_claimable
-- The first key that the run could claim, from the very beginning; walks deleted index entries, so outside any lock.
SELECT {{ key_text(keys, "c") }} FROM {{ table }} AS c {{ by_pending(pending_index) }}
WHERE c.{{ state|id }} = {{ claims.value }}{{ of_run(keys, "c", lower, upper, only) }}

ORDER BY {{ key_list(keys, "c") }} LIMIT 1

-- name: last_key
-- The table's last key now, or the last one up to a bound.
SELECT {{ key_text(keys, "c") }} FROM {{ table }} AS c FORCE INDEX ({{ key_index|id }}){% if upper %} WHERE {{ key_to_bound(keys, "c", "<=", "upper") }}{% endif %}

ORDER BY {% for k in keys %}c.{{ k.name|id }} DESC{{ ", " if not loop.last }}{% endfor %} LIMIT 1

-- name: insert_lease
-- A new lease by the database's clock; a time to live of zero makes one that is free to be taken over.
INSERT INTO rowscore_lease (run_id, token, lo, hi, size, owner, attempts, expires_at)
VALUES (:run, :token, :lo, :hi, :size, :owner, :attempts, UTC_TIMESTAMP(6) + INTERVAL ROUND(:ttl * 1000000) MICROSECOND)

-- name: hand_out_lease
-- A new lease, and the cursor behind its window.
UPDATE rowscore_run SET pos = :hi, token = :token WHERE id = :run;
INSERT INTO rowscore_lease (run_id, token, lo, hi, size, owner, expires_at)
VALUES (:run, :token, :lo, :hi, :size, :owner, UTC_TIMESTAMP(6) + INTERVAL ROUND(:ttl * 1000000) MICROSECOND)

-- name: use_tokens
-- The last token that a take-over used.
UPDATE rowscore_run SET token = :token WHERE id = :run

-- name: note_wrap
-- When the walk back to the beginning was made, and what it cost.
UPDATE rowscore_run SET wrapped_at = UTC_TIMESTAMP(6), wrap_seconds = :seconds WHERE id = :run

-- name: take_over_lease
-- A new token fences the old owner's changes to the lease; the window may have been cut.
UPDATE rowscore_lease SET token = :token, hi = :hi, size = :size, owner = :owner, attempts = :attempts,
       expires_at = UTC_TIMESTAMP(6) + INTERVAL ROUND(:ttl * 1000000) MICROSECOND
WHERE run_id = :run AND token = :old_token

-- name: renew_lease
-- More time for a batch in flight; no row when another worker took it over.
UPDATE rowscore_lease SET expires_at = UTC_TIMESTAMP(6) + INTERVAL ROUND(:ttl * 1000000) MICROSECOND
WHERE run_id = :run AND token = :token

-- name: finish_lease
-- The window is done; in the transaction of its rows.
DELETE FROM rowscore_lease WHERE run_id = :run AND token = :token

-- name: abandon_lease
-- The window goes back at once; this attempt is not held against it.
UPDATE rowscore_lease SET expires_at = '1000-01-01', attempts = attempts - 1 WHERE run_id = :run AND token = :token

-- name: live_leases
-- The leases that are out, for people.
SELECT l.run_id, r.kind, l.token, l.lo, l.hi, l.owner, l.attempts,
       CASE WHEN l.expires_at > '1000-01-01' THEN TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), l.expires_at) / 1e6 ELSE 0e0 END AS seconds_left
FROM rowscore_lease l JOIN rowscore_run r ON r.id = l.run_id WHERE r.prediction = :prediction
ORDER BY l.run_id, l.token
