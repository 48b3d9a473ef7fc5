-- name: skip_rows
-- The window's rows for which the configured `where` does not hold are not scored and wait no longer.
UPDATE {{ locked_rows(keys, table, key_index, pending_index, fingerprint_type, locked, waiting(keys, "c", state, claims, only) ~ " AND (" ~ where ~ ") IS NOT TRUE") }}

SET c.{{ state|id }} = {{ states.SKIPPED.value }}{{ keeping("c", kept, kept.first) }}{{ holding("c", held) }}

-- name: read_rows
-- Keys, fingerprint and inputs of the window's rows; rows that the application holds are stepped over, so never paid for.
SELECT {{ key_read(keys, "c") }}, {{ fingerprint }}{% for input in read_inputs %}, {{ input }}{% endfor %}

{% if locked %}
FROM {{ answers(keys, (), fingerprint_type) }} AS v STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {{ same_key(keys, "c", "v") }}
{% else %}
FROM {{ table }} AS c {{ by_pending(pending_index) }}
WHERE {{ waiting(keys, "c", state, claims, only) }}{% if where %} AND ({{ where }}) IS TRUE{% endif %}

ORDER BY {{ key_list(keys, "c") }} LIMIT :limit {{ share() }}{{ past_locks() }}
{% endif %}

-- name: write_rows
-- The guarded write: locks first, stepping over rows that others hold; the LIMIT keeps the derived table unmerged.
UPDATE (SELECT v.* FROM {{ answers(keys, outputs, fingerprint_type) }} AS v
        STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {{ same_key(keys, "c", "v") }}
        WHERE {{ guard("c", state, claims, outdated, fingerprint) }} LIMIT 18446744073709551615
        FOR UPDATE{{ "" if mariadb else " OF c" }}{{ past_locks() }}) AS v
STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {{ same_key(keys, "c", "v") }}
SET {% for o in outputs %}c.{{ o.name|id }} = {{ received(o, "v.`rowscore$o" ~ loop.index ~ "`") }}, {% endfor %}{{ settled("c", state, states, scored_at, version, held, kept, kept.sent) }}

-- name: lock_rows
-- Locks those of some rows that are still as they were and that nobody holds; answers with their places, from 1.
{% macro unchanged(source) %}{% if verified %}{{ verdict("c", kept, state, states, where) }} IN ({{ verified }}){% elif guarded %}{{ guard("c", state, claims, outdated, fingerprint, source) }}{% else %}{{ claimed("c", state, claims, outdated) }}{% endif %}{{ fitting(where, fits) }}{% if only and fits is not none %} AND ({{ only }}) IS TRUE{% endif %}{% endmacro %}
{% set lock = share() if shared else "FOR UPDATE" %}
{% if mariadb %}
{# Names that no column of the user's bears, since a variable would hide the column. #}
{% set asked = answers(keys, (), fingerprint_type, "`rowscore$listed`") %}
BEGIN NOT ATOMIC
  DECLARE `rowscore$listed`, `rowscore$places` LONGTEXT CHARACTER SET utf8mb4;
  DECLARE `rowscore$missed` LONGTEXT CHARACTER SET utf8mb4 DEFAULT '';
  DECLARE `rowscore$held`, `rowscore$ours` BOOL DEFAULT FALSE;
  DECLARE `rowscore$patience` INT DEFAULT @@innodb_lock_wait_timeout;
  DECLARE CONTINUE HANDLER FOR 1205 SET `rowscore$held` = TRUE, `rowscore$ours` = FALSE;
  SET `rowscore$listed` = :rows;
  SET SESSION innodb_lock_wait_timeout = 0;
  SELECT JSON_ARRAYAGG(l.place) INTO `rowscore$places` FROM (
    SELECT v.`rowscore$n` AS place FROM {{ asked }} AS v
    STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {{ same_key(keys, "c", "v") }}
    WHERE {{ unchanged("v") }} LIMIT 18446744073709551615 {{ lock }}) AS l;
  IF `rowscore$held` THEN
    IF @@innodb_rollback_on_timeout THEN
      SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 3572,
        MESSAGE_TEXT = 'other sessions hold rows, and with innodb_rollback_on_timeout = ON all locks are lost when one is not granted';
    END IF;
    FOR `rowscore$v` IN (SELECT v.* FROM {{ asked }} AS v) DO
      SELECT COUNT(*) INTO `rowscore$ours` FROM {{ table }} AS c FORCE INDEX ({{ key_index|id }})
      WHERE {{ same_key(keys, "c", "`rowscore$v`") }} AND {{ unchanged("`rowscore$v`") }} {{ lock }};
      IF NOT `rowscore$ours` THEN SET `rowscore$missed` = CONCAT_WS(',', `rowscore$missed`, `rowscore$v`.`rowscore$n`); END IF;
    END FOR;
    SELECT JSON_ARRAYAGG(v.`rowscore$n`) INTO `rowscore$places` FROM {{ asked }} AS v
    WHERE NOT FIND_IN_SET(v.`rowscore$n`, `rowscore$missed`);
  END IF;
  SET SESSION innodb_lock_wait_timeout = `rowscore$patience`;
  SELECT COALESCE(`rowscore$places`, '[]');
END
{% else %}
SELECT COALESCE(JSON_ARRAYAGG(l.place), '[]') FROM (
  SELECT v.`rowscore$n` AS place FROM {{ answers(keys, (), fingerprint_type, bind("rows")) }} AS v
  STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {{ same_key(keys, "c", "v") }}
  WHERE {{ unchanged("v") }} LIMIT 18446744073709551615 {{ lock }} OF c SKIP LOCKED) AS l
{% endif %}

-- name: mark_failed
-- Rows that bisection found become failed; they are locked already.
UPDATE {{ answers(keys, (), fingerprint_type) }} AS v
STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {{ same_key(keys, "c", "v") }}
SET c.{{ state|id }} = {{ states.FAILED.value }}{{ keeping("c", kept, kept.sent) }}{{ holding("c", held) }}
WHERE {{ claimed("c", state, claims, outdated) }}

-- name: claim_rows
-- Locks the window's rows, stepping over those that others hold, and says whether there were none of those.
SELECT (SELECT COUNT(*) FROM (SELECT 1 FROM {{ table }} AS c {{ by_pending(pending_index) }}
          WHERE {{ waiting(keys, "c", state, claims, only) }}{% if where %} AND ({{ where }}) IS TRUE{% endif %}

          ORDER BY {{ key_list(keys, "c") }} LIMIT :limit FOR UPDATE{{ past_locks() }}) AS l)
     = (SELECT COUNT(*) FROM {{ table }} AS c {{ by_pending(pending_index) }}
        WHERE {{ waiting(keys, "c", state, claims, only) }}{% if where %} AND ({{ where }}) IS TRUE{% endif %})

-- name: score_rows
-- One batch inside the database: claim, call the function in SET for each claimed row, write; locks last one statement.
UPDATE {{ locked_rows(keys, table, key_index, pending_index, fingerprint_type, locked, waiting(keys, "c", state, claims, only) ~ (" AND (" ~ where ~ ") IS TRUE" if where else "")) }}

SET c.{{ outputs[0].name|id }} = {{ call(function, inputs) }}, {{ settled("c", state, states, scored_at, version, held, kept, kept.expression) }}

-- name: list_rows
-- Keys and fingerprints of the window's rows, for bisection; or of those only that nobody holds.
SELECT {{ key_read(keys, "c") }}, {{ fingerprint }}
{% if locked %}
FROM {{ answers(keys, (), fingerprint_type) }} AS v STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {{ same_key(keys, "c", "v") }}
{% else %}
FROM {{ table }} AS c {{ by_pending(pending_index) }}
WHERE {{ waiting(keys, "c", state, claims, only) }}{% if where %} AND ({{ where }}) IS TRUE{% endif %}

ORDER BY {{ key_list(keys, "c") }} LIMIT :limit{% if unheld %} FOR UPDATE{{ past_locks() }}{% endif %}

{% endif %}

-- name: list_keys
-- Keys of the window's rows: of all, with none of the user's expressions, or of those that `where` fits or does not fit.
SELECT {{ key_read(keys, "c") }}, NULL FROM {{ table }} AS c {{ by_pending(pending_index) }}
WHERE {{ waiting(keys, "c", state, claims, only) }}{{ fitting(where, fits) }}
ORDER BY {{ key_list(keys, "c") }} LIMIT :limit

-- name: answer_rows
-- Keys, fingerprints and the function's answers with nothing locked, for functions that would hold locks too long.
SELECT {{ key_read(keys, "c") }}, {{ fingerprint }}, {{ call(function, inputs) }} FROM {{ table }} AS c {{ by_pending(pending_index) }}
WHERE {{ waiting(keys, "c", state, claims, only) }}{% if where %} AND ({{ where }}) IS TRUE{% endif %}

ORDER BY {{ key_list(keys, "c") }} LIMIT :limit

-- name: count_waiting
-- How many of the scored rows still wait with the same inputs: after a write past locks, those that were locked.
SELECT COUNT(*) FROM {{ answers(keys, (), fingerprint_type) }} AS v
STRAIGHT_JOIN {{ table }} AS c FORCE INDEX ({{ key_index|id }}) ON {{ same_key(keys, "c", "v") }}
WHERE {{ guard("c", state, claims, outdated, fingerprint) }}
