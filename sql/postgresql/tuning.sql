-- name: look_states
-- The commonest state of a row that a model took, among the table's first: `tune` looks there where no row waits.
SELECT q.state, count(*) AS rows
FROM (SELECT c.{{ state|id }} AS state FROM {{ table }} AS c ORDER BY {{ key_list(keys, "c") }} LIMIT :limit) AS q
WHERE q.state NOT IN ({{ states.FAILED.value }}, {{ states.SKIPPED.value }}) GROUP BY 1 ORDER BY 2 DESC LIMIT 1

-- name: look_rows
-- Keys and inputs of the first rows in one state, with nothing locked: what `tune` tries a model with.
WITH k AS MATERIALIZED (
  SELECT {{ key_names(keys, "c") }} FROM {{ table }} AS c
  WHERE c.{{ state|id }} = {{ claims.value }}{% if claims == states.PENDING %} AND {{ from_the_first(keys, "c", state) }}{% endif %}

  ORDER BY {{ key_order(keys, "c", claims == states.PENDING, state) }} LIMIT :limit)
SELECT {{ key_read(keys, "c") }}, NULL{% for input in read_inputs %}, {{ input }}{% endfor %}

FROM k AS v JOIN {{ table }} AS c ON {{ same_key(keys, "c", "v") }}{% if where %} WHERE ({{ where }}) IS TRUE{% endif %}

ORDER BY {{ key_list(keys, "c") }}
