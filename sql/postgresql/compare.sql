-- name: count_compared
-- Rows that both have scored, and that one of them has; reads the table.
SELECT count(*) FILTER (WHERE {{ in_both("c", state, other, states) }}) AS compared,
       count(*) FILTER (WHERE c.{{ state|id }} = {{ states.SCORED.value }} AND c.{{ other|id }} <> {{ states.SCORED.value }}) AS only_live,
       count(*) FILTER (WHERE c.{{ state|id }} <> {{ states.SCORED.value }} AND c.{{ other|id }} = {{ states.SCORED.value }}) AS only_shadow,
       count(*) AS rows
FROM {{ table }} AS c{{ sampled(portion) }}

-- name: compare_numbers
-- One output of both, numbers, in one pass. Values that are not finite or huge are compared, and are in no distribution.
WITH pairs AS (
  SELECT CAST(c.{{ old|id }} AS double precision) AS x, CAST(c.{{ new|id }} AS double precision) AS y
  FROM {{ table }} AS c{{ sampled(portion) }} WHERE {{ in_both("c", state, other, states) }}
), moves AS (
  SELECT p.x, p.y, CASE WHEN abs(p.x) <= 1e150 THEN p.x END AS fx, CASE WHEN abs(p.y) <= 1e150 THEN p.y END AS fy,
         CASE WHEN abs(p.x) <= 1e150 AND abs(p.y) <= 1e150 THEN p.y - p.x END AS fd FROM pairs AS p)
SELECT count(*) AS compared, count(*) - count(m.x) AS old_nulls, count(*) - count(m.y) AS new_nulls,
       count(*) FILTER (WHERE {{ moved("m.x", "m.y", "m.fd") }}) AS changed
{% for name, value in (("old", "m.fx"), ("new", "m.fy"), ("change", "m.fd")) %}
     , count({{ value }}) AS {{ name }}_count, min({{ value }}) AS {{ name }}_min, max({{ value }}) AS {{ name }}_max, avg({{ value }}) AS {{ name }}_mean
{% for percent in (5, 25, 50, 75, 95) %}
     , (percentile_disc(CAST(ARRAY[0.05, 0.25, 0.5, 0.75, 0.95] AS double precision[])) WITHIN GROUP (ORDER BY {{ value }}))[{{ loop.index }}] AS {{ name }}_p{{ percent }}
{% endfor %}
{% endfor %}
FROM moves AS m

-- name: compare_classes
-- One output of both, texts, booleans and documents: how often which old value meets which new one, the commonest first.
SELECT left(CAST(q.x AS text), 200) AS old, left(CAST(q.y AS text), 200) AS new, q.rows, q.compared, q.changed
FROM (SELECT p.x, p.y, count(*) AS rows, CAST(sum(count(*)) OVER () AS bigint) AS compared,
             CAST(coalesce(sum(count(*)) FILTER (WHERE p.x IS DISTINCT FROM p.y) OVER (), 0) AS bigint) AS changed
      FROM (SELECT {{ comparable(old, kind) }} AS x, {{ comparable(new, kind) }} AS y
            FROM {{ table }} AS c{{ sampled(portion) }} WHERE {{ in_both("c", state, other, states) }}) AS p
      GROUP BY p.x, p.y) AS q
ORDER BY q.rows DESC, 1, 2 LIMIT :limit

-- name: largest_moves
-- The rows whose number moved most; where one of the two is no number that can be subtracted, they come first.
SELECT q.key, q.x AS old, q.y AS new
FROM (SELECT m.*, CASE WHEN abs(m.x) <= 1e150 AND abs(m.y) <= 1e150 THEN m.y - m.x END AS fd
      FROM (SELECT {{ key_text(keys, "c") }} AS key, CAST(c.{{ old|id }} AS double precision) AS x, CAST(c.{{ new|id }} AS double precision) AS y
            FROM {{ table }} AS c{{ sampled(portion) }} WHERE {{ in_both("c", state, other, states) }}) AS m) AS q
WHERE {{ moved("q.x", "q.y", "q.fd") }}
ORDER BY abs(q.fd) DESC NULLS FIRST, q.key LIMIT :limit

-- name: first_changes
-- Rows whose value is another one, in the order of their key.
SELECT {{ key_text(keys, "c") }} AS key, left(CAST({{ comparable(old, kind) }} AS text), 200) AS old, left(CAST({{ comparable(new, kind) }} AS text), 200) AS new
FROM {{ table }} AS c{{ sampled(portion) }}
WHERE {{ in_both("c", state, other, states) }} AND {{ comparable(old, kind) }} IS DISTINCT FROM {{ comparable(new, kind) }}
ORDER BY {% for k in keys %}c.{{ k.name|id }}{{ ", " if not loop.last }}{% endfor %} LIMIT :limit

-- name: count_rows
-- How many rows there are, where no statistics tell.
SELECT count(*) FROM {{ table }}
