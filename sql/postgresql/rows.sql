-- name: skip_rows
-- The window's rows for which the configured `where` does not hold are not scored and wait no longer.
WITH k AS MATERIALIZED (
  SELECT {{ key_names(keys, "c") }} FROM {{ table }} AS c
  WHERE {{ waiting(keys, "c", state, claims, states, only) }} AND ({{ where }}) IS NOT TRUE
  ORDER BY {{ key_order(keys, "c", claims == states.PENDING, state) }} LIMIT {{ at_most(ends_walks, table, keys, state, claims, states, "(" ~ where ~ ") IS NOT TRUE", only) }}
  FOR NO KEY UPDATE OF c SKIP LOCKED)
UPDATE {{ table }} AS c SET {{ state|id }} = {{ states.SKIPPED.value }}{{ keeping(kept, kept.first) }} FROM k AS v WHERE {{ same_key(keys, "c", "v") }}

-- name: read_rows
-- Keys, fingerprint and inputs of the window's rows; rows that the application holds are stepped over, so never paid for.
{% if packed %}SELECT count(*), sum({{ nulls(packings[keys|length + 1:], keys|length + 1) }}){% for packing in packings %}, {{ packed_column(packing, "a.c" ~ loop.index) }}{% endfor %} FROM (
{% endif %}SELECT {{ key_read(keys, "c") }}, {{ fingerprint }}{% for input in read_inputs %}, {{ input }}{% endfor %}

FROM {{ table }} AS c
WHERE {{ waiting(keys, "c", state, claims, states, only) }}{% if where %} AND ({{ where }}) IS TRUE{% endif %}{% if versioned %} AND {{ unheld(table, keys, "c", state, claims) }}{% endif %}

ORDER BY {{ key_order(keys, "c", claims == states.PENDING, state) }} LIMIT {{ at_most(ends_walks, table, keys, state, claims, states, none, only) }}{% if not versioned %} FOR NO KEY UPDATE OF c SKIP LOCKED{% endif %}
{% if packed %}) AS a({% for packing in packings %}c{{ loop.index }}{{ ", " if not loop.last }}{% endfor %}){% endif %}


-- name: write_rows
-- The guarded write, at full speed: waits for a row's lock, so it runs under a short lock_timeout.
UPDATE {{ table }} AS c SET {{ written(outputs, state, states, scored_at, version, kept) }}
FROM {{ answers(keys, outputs, fingerprint_type) }} AS v
WHERE {{ same_key(keys, "c", "v") }} AND {{ guard("c", state, claims, outdated, fingerprint) }}

-- name: changed_rows
-- Of the scored rows that still wait those with another version than was read: some column changed, perhaps no input.
SELECT {{ key_read(keys, "c") }}, {{ fingerprint }}{% for input in read_inputs %}, {{ input }}{% endfor %}

FROM {{ answers(keys, (), fingerprint_type) }} AS v JOIN {{ table }} AS c ON {{ same_key(keys, "c", "v") }}
WHERE CASE WHEN {{ claimed("c", state, claims, outdated) }} THEN {{ fingerprint }} <> v."rowscore$f" ELSE false END

-- name: write_rows_past_locks
-- The same write after a lock was not granted: lock first, step over what is held (the application never waits for us).
WITH w AS MATERIALIZED (
  SELECT v.* FROM {{ answers(keys, outputs, fingerprint_type) }} AS v JOIN {{ table }} AS c ON {{ same_key(keys, "c", "v") }}
  WHERE {{ guard("c", state, claims, outdated, fingerprint) }}
  FOR NO KEY UPDATE OF c SKIP LOCKED)
UPDATE {{ table }} AS c SET {{ written(outputs, state, states, scored_at, version, kept) }}
FROM w AS v WHERE {{ same_key(keys, "c", "v") }}

-- name: mark_failed
-- Rows that bisection found become failed, under the same guard; their keys come back.
WITH w AS MATERIALIZED (
  SELECT v.*, {{ key_text(keys, "c") }} AS "rowscore$t"
  FROM {{ answers(keys, (), fingerprint_type) }} AS v JOIN {{ table }} AS c ON {{ same_key(keys, "c", "v") }}
  WHERE {% if guarded %}{{ guard("c", state, claims, outdated, fingerprint) }}{% else %}CASE WHEN {{ claimed("c", state, claims, outdated) }} THEN true ELSE false END{% endif %}

  FOR NO KEY UPDATE OF c SKIP LOCKED)
UPDATE {{ table }} AS c SET {{ state|id }} = {{ states.FAILED.value }}{{ keeping(kept, kept.expression if guarded else "NULL") }}
FROM w AS v WHERE {{ same_key(keys, "c", "v") }}
RETURNING v."rowscore$t"

-- name: score_rows
-- One batch inside the database: claim, call the function once for each claimed row, write; locks last one statement.
WITH claimed AS MATERIALIZED (
  SELECT {{ key_names(keys, "c") }}{% for name, expression in inputs %}, {{ expression }} AS "rowscore$i{{ loop.index }}"{% endfor %}

  FROM {{ table }} AS c
  WHERE {{ waiting(keys, "c", state, claims, states, only) }}{% if where %} AND ({{ where }}) IS TRUE{% endif %}

  ORDER BY {{ key_order(keys, "c", claims == states.PENDING, state) }} LIMIT {{ at_most(ends_walks, table, keys, state, claims, states, none, only) }}
  FOR NO KEY UPDATE OF c SKIP LOCKED
), answered AS MATERIALIZED (
  SELECT {% for k in keys %}"rowscore$k{{ loop.index }}", {% endfor %}{{ call(function, inputs, max_rows_per_batch) }} AS "rowscore$a"
  FROM claimed
)
UPDATE {{ table }} AS c
SET {% for output in outputs %}{{ output.name|id }} = {{ function.answer('v."rowscore$a"', loop.index0) }}, {% endfor %}
    {{ state|id }} = {{ states.SCORED.value }}, {{ scored_at|id }} = clock_timestamp(){{ keeping(kept, kept.expression) }}{% if version %}, {{ version|id }} = :version{% endif %}

FROM answered AS v WHERE {{ same_key(keys, "c", "v") }}

-- name: claim_rows
-- Lock the window's rows, stepping over those that others hold, and see whether there were any.
WITH claimed AS MATERIALIZED (
  SELECT 1 FROM {{ table }} AS c
  WHERE {{ waiting(keys, "c", state, claims, states, only) }}{% if where %} AND ({{ where }}) IS TRUE{% endif %}

  ORDER BY {{ key_order(keys, "c", claims == states.PENDING, state) }} LIMIT {{ at_most(ends_walks, table, keys, state, claims, states, none, only) }}
  FOR NO KEY UPDATE OF c SKIP LOCKED)
SELECT (SELECT count(*) FROM claimed) = {% if ends_walks %}(SELECT count(*) FROM {{ table }} AS c
  WHERE {{ waiting(keys, "c", state, claims, states, only) }}{% if where %} AND ({{ where }}) IS TRUE{% endif %})
{% else %}{{ at_most(ends_walks, table, keys, state, claims, states, "(" ~ where ~ ") IS TRUE" if where else none, only) }}
{% endif %}

-- name: score_rows_in_place
-- The same where nobody else holds a row of the window: one walk over it, no join (4.2 µs a row of CPU against 5.9).
UPDATE {{ table }} AS c
SET {{ outputs[0].name|id }} = {{ call_plain(function, inputs, max_rows_per_batch) }},
    {{ state|id }} = {{ states.SCORED.value }}, {{ scored_at|id }} = clock_timestamp(){{ keeping(kept, kept.expression) }}{% if version %}, {{ version|id }} = :version{% endif %}

WHERE {{ waiting(keys, "c", state, claims, states, only) }}{% if where %} AND ({{ where }}) IS TRUE{% endif %}


-- name: list_rows
-- Keys and fingerprints of the window's rows, for bisection; or of those only that nobody holds.
SELECT {{ key_read(keys, "c") }}, {{ fingerprint }} FROM {{ table }} AS c
WHERE {{ waiting(keys, "c", state, claims, states, only) }}{% if where %} AND ({{ where }}) IS TRUE{% endif %}

ORDER BY {{ key_order(keys, "c", claims == states.PENDING, state) }} LIMIT {{ at_most(ends_walks, table, keys, state, claims, states, none, only) }}{% if unheld %} FOR NO KEY UPDATE OF c SKIP LOCKED{% endif %}


-- name: list_keys
-- Keys of the window's rows with none of the user's expressions, for bisection when an expression itself fails.
SELECT {{ key_read(keys, "c") }}, NULL FROM {{ table }} AS c
WHERE {{ waiting(keys, "c", state, claims, states, only) }}
ORDER BY {{ key_order(keys, "c", claims == states.PENDING, state) }} LIMIT {{ at_most(ends_walks, table, keys, state, claims, states, none, only) }}

-- name: answer_rows
-- Keys, fingerprints and the function's answers with nothing locked, for functions that would hold locks too long.
SELECT {% for k in keys %}a."rowscore$k{{ loop.index }}", {% endfor %}a."rowscore$f"{% for output in outputs %}, {{ sent_type(output, function.answer('a."rowscore$a"', loop.index0)) }}{% endfor %}

FROM (SELECT p.*, {{ call(function, inputs, max_rows_per_batch) }} AS "rowscore$a"
      FROM (SELECT {% for k in keys %}{% if k.native %}c.{{ k.name|id }}{% else %}CAST(c.{{ k.name|id }} AS text){% endif %} AS "rowscore$k{{ loop.index }}", {% endfor %}

                   {{ fingerprint }} AS "rowscore$f"{% for name, expression in inputs %}, {{ expression }} AS "rowscore$i{{ loop.index }}"{% endfor %}

            FROM {{ table }} AS c
            WHERE {{ waiting(keys, "c", state, claims, states, only) }}{% if where %} AND ({{ where }}) IS TRUE{% endif %}

            ORDER BY {{ key_order(keys, "c", claims == states.PENDING, state) }} LIMIT {{ at_most(ends_walks, table, keys, state, claims, states, none, only) }}) AS p
      OFFSET 0) AS a

-- name: count_waiting
-- How many of the scored rows still wait with the same inputs: after a write past locks, those that were locked.
SELECT count(*) FROM {{ answers(keys, (), fingerprint_type) }} AS v JOIN {{ table }} AS c ON {{ same_key(keys, "c", "v") }}
WHERE {{ guard("c", state, claims, outdated, fingerprint) }}
