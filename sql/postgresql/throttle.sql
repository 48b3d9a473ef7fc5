-- name: read_throttle
-- What holds the prediction's work up by the record, and an operator's pause; times in seconds.
SELECT t.kind, t.reason, CAST(extract(epoch FROM clock_timestamp() - t.since) AS double precision) AS since,
       CAST(extract(epoch FROM clock_timestamp() - t.looked_at) AS double precision) AS looked,
       t.total_seconds + coalesce(CAST(extract(epoch FROM clock_timestamp() - t.since) AS double precision), 0) AS total,
       CAST(extract(epoch FROM clock_timestamp() - t.paused_at) AS double precision) AS paused,
       CAST(extract(epoch FROM t.paused_until - clock_timestamp()) AS double precision) AS pause_left, t.pause_reason
FROM rowscore.throttle t WHERE t.prediction = :prediction

-- name: note_throttled
-- Something else holds the work up than before, or something at all; whoever writes last is as right as the others.
INSERT INTO rowscore.throttle AS t (prediction, kind, reason, since) VALUES (:prediction, :kind, :reason, clock_timestamp())
ON CONFLICT (prediction) DO UPDATE SET kind = excluded.kind, reason = excluded.reason, since = excluded.since,
  total_seconds = t.total_seconds + coalesce(CAST(extract(epoch FROM excluded.since - t.since) AS double precision), 0)

-- name: note_unthrottled
-- Nothing holds the work up any more; whoever comes second finds it noted.
UPDATE rowscore.throttle SET kind = NULL, reason = NULL, since = NULL,
       total_seconds = total_seconds + CAST(extract(epoch FROM clock_timestamp() - since) AS double precision)
WHERE prediction = :prediction AND kind IS NOT NULL

-- name: note_look
-- A drain ends because something holds the work up, and another one will look again; written twice a minute at most.
UPDATE rowscore.throttle SET looked_at = clock_timestamp()
WHERE prediction = :prediction AND coalesce(looked_at < clock_timestamp() - interval '30 s', true)

-- name: pause_prediction
-- An operator's pause, from now on; nothing where there is no such prediction.
INSERT INTO rowscore.throttle (prediction, paused_at, paused_until, pause_reason)
SELECT p.name, clock_timestamp(), clock_timestamp() + make_interval(secs => CAST(:seconds AS double precision)), CAST(:because AS text)
FROM rowscore.prediction p WHERE p.name = :prediction
ON CONFLICT (prediction) DO UPDATE
SET paused_at = excluded.paused_at, paused_until = excluded.paused_until, pause_reason = excluded.pause_reason

-- name: resume_prediction
-- An operator's pause is over.
UPDATE rowscore.throttle SET paused_at = NULL, paused_until = NULL, pause_reason = NULL
WHERE prediction = :prediction AND paused_at IS NOT NULL

-- name: has_aurora_replicas
-- Whether the server knows its readers as Aurora does.
SELECT to_regproc('aurora_replica_status') IS NOT NULL

-- name: read_aurora_replicas
-- The lag of each of Aurora's readers.
SELECT s.server_id AS name, s.replica_lag_in_msec / 1000.0 AS seconds, CAST(NULL AS bigint) AS behind
FROM aurora_replica_status() s WHERE s.session_id <> 'MASTER_SESSION_ID'

-- name: read_replicas
-- The lag of each standby, and the bytes that it has not replayed; NULL where this role may not see it.
SELECT coalesce(nullif(r.application_name, ''), host(r.client_addr), CAST(r.pid AS text)) AS name,
       CAST(extract(epoch FROM r.replay_lag) AS double precision) AS seconds,
       CAST(pg_wal_lsn_diff(pg_current_wal_lsn(), r.replay_lsn) AS bigint) AS behind
FROM pg_stat_replication r
WHERE r.state IS DISTINCT FROM 'backup'
  AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')

-- name: read_own_lag
-- How far this server is behind, asked of a replica; NULL where it is none.
SELECT CASE WHEN NOT pg_is_in_recovery() THEN NULL
            WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
            ELSE CAST(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) AS double precision) END AS seconds

-- name: count_blocked_sessions
-- Sessions that wait for a lock of rowscore's, its own left out; asks for those that wait alone.
SELECT count(DISTINCT w.pid) FROM pg_locks w
JOIN pg_stat_activity a ON a.pid = w.pid AND a.application_name <> current_setting('application_name')
WHERE NOT w.granted
  AND EXISTS (SELECT FROM pg_stat_activity b
              WHERE b.pid = ANY (pg_blocking_pids(w.pid)) AND b.application_name = current_setting('application_name'))

-- name: count_active_sessions
-- Sessions that run a statement, but for this one; NULL where those of other roles are hidden.
SELECT CASE WHEN bool_or(a.query = '<insufficient privilege>') THEN NULL
            ELSE count(*) FILTER (WHERE a.state = 'active' AND a.backend_type = 'client backend') END
FROM pg_stat_activity a WHERE a.datid IS NOT NULL AND a.usesysid IS NOT NULL AND a.pid <> pg_backend_pid()

-- name: count_other_sessions
-- Sessions of others that are at work: neither idle nor waiting for a lock, a client or a clock.
{# Where the state of other roles' sessions is hidden from this one a snapshot says as much. #}
SELECT count(*) FROM pg_stat_activity a
WHERE a.datid IS NOT NULL AND a.usesysid IS NOT NULL AND a.application_name <> current_setting('application_name')
  AND CASE WHEN a.query = '<insufficient privilege>' THEN a.backend_xmin IS NOT NULL
           ELSE a.state = 'active' AND a.backend_type = 'client backend'
                AND coalesce(a.wait_event_type, '') NOT IN ('Client', 'Extension', 'Lock', 'Timeout') END

-- name: count_vacuums
-- Vacuums of the table and its partitions; by their locks, since what they vacuum is hidden from other roles.
SELECT count(*) FROM pg_stat_progress_vacuum v
JOIN pg_locks l ON l.pid = v.pid AND l.locktype = 'relation' AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted
WHERE v.datname = current_database() AND l.database = v.datid
  AND l.relation IN (SELECT CAST(:oid AS oid) UNION SELECT p.relid::oid FROM pg_partition_tree(CAST(:oid AS oid)) p)

-- name: measure_unarchived_wal
-- Bytes of WAL that wait for their archive, which fill the disk while it fails.
SELECT count(*) * (SELECT CAST(s.setting AS bigint) FROM pg_settings s WHERE s.name = 'wal_segment_size')
FROM pg_ls_archive_statusdir() f WHERE f.name LIKE '%.ready'
