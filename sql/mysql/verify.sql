-- name: walk_keys
-- First and last key of the next rows beyond a position, in whatever state, and how many they are.
WITH q AS (
  SELECT {{ key_list(keys, "c") }} FROM {{ table }} AS c FORCE INDEX ({{ key_index|id }}){% if start %} WHERE {{ key_to_bound(keys, "c", ">", "start") }}{% endif %}

  ORDER BY {{ key_list(keys, "c") }} LIMIT :limit)
SELECT (SELECT {{ key_text(keys, "q") }} FROM q ORDER BY {{ key_list(keys, "q") }} LIMIT 1) AS lo,
       (SELECT {{ key_text(keys, "q") }} FROM q ORDER BY {% for k in keys %}q.{{ k.name|id }} DESC{{ ", " if not loop.last }}{% endfor %} LIMIT 1) AS hi,
       (SELECT COUNT(*) FROM q) AS `rows`

-- name: compare_rows
-- The window's rows whose inputs are not those that were scored (1), or of which nobody knows (2); nothing is locked.
{% set found = verdict("c", kept, state, states, where) %}
SELECT {{ key_read(keys, "c") }}, {{ found }} FROM {{ table }} AS c FORCE INDEX ({{ key_index|id }})
WHERE {{ between(keys, "c") }} AND {{ found }} > 0
ORDER BY {{ key_list(keys, "c") }}

-- name: list_compared
-- Keys of the window's rows with none of the user's expressions, for bisection where one of those fails.
SELECT {{ key_read(keys, "c") }}, NULL FROM {{ table }} AS c FORCE INDEX ({{ key_index|id }})
WHERE {{ between(keys, "c") }} AND c.{{ state|id }} IN ({{ settled_states(states) }})
ORDER BY {{ key_list(keys, "c") }}

-- name: mark_changed
-- Rows that were found so wait to be scored again; they are locked already.
UPDATE {{ answers(keys, (), fingerprint_type) }} AS v
STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {{ same_key(keys, "c", "v") }}
SET c.{{ state|id }} = {{ states.PENDING.value }}{{ holding("c", held) }}
WHERE c.{{ state|id }} IN ({{ settled_states(states) }})

-- name: accept_rows
-- Rows of which nobody knows are taken to be as they were scored; they are locked already.
UPDATE {{ answers(keys, (), fingerprint_type) }} AS v
STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {{ same_key(keys, "c", "v") }}
SET c.{{ kept.column|id }} = {{ kept.expression }}{{ holding("c", held) }}
WHERE c.{{ state|id }} IN ({{ settled_states(states) }})

-- name: count_changed
-- How many of some rows are still found so: after they were marked, those that other sessions hold.
SELECT COUNT(*) FROM {{ answers(keys, (), fingerprint_type) }} AS v
STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {{ same_key(keys, "c", "v") }}
WHERE {{ verdict("c", kept, state, states, where) }} IN ({{ verified or 1 }})

-- name: add_verification
-- The one run that compares the whole table, time after time.
INSERT INTO rowscore_run (prediction, kind) SELECT :prediction, 'verify' FROM DUAL WHERE NOT EXISTS (
  SELECT 1 FROM rowscore_run r WHERE r.prediction = :prediction AND r.kind = 'verify' AND r.status = 'running')
ON DUPLICATE KEY UPDATE kind = rowscore_run.kind

-- name: find_verification
-- Where that run stands: how long ago it last did something, and its walk ended; in seconds.
SELECT r.id, r.token, r.pos, r.rows_walked,
       TIMESTAMPDIFF(MICROSECOND, r.wrapped_at, UTC_TIMESTAMP(6)) / 1e6 AS quiet,
       TIMESTAMPDIFF(MICROSECOND, r.finished_at, UTC_TIMESTAMP(6)) / 1e6 AS rested
FROM rowscore_run r WHERE r.prediction = :prediction AND r.kind = 'verify' AND r.status = 'running'

-- name: begin_verification
-- A walk from the beginning; nothing where somebody else began one.
UPDATE rowscore_run SET token = token + 1, pos = NULL, rows_walked = 0, started_at = UTC_TIMESTAMP(6),
       wrapped_at = UTC_TIMESTAMP(6), finished_at = NULL
WHERE id = :run AND token = :token

-- name: keep_verification
-- How far a walk is; nothing where somebody else went on with it meanwhile.
UPDATE rowscore_run SET pos = :pos, rows_walked = rows_walked + :looked, wrapped_at = UTC_TIMESTAMP(6),
       finished_at = CASE WHEN :over THEN UTC_TIMESTAMP(6) END
WHERE id = :run AND token = :token AND rows_walked = :walked
