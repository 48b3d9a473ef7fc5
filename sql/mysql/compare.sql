-- name: count_compared
-- Rows that both have scored, and that one of them has; reads the table.
SELECT CAST(COALESCE(SUM({{ in_both("c", state, other, states) }}), 0) AS SIGNED) AS compared,
       CAST(COALESCE(SUM(c.{{ state|id }} = {{ states.SCORED.value }} AND c.{{ other|id }} <> {{ states.SCORED.value }}), 0) AS SIGNED) AS only_live,
       CAST(COALESCE(SUM(c.{{ state|id }} <> {{ states.SCORED.value }} AND c.{{ other|id }} = {{ states.SCORED.value }}), 0) AS SIGNED) AS only_shadow,
       COUNT(*) AS `rows`
FROM {{ table }} AS c WHERE TRUE{{ sampled(keys, portion) }}

-- name: compare_numbers
-- One output of both, numbers; each of three sorted alone, which is twice as quick as three windows over one row.
{% set x = "(c." ~ old|id ~ " + 0e0)" %}
{% set y = "(c." ~ new|id ~ " + 0e0)" %}
{% set finite = {"old": "CASE WHEN ABS(" ~ x ~ ") <= 1e150 THEN " ~ x ~ " END", "new": "CASE WHEN ABS(" ~ y ~ ") <= 1e150 THEN " ~ y ~ " END",
                 "change": "CASE WHEN ABS(" ~ x ~ ") <= 1e150 AND ABS(" ~ y ~ ") <= 1e150 THEN " ~ y ~ " - " ~ x ~ " END"} %}
WITH totals AS (
  SELECT COUNT(*) AS compared, COUNT(*) - COUNT({{ x }}) AS old_nulls, COUNT(*) - COUNT({{ y }}) AS new_nulls,
         CAST(COALESCE(SUM({{ moved(x, y, finite.change) }}), 0) AS SIGNED) AS changed
{% for name, value in finite.items() %}
       , COUNT({{ value }}) AS {{ name }}_count, MIN({{ value }}) AS {{ name }}_min, MAX({{ value }}) AS {{ name }}_max, AVG({{ value }}) AS {{ name }}_mean
{% endfor %}
  FROM {{ table }} AS c WHERE {{ in_both("c", state, other, states) }}{{ sampled(keys, portion) }})
SELECT t.*{% for name in finite %}{% for percent in (5, 25, 50, 75, 95) %}, {{ name }}_places.p{{ percent }} AS {{ name }}_p{{ percent }}{% endfor %}{% endfor %}

FROM totals AS t
{% for name, value in finite.items() %}
CROSS JOIN (
  SELECT {% for percent in (5, 25, 50, 75, 95) %}{{ ", " if not loop.first }}MAX(CASE WHEN r.place = GREATEST(1, CEIL({{ percent / 100 }} * n.{{ name }}_count)) THEN r.value END) AS p{{ percent }}{% endfor %}

  FROM (SELECT {{ value }} AS `value`, ROW_NUMBER() OVER (ORDER BY {{ value }}) AS place FROM {{ table }} AS c
        WHERE {{ in_both("c", state, other, states) }}{{ sampled(keys, portion) }} AND {{ value }} IS NOT NULL) AS r
  CROSS JOIN totals AS n) AS {{ name }}_places
{% endfor %}

-- name: compare_classes
-- One output of both, texts, booleans and documents: how often which old value meets which new one, the commonest first.
SELECT LEFT(q.x, 800) AS `old`, LEFT(q.y, 800) AS `new`, q.`rows`, CAST(q.compared AS SIGNED) AS compared, CAST(q.changed AS SIGNED) AS changed
FROM (SELECT p.x, p.y, COUNT(*) AS `rows`, SUM(COUNT(*)) OVER () AS compared, SUM(CASE WHEN p.x <=> p.y THEN 0 ELSE COUNT(*) END) OVER () AS changed
      FROM (SELECT {{ comparable(old, kind) }} AS x, {{ comparable(new, kind) }} AS y
            FROM {{ table }} AS c WHERE {{ in_both("c", state, other, states) }}{{ sampled(keys, portion) }}) AS p
      GROUP BY p.x, p.y) AS q
ORDER BY q.`rows` DESC, 1, 2 LIMIT :limit

-- name: largest_moves
-- The rows whose number moved most; where one of the two is no number that can be subtracted, they come first.
SELECT q.`key`, q.x AS `old`, q.y AS `new`
FROM (SELECT m.*, CASE WHEN ABS(m.x) <= 1e150 AND ABS(m.y) <= 1e150 THEN m.y - m.x END AS fd
      FROM (SELECT {{ key_text(keys, "c") }} AS `key`, c.{{ old|id }} + 0e0 AS x, c.{{ new|id }} + 0e0 AS y
            FROM {{ table }} AS c WHERE {{ in_both("c", state, other, states) }}{{ sampled(keys, portion) }}) AS m) AS q
WHERE {{ moved("q.x", "q.y", "q.fd") }}
ORDER BY q.fd IS NULL DESC, ABS(q.fd) DESC, q.`key` LIMIT :limit

-- name: first_changes
-- Rows whose value is another one, in the order of their key.
SELECT {{ key_text(keys, "c") }} AS `key`, LEFT({{ comparable(old, kind) }}, 800) AS `old`, LEFT({{ comparable(new, kind) }}, 800) AS `new`
FROM {{ table }} AS c
WHERE {{ in_both("c", state, other, states) }}{{ sampled(keys, portion) }} AND NOT ({{ comparable(old, kind) }} <=> {{ comparable(new, kind) }})
ORDER BY {{ key_list(keys, "c") }} LIMIT :limit

-- name: count_rows
-- How many rows there are, where no statistics tell.
SELECT COUNT(*) FROM {{ table }}
