-- name: share_prediction
-- The prediction's generation, held still until this transaction ends: a rescore waits for it, writers do not.
SELECT p.generation, p.definition_hash, p.version, c.open_until > clock_timestamp() AS circuit_open,
       CAST(extract(epoch FROM c.open_until - clock_timestamp()) AS double precision) AS circuit_seconds, c.reason, c.failures,
       l.rows_per_claim, l.rows_per_call,
       EXISTS (SELECT FROM rowscore.failure f WHERE f.prediction = p.name) AS has_failures, NULL AS held
FROM rowscore.prediction p
LEFT JOIN rowscore.circuit c ON c.prediction = p.name LEFT JOIN rowscore.learned l ON l.prediction = p.name
WHERE p.name = :prediction FOR SHARE OF p

-- name: lock_run
-- The run's cursor, locked alone and first: a snapshot taken before the wait would not see the last lease.
SELECT r.id, r.kind, r.status, r.pos, r.lower, r.upper, r.token, r.wrap_seconds,
       r.rows_scored + r.rows_failed + r.rows_skipped AS done,
       CAST(extract(epoch FROM r.next_at - clock_timestamp()) AS double precision) AS rest,
       clock_timestamp() AS clock, r.spent_calls, r.spent_rows, r.spent_money,
       coalesce(r.spent_on = CAST(clock_timestamp() AT TIME ZONE 'UTC' AS date), false) AS spent_today,
       CAST(extract(epoch FROM clock_timestamp() - r.wrapped_at) AS double precision) AS since_wrap
FROM rowscore.run r WHERE r.prediction = :prediction AND r.kind = :kind AND r.status IN ('running', 'paused') FOR UPDATE

-- name: find_run
-- The prediction's run of that kind that is running or paused.
SELECT r.id FROM rowscore.run r WHERE r.prediction = :prediction AND r.kind = :kind AND r.status IN ('running', 'paused')

-- name: take_expired_lease
-- An expired lease to take over; one whose owner is writing is locked and counts as live.
SELECT l.token, l.lo, l.hi, l.attempts FROM rowscore.lease l
WHERE l.run_id = :run AND l.expires_at < clock_timestamp()
ORDER BY l.expires_at, l.token LIMIT 1 FOR UPDATE SKIP LOCKED

-- name: count_leases
-- How many other workers hold leases of the run, live ones and any, how many are out with what rows, and how many expired.
SELECT count(DISTINCT l.owner) FILTER (WHERE l.owner <> :owner) AS others, count(*) AS out, CAST(coalesce(sum(l.size), 0) AS bigint) AS rows_out,
       count(DISTINCT l.owner) FILTER (WHERE l.owner <> :owner AND l.expires_at >= clock_timestamp()) AS live_others,
       count(*) FILTER (WHERE l.expires_at < clock_timestamp()) AS expired
FROM rowscore.lease l WHERE l.run_id = :run

-- name: next_lease
-- The nearest lease that reaches beyond the position, and whether it covers the position.
SELECT l.lo, l.hi{% if start %}, {{ stored(keys, "l.lo") }} <= {{ bound(keys, "start") }} AS covers{% else %}, false AS covers{% endif %}

FROM rowscore.lease l
WHERE l.run_id = :run{% if start %} AND {{ stored(keys, "l.hi") }} {{ ">" if start == "after" else ">=" }} {{ bound(keys, "start") }}{% endif %}

ORDER BY {{ stored(keys, "l.lo") }} LIMIT 1

-- name: probe_window
-- First and last key of the next rows beyond the position, and how many they are; walks one index.
{% set pending = claims == states.PENDING %}
{# The other bounds are outside the walk: inside they would not end it before PostgreSQL 18. #}
SELECT jsonb_build_array({% for k in keys %}CAST((array_agg(q.{{ k.name|id }}))[1] AS text){{ ", " if not loop.last }}{% endfor %}) AS lo,
       jsonb_build_array({% for k in keys %}CAST((array_agg(q.{{ k.name|id }}))[CAST(count(*) AS int)] AS text){{ ", " if not loop.last }}{% endfor %}) AS hi,
       count(*) AS rows
FROM (SELECT {{ key_list(keys, "c") }} FROM {{ table }} AS c
      WHERE {% if pending %}c.{{ state|id }} = {{ states.PENDING.value }}{% if not start %} AND {{ from_the_first(keys, "c", state) }}{% endif %}{% else %}true{% endif %}

{% if start %}{% set comparison = ">" if start == "after" else ">=" %}
 AND {% if pending %}{{ stated(keys, "c", state) }} {{ comparison }} {{ stated_bound(keys, states.PENDING, "start") }}{% else %}{{ key(keys, "c") }} {{ comparison }} {{ bound(keys, "start") }}{% endif %}

{% endif %}
      ORDER BY {{ key_order(keys, "c", pending, state) }} LIMIT :limit) AS q
WHERE true{% if cap %} AND {{ key(keys, "q") }} {{ "<" if cap == "before" else "<=" }} {{ bound(keys, "cap") }}{% endif %}{% if upper %} AND {{ key(keys, "q") }} <= {{ bound(keys, "upper") }}{% endif %}


-- name: first_claimable
-- The first key that the run could claim, from the very beginning; walks dead index entries, so outside any lock.
SELECT {{ key_text(keys, "c") }} FROM {{ table }} AS c
WHERE c.{{ state|id }} = {{ claims.value }}{{ of_run(keys, "c", lower, upper, only) }}
{% if claims == states.PENDING %} AND {{ from_the_first(keys, "c", state) }}{% endif %}

ORDER BY {{ key_order(keys, "c", claims == states.PENDING, state) }} LIMIT 1

-- name: last_key
-- The table's last key now, or the last one up to a bound.
SELECT {{ key_text(keys, "c") }} FROM {{ table }} AS c{% if upper %} WHERE {{ key(keys, "c") }} <= {{ bound(keys, "upper") }}{% endif %}

ORDER BY {% for k in keys %}c.{{ k.name|id }} DESC{{ ", " if not loop.last }}{% endfor %} LIMIT 1

-- name: insert_lease
-- A new lease by the database's clock; a time to live of zero makes one that is free to be taken over.
INSERT INTO rowscore.lease (run_id, token, lo, hi, size, owner, attempts, expires_at)
VALUES (:run, :token, CAST(:lo AS jsonb), CAST(:hi AS jsonb), :size, :owner, :attempts,
        clock_timestamp() + make_interval(secs => :ttl))

-- name: hand_out_lease
-- A new lease, and the cursor behind its window.
WITH advanced AS (UPDATE rowscore.run SET pos = CAST(:hi AS jsonb), token = :token WHERE id = :run)
INSERT INTO rowscore.lease (run_id, token, lo, hi, size, owner, expires_at)
VALUES (:run, :token, CAST(:lo AS jsonb), CAST(:hi AS jsonb), :size, :owner, clock_timestamp() + make_interval(secs => :ttl))

-- name: use_tokens
-- The last token that a take-over used.
UPDATE rowscore.run SET token = :token WHERE id = :run

-- name: note_wrap
-- When the walk back to the beginning was made, and what it cost.
UPDATE rowscore.run SET wrapped_at = clock_timestamp(), wrap_seconds = :seconds WHERE id = :run

-- name: take_over_lease
-- A new token fences the old owner's changes to the lease; the window may have been cut.
UPDATE rowscore.lease SET token = :token, hi = CAST(:hi AS jsonb), size = :size, owner = :owner, attempts = :attempts,
       expires_at = clock_timestamp() + make_interval(secs => :ttl)
WHERE run_id = :run AND token = :old_token

-- name: renew_lease
-- More time for a batch in flight; no row when another worker took it over.
UPDATE rowscore.lease SET expires_at = clock_timestamp() + make_interval(secs => :ttl)
WHERE run_id = :run AND token = :token

-- name: finish_lease
-- The window is done; in the transaction of its rows.
DELETE FROM rowscore.lease WHERE run_id = :run AND token = :token

-- name: abandon_lease
-- The window goes back at once; this attempt is not held against it.
UPDATE rowscore.lease SET expires_at = '-infinity', attempts = attempts - 1 WHERE run_id = :run AND token = :token

-- name: live_leases
-- The leases that are out, for people.
SELECT l.run_id, r.kind, l.token, l.lo, l.hi, l.owner, l.attempts,
       CASE WHEN isfinite(l.expires_at)
         THEN CAST(extract(epoch FROM l.expires_at - clock_timestamp()) AS double precision) ELSE 0 END AS seconds_left
FROM rowscore.lease l JOIN rowscore.run r ON r.id = l.run_id WHERE r.prediction = :prediction
ORDER BY l.run_id, l.token
