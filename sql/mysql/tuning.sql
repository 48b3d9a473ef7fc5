-- name: look_states
-- The commonest state of a row that a model took, among the table's first: `tune` looks there where no row waits.
SELECT q.state, COUNT(*) AS `rows`
FROM (SELECT c.{{ state|id }} AS state FROM {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ORDER BY {{ key_list(keys, "c") }} LIMIT :limit) AS q
WHERE q.state NOT IN ({{ states.FAILED.value }}, {{ states.SKIPPED.value }}) GROUP BY 1 ORDER BY 2 DESC LIMIT 1

-- name: look_rows
-- Keys and inputs of the first rows in one state, with nothing locked: what `tune` tries a model with.
SELECT {{ key_read(keys, "c") }}, NULL{% for input in read_inputs %}, {{ input }}{% endfor %}

FROM (SELECT {% for k in keys %}c.{{ k.name|id }} AS `rowscore$k{{ loop.index }}`{{ ", " if not loop.last }}{% endfor %}

      FROM {{ table }} AS c {{ by_pending(pending_index) }}
      WHERE c.{{ state|id }} = {{ claims.value }} ORDER BY {{ key_list(keys, "c") }} LIMIT :limit) AS v
STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {% for k in keys %}c.{{ k.name|id }} = v.`rowscore$k{{ loop.index }}`{{ " AND " if not loop.last }}{% endfor %}
{% if where %}

WHERE ({{ where }}) IS TRUE{% endif %}

ORDER BY {{ key_list(keys, "c") }}
