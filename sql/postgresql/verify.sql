-- name: walk_keys
-- First and last key of the next rows beyond a position, in whatever state, and how many they are.
SELECT jsonb_build_array({% for k in keys %}CAST((array_agg(q.{{ k.name|id }}))[1] AS text){{ ", " if not loop.last }}{% endfor %}) AS lo,
       jsonb_build_array({% for k in keys %}CAST((array_agg(q.{{ k.name|id }}))[CAST(count(*) AS int)] AS text){{ ", " if not loop.last }}{% endfor %}) AS hi,
       count(*) AS rows
FROM (SELECT {{ key_list(keys, "c") }} FROM {{ table }} AS c{% if start %} WHERE {{ key(keys, "c") }} > {{ bound(keys, "start") }}{% endif %}

      ORDER BY {{ key_list(keys, "c") }} LIMIT :limit) AS q

-- name: compare_rows
-- The window's rows whose inputs are not those that were scored (1), or of which nobody knows (2); nothing is locked.
{% set found = verdict("c", kept, state, states, where) %}
{% if ends_walks %}
SELECT {{ key_read(keys, "c") }}, {{ found }} FROM {{ table }} AS c
WHERE {{ between(keys, "c") }} AND {{ found }} > 0
{% else %}
WITH k AS MATERIALIZED (
  SELECT {{ key_names(keys, "b") }}
  FROM (SELECT {{ key_list(keys, "c") }} FROM {{ table }} AS c WHERE {{ key(keys, "c") }} >= {{ bound(keys, "lo") }}
        ORDER BY {{ key_list(keys, "c") }} LIMIT {{ bind("limit") }}) AS b WHERE {{ key(keys, "b") }} <= {{ bound(keys, "hi") }})
SELECT {{ key_read(keys, "c") }}, {{ found }} FROM k AS v JOIN {{ table }} AS c ON {{ same_key(keys, "c", "v") }}
WHERE {{ found }} > 0
{% endif %}
ORDER BY {{ key_list(keys, "c") }}

-- name: list_compared
-- Keys of the window's rows with none of the user's expressions, for bisection where one of those fails.
SELECT {{ key_read(keys, "c") }}, NULL
FROM (SELECT {{ key_list(keys, "c") }}, c.{{ state|id }} FROM {{ table }} AS c WHERE {{ between(keys, "c") }}
      ORDER BY {{ key_list(keys, "c") }} LIMIT :limit) AS c
WHERE c.{{ state|id }} IN ({{ settled_states(states) }})
ORDER BY {{ key_list(keys, "c") }}

-- name: mark_changed
-- Those of some rows that are still found so wait to be scored again, but for those that other sessions hold.
WITH w AS MATERIALIZED (
  SELECT {{ key_names(keys, "c") }} FROM {{ answers(keys, (), fingerprint_type) }} AS v JOIN {{ table }} AS c ON {{ same_key(keys, "c", "v") }}
  WHERE {{ verdict("c", kept, state, states, where) }} IN ({{ verified or 1 }})
  FOR NO KEY UPDATE OF c SKIP LOCKED)
UPDATE {{ table }} AS c SET {{ state|id }} = {{ states.PENDING.value }} FROM w AS v WHERE {{ same_key(keys, "c", "v") }}

-- name: accept_rows
-- Those of some rows of which nobody knows are taken to be as they were scored, but for those that other sessions hold.
WITH w AS MATERIALIZED (
  SELECT {{ key_names(keys, "c") }} FROM {{ answers(keys, (), fingerprint_type) }} AS v JOIN {{ table }} AS c ON {{ same_key(keys, "c", "v") }}
  WHERE {{ verdict("c", kept, state, states, where) }} IN ({{ verified or 2 }})
  FOR NO KEY UPDATE OF c SKIP LOCKED)
UPDATE {{ table }} AS c SET {{ kept.column|id }} = {{ kept.expression }} FROM w AS v WHERE {{ same_key(keys, "c", "v") }}

-- name: count_changed
-- How many of some rows are still found so: after they were marked, those that other sessions hold.
SELECT count(*) FROM {{ answers(keys, (), fingerprint_type) }} AS v JOIN {{ table }} AS c ON {{ same_key(keys, "c", "v") }}
WHERE {{ verdict("c", kept, state, states, where) }} IN ({{ verified or 1 }})

-- name: add_verification
-- The one run that compares the whole table, time after time.
INSERT INTO rowscore.run (prediction, kind) VALUES (:prediction, 'verify')
ON CONFLICT (prediction, kind) WHERE status IN ('running', 'paused') DO NOTHING

-- name: find_verification
-- Where that run stands: how long ago it last did something, and its walk ended; in seconds.
SELECT r.id, r.token, r.pos, r.rows_walked,
       CAST(extract(epoch FROM clock_timestamp() - r.wrapped_at) AS double precision) AS quiet,
       CAST(extract(epoch FROM clock_timestamp() - r.finished_at) AS double precision) AS rested
FROM rowscore.run r WHERE r.prediction = :prediction AND r.kind = 'verify' AND r.status = 'running'

-- name: begin_verification
-- A walk from the beginning; nothing where somebody else began one.
UPDATE rowscore.run SET token = token + 1, pos = NULL, rows_walked = 0, started_at = clock_timestamp(),
       wrapped_at = clock_timestamp(), finished_at = NULL
WHERE id = :run AND token = :token

-- name: keep_verification
-- How far a walk is; nothing where somebody else went on with it meanwhile.
UPDATE rowscore.run SET pos = CAST(:pos AS jsonb), rows_walked = rows_walked + :looked, wrapped_at = clock_timestamp(),
       finished_at = CASE WHEN :over THEN clock_timestamp() END
WHERE id = :run AND token = :token AND rows_walked = :walked
