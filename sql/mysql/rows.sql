-- name: skip_rows
-- The window's rows for which the configured `where` does not hold are not scored and wait no longer.
UPDATE (SELECT {% for k in keys %}c.{{ k.name|id }} AS `rowscore$k{{ loop.index }}`{{ ", " if not loop.last }}{% endfor %} FROM {{ table }} AS c {{ by_pending(pending_index) }}
        WHERE {{ waiting(keys, "c", state, claims) }} AND ({{ where }}) IS NOT TRUE
        ORDER BY {{ key_list(keys, "c") }} LIMIT :limit FOR UPDATE SKIP LOCKED) AS v
STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {% for k in keys %}c.{{ k.name|id }} = v.`rowscore$k{{ loop.index }}`{{ " AND " if not loop.last }}{% endfor %}

SET c.{{ state|id }} = {{ states.SKIPPED.value }}{{ holding("c", held) }}

-- name: read_rows
-- Keys, fingerprint and inputs of the window's rows; rows that the application holds are stepped over, so never paid for.
SELECT {{ key_read(keys, "c") }}, {{ fingerprint }}{% for input in read_inputs %}, {{ input }}{% endfor %}
 FROM {{ table }} AS c {{ by_pending(pending_index) }}
WHERE {{ waiting(keys, "c", state, claims) }}{% if where %} AND ({{ where }}) IS TRUE{% endif %}

ORDER BY {{ key_list(keys, "c") }} LIMIT :limit {{ "LOCK IN SHARE MODE" if mariadb else "FOR SHARE" }} SKIP LOCKED

-- name: write_rows
-- The guarded write: locks first, stepping over rows that others hold; the LIMIT keeps the derived table unmerged.
UPDATE (SELECT v.* FROM {{ answers(keys, outputs, fingerprint_type) }} AS v
        STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {{ same_key(keys, "c", "v") }}
        WHERE {{ guard("c", state, claims, fingerprint) }} LIMIT 18446744073709551615
        FOR UPDATE{{ "" if mariadb else " OF c" }} SKIP LOCKED) AS v
STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {{ same_key(keys, "c", "v") }}
SET {% for o in outputs %}c.{{ o.name|id }} = {{ received(o, "v.`rowscore$o" ~ loop.index ~ "`") }}, {% endfor %}{{ settled("c", state, states, scored_at, version, held) }}

-- name: lock_failed
-- Locks the rows that are to be marked as failed and still may be; answers with their keys as texts.
SELECT {{ key_text(keys, "c") }} FROM {{ answers(keys, (), fingerprint_type) }} AS v
STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {{ same_key(keys, "c", "v") }}
WHERE {% if guarded %}{{ guard("c", state, claims, fingerprint) }}{% else %}c.{{ state|id }} = {{ claims.value }}{% endif %}

FOR UPDATE{{ "" if mariadb else " OF c" }} SKIP LOCKED

-- name: mark_failed
-- Rows that bisection found become failed; they are locked already.
UPDATE {{ answers(keys, (), fingerprint_type) }} AS v
STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {{ same_key(keys, "c", "v") }}
SET c.{{ state|id }} = {{ states.FAILED.value }}{{ holding("c", held) }}
WHERE c.{{ state|id }} = {{ claims.value }}

-- name: claim_rows
-- Locks the window's rows, stepping over those that others hold, and says whether there were none of those.
SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM {{ table }} AS c {{ by_pending(pending_index) }}
          WHERE {{ waiting(keys, "c", state, claims) }}{% if where %} AND ({{ where }}) IS TRUE{% endif %}

          ORDER BY {{ key_list(keys, "c") }} LIMIT :limit FOR UPDATE SKIP LOCKED) AS l)
     = (SELECT COUNT(*) FROM {{ table }} AS c {{ by_pending(pending_index) }}
        WHERE {{ waiting(keys, "c", state, claims) }}{% if where %} AND ({{ where }}) IS TRUE{% endif %})

-- name: score_rows
-- One batch inside the database: claim, call the function in SET for each claimed row, write; locks last one statement.
UPDATE (SELECT {% for k in keys %}c.{{ k.name|id }} AS `rowscore$k{{ loop.index }}`{{ ", " if not loop.last }}{% endfor %} FROM {{ table }} AS c {{ by_pending(pending_index) }}
        WHERE {{ waiting(keys, "c", state, claims) }}{% if where %} AND ({{ where }}) IS TRUE{% endif %}

        ORDER BY {{ key_list(keys, "c") }} LIMIT :limit FOR UPDATE SKIP LOCKED) AS v
STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {% for k in keys %}c.{{ k.name|id }} = v.`rowscore$k{{ loop.index }}`{{ " AND " if not loop.last }}{% endfor %}

SET c.{{ outputs[0].name|id }} = {{ call(function, inputs) }}, {{ settled("c", state, states, scored_at, version, held) }}

-- name: list_rows
-- Keys and fingerprints of the window's rows, for bisection; or of those only that nobody holds.
SELECT {{ key_read(keys, "c") }}, {{ fingerprint }} FROM {{ table }} AS c {{ by_pending(pending_index) }}
WHERE {{ waiting(keys, "c", state, claims) }}{% if where %} AND ({{ where }}) IS TRUE{% endif %}

ORDER BY {{ key_list(keys, "c") }} LIMIT :limit{% if unheld %} FOR UPDATE SKIP LOCKED{% endif %}


-- name: list_keys
-- Keys of the window's rows with none of the user's expressions, for bisection when an expression itself fails.
SELECT {{ key_read(keys, "c") }}, NULL FROM {{ table }} AS c {{ by_pending(pending_index) }}
WHERE {{ waiting(keys, "c", state, claims) }}
ORDER BY {{ key_list(keys, "c") }} LIMIT :limit

-- name: answer_rows
-- Keys, fingerprints and the function's answers with nothing locked, for functions that would hold locks too long.
SELECT {{ key_read(keys, "c") }}, {{ fingerprint }}, {{ call(function, inputs) }} FROM {{ table }} AS c {{ by_pending(pending_index) }}
WHERE {{ waiting(keys, "c", state, claims) }}{% if where %} AND ({{ where }}) IS TRUE{% endif %}

ORDER BY {{ key_list(keys, "c") }} LIMIT :limit

-- name: count_waiting
-- How many of the scored rows still wait with the same inputs: after a write past locks, those that were locked.
SELECT COUNT(*) FROM {{ answers(keys, (), fingerprint_type) }} AS v
STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {{ same_key(keys, "c", "v") }}
WHERE {{ guard("c", state, claims, fingerprint) }}
