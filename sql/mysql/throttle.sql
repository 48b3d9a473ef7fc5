-- name: read_throttle
-- What holds the prediction's work up by the record, and an operator's pause; times in seconds.
SELECT t.kind, t.reason, TIMESTAMPDIFF(MICROSECOND, t.since, UTC_TIMESTAMP(6)) / 1e6 AS since,
       TIMESTAMPDIFF(MICROSECOND, t.looked_at, UTC_TIMESTAMP(6)) / 1e6 AS looked,
       t.total_seconds + COALESCE(TIMESTAMPDIFF(MICROSECOND, t.since, UTC_TIMESTAMP(6)) / 1e6, 0) AS total,
       TIMESTAMPDIFF(MICROSECOND, t.paused_at, UTC_TIMESTAMP(6)) / 1e6 AS paused,
       TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), t.paused_until) / 1e6 AS pause_left, t.pause_reason
FROM rowscore_throttle t WHERE t.prediction = :prediction

-- name: note_throttled
-- Something else holds the work up than before, or something at all; whoever writes last is as right as the others.
INSERT INTO rowscore_throttle (prediction, kind, reason, since) VALUES (:prediction, :kind, :reason, UTC_TIMESTAMP(6))
ON DUPLICATE KEY UPDATE
  total_seconds = total_seconds + COALESCE(TIMESTAMPDIFF(MICROSECOND, since, UTC_TIMESTAMP(6)) / 1e6, 0),
  kind = VALUES(kind), reason = VALUES(reason), since = VALUES(since)

-- name: note_unthrottled
-- Nothing holds the work up any more; whoever comes second finds it noted.
UPDATE rowscore_throttle
SET total_seconds = total_seconds + TIMESTAMPDIFF(MICROSECOND, since, UTC_TIMESTAMP(6)) / 1e6, kind = NULL, reason = NULL, since = NULL
WHERE prediction = :prediction AND kind IS NOT NULL

-- name: note_look
-- A drain ends because something holds the work up, and another one will look again; written twice a minute at most.
UPDATE rowscore_throttle SET looked_at = UTC_TIMESTAMP(6)
WHERE prediction = :prediction AND COALESCE(looked_at < UTC_TIMESTAMP(6) - INTERVAL 30 SECOND, TRUE)

-- name: pause_prediction
-- An operator's pause, from now on; nothing where there is no such prediction.
INSERT INTO rowscore_throttle (prediction, paused_at, paused_until, pause_reason)
SELECT p.name, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) + INTERVAL ROUND(:seconds * 1000000) MICROSECOND, :because
FROM rowscore_prediction p WHERE p.name = :prediction
ON DUPLICATE KEY UPDATE paused_at = VALUES(paused_at), paused_until = VALUES(paused_until), pause_reason = VALUES(pause_reason)

-- name: resume_prediction
-- An operator's pause is over.
UPDATE rowscore_throttle SET paused_at = NULL, paused_until = NULL, pause_reason = NULL
WHERE prediction = :prediction AND paused_at IS NOT NULL

-- name: has_aurora_replicas
-- Whether the server knows its readers as Aurora does.
SELECT COUNT(*) > 0 FROM information_schema.tables t
WHERE t.table_schema = 'information_schema' AND t.table_name = 'replica_host_status'

-- name: read_aurora_replicas
-- The lag of each of Aurora's readers.
SELECT s.server_id AS name, s.replica_lag_in_milliseconds / 1e3 AS seconds, NULL AS behind
FROM information_schema.replica_host_status s WHERE s.session_id <> 'MASTER_SESSION_ID'

-- name: read_own_lag
-- How far this server is behind, asked of a replica; NULL where it does not replicate now.
SHOW REPLICA STATUS

-- name: count_blocked_sessions
-- Sessions that wait for a lock of rowscore's: by the name of its program, on MariaDB by the account of this session.
{% if mariadb %}
{# Who reads innodb_trx more often than every 100 ms, as many workers would, is shown the same picture for ever: it is
   read only if a counter says that somebody waits, and after a pause that makes an older picture give way. #}
SELECT CASE WHEN (SELECT m.count FROM information_schema.innodb_metrics m WHERE m.name = 'lock_row_lock_current_waits') = 0 THEN 0
       WHEN SLEEP(0.11) <> 0 THEN NULL
       ELSE (SELECT COUNT(DISTINCT w.requesting_trx_id) FROM information_schema.innodb_lock_waits w
             JOIN information_schema.innodb_trx b ON b.trx_id = w.blocking_trx_id
             JOIN information_schema.processlist p ON p.id = b.trx_mysql_thread_id
             WHERE p.user = SUBSTRING_INDEX(USER(), '@', 1)) END
{% else %}
SELECT CASE WHEN @@performance_schema THEN COUNT(DISTINCT w.requesting_thread_id) END FROM performance_schema.data_lock_waits w
JOIN performance_schema.threads b ON b.thread_id = w.blocking_thread_id
JOIN performance_schema.session_connect_attrs o ON o.processlist_id = b.processlist_id
 AND o.attr_name = 'program_name' AND o.attr_value = 'rowscore'
JOIN performance_schema.threads r ON r.thread_id = w.requesting_thread_id
WHERE NOT EXISTS (SELECT 1 FROM performance_schema.session_connect_attrs s
                  WHERE s.processlist_id = r.processlist_id AND s.attr_name = 'program_name' AND s.attr_value = 'rowscore')
{% endif %}

-- name: count_active_sessions
-- Sessions that run a statement, this one among them.
SHOW GLOBAL STATUS LIKE 'Threads_running'

-- name: count_other_sessions
-- Sessions of others that run a statement; without PROCESS only those of rowscore's own account can be seen.
{# Threads_running needs no privilege, but counts threads of the server's own as well, on MySQL at all times. MariaDB
   keeps no names of programs: there all sessions of rowscore's account pass for its own. #}
{% if mariadb %}
SELECT COUNT(*) FROM information_schema.processlist p
WHERE p.user <> SUBSTRING_INDEX(USER(), '@', 1)
{% else %}
SELECT COUNT(*) FROM performance_schema.processlist p
WHERE NOT EXISTS (SELECT 1 FROM performance_schema.session_account_connect_attrs a
                  WHERE a.processlist_id = p.id AND a.attr_name = 'program_name' AND a.attr_value = 'rowscore')
{% endif %}
  AND p.command IN ('Query', 'Execute')
  AND COALESCE(p.state, '') NOT IN ('User lock', 'User sleep') AND COALESCE(p.state, '') NOT LIKE 'Waiting for %'
