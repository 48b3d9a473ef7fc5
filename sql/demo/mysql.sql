-- name: create_schema
-- The schema of AWS's post, which is a database here.
CREATE DATABASE IF NOT EXISTS {{ schema | id }};

-- name: create_table
-- The churn table of AWS's post with a key and a time of arrival; rowscore adds the prediction.
CREATE TABLE IF NOT EXISTS {{ schema | id }}.{{ table | id }} (
    id bigint AUTO_INCREMENT PRIMARY KEY,
    state varchar(2),
    acc_length int,
    area_code int,
    phone varchar(10),
    int_plan varchar(3),
    vmail_plan varchar(3),
    vmail_msg int,
    day_mins double,
    day_calls int,
    day_charge double,
    eve_mins double,
    eve_calls int,
    eve_charge double,
    night_mins double,
    night_calls int,
    night_charge double,
    int_mins double,
    int_calls int,
    int_charge double,
    cust_service_calls int,
    created_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
);

-- name: insert_row
-- One customer arrives, as the application of AWS's post inserts it.
INSERT INTO {{ schema | id }}.{{ table | id }} (
    state, acc_length, area_code, phone, int_plan, vmail_plan, vmail_msg,
    day_mins, day_calls, day_charge, eve_mins, eve_calls, eve_charge,
    night_mins, night_calls, night_charge, int_mins, int_calls, int_charge, cust_service_calls
) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s);

-- name: copy_rows
-- Many customers at once.
INSERT INTO {{ schema | id }}.{{ table | id }} (
    state, acc_length, area_code, phone, int_plan, vmail_plan, vmail_msg,
    day_mins, day_calls, day_charge, eve_mins, eve_calls, eve_charge,
    night_mins, night_calls, night_charge, int_mins, int_calls, int_charge, cust_service_calls
) VALUES

-- name: add_prediction
-- The column that AWS's trigger fills, for the simulated comparison only.
ALTER TABLE {{ schema | id }}.{{ table | id }} ADD COLUMN prediction boolean;

-- name: create_trigger_function
-- SIMULATED: nothing here: a trigger has its body in itself, with the wait that stands for the model call.
DO 0;

-- name: create_trigger
-- SIMULATED: one model call inside every INSERT, a wait of 65 ms as AWS measured it; the design that rowscore replaces.
DROP TRIGGER IF EXISTS {{ schema | id }}.simulated_model_call;
CREATE TRIGGER {{ schema | id }}.simulated_model_call BEFORE INSERT ON {{ schema | id }}.{{ table | id }} FOR EACH ROW
BEGIN
    DO SLEEP(0.065);
    SET NEW.prediction = 0.5 <= predict_churn(
        NEW.state, NEW.acc_length, NEW.area_code, NEW.phone, NEW.int_plan, NEW.vmail_plan, NEW.vmail_msg,
        NEW.day_mins, NEW.day_calls, NEW.day_charge, NEW.eve_mins, NEW.eve_calls, NEW.eve_charge,
        NEW.night_mins, NEW.night_calls, NEW.night_charge, NEW.int_mins, NEW.int_calls, NEW.int_charge,
        NEW.cust_service_calls
    );
END;

-- name: analyze
-- Statistics at once: the demo does not wait for the server's own.
ANALYZE TABLE {{ schema | id }}.{{ table | id }};

-- name: begin_tally
-- Now by the database's clock, and the last key: what arrives later is the traffic's.
SELECT UTC_TIMESTAMP(6) AS now, COALESCE(MAX(id), 0) AS last FROM {{ schema | id }}.{{ table | id }};

-- name: read_progress
-- How many rows arrived after a key, and how many of all wait; walks the key and the pending index.
SELECT (SELECT COUNT(*) FROM {{ schema | id }}.{{ table | id }} WHERE id > :last) AS arrived,
       (SELECT COUNT(*) FROM {{ schema | id }}.{{ table | id }} WHERE churn_state = 0) AS waiting,
       UTC_TIMESTAMP(6) AS now;

-- name: read_totals
-- The table's rows, those with a prediction of this model version, and what the view shows.
SELECT COUNT(*) AS `rows`, COUNT(CASE WHEN id > :last THEN 1 END) AS arrived,
       COUNT(CASE WHEN churn_state = 1 AND churn_model = :version THEN churn_probability END) AS scored,
       (SELECT COUNT(*) FROM {{ schema | id }}.{{ (table ~ "_scored") | id }}) AS shown,
       (SELECT COUNT(*) FROM {{ schema | id }}.{{ (table ~ "_scored") | id }} WHERE prediction_state = 'scored') AS shown_scored
FROM {{ schema | id }}.{{ table | id }};

-- name: read_sample
-- Some rows from everywhere in the table, the same ones each time, with their predictions.
SELECT churn_probability, state, acc_length, area_code, phone, int_plan, vmail_plan, vmail_msg,
       day_mins, day_calls, day_charge, eve_mins, eve_calls, eve_charge,
       night_mins, night_calls, night_charge, int_mins, int_calls, int_charge, cust_service_calls
FROM {{ schema | id }}.{{ table | id }} ORDER BY CRC32(id), id LIMIT :count;

-- name: read_calls
-- The model calls that scored waiting rows (kind drain) or rows that were there before (kind backfill).
SELECT r.kind, CAST(SUM(b.calls) AS SIGNED) AS calls, CAST(SUM(b.call_rows) AS SIGNED) AS `rows`,
       MIN(b.call_rows_min) AS rows_min, MAX(b.call_rows_max) AS rows_max,
       SUM(b.call_seconds) AS seconds, MIN(b.call_seconds_min) AS seconds_min, MAX(b.call_seconds_max) AS seconds_max,
       (SELECT CAST(COALESCE(SUM(f.calls), 0) AS SIGNED) FROM rowscore_batch f JOIN rowscore_run k ON k.id = f.run_id
        WHERE f.error IS NOT NULL AND k.kind = r.kind) AS failed
FROM rowscore_batch b JOIN rowscore_run r ON r.id = b.run_id WHERE b.error IS NULL GROUP BY r.kind;

-- name: read_backfill
-- The backfill: how many rows, and in how many seconds.
SELECT rows_scored, TIMESTAMPDIFF(MICROSECOND, started_at, COALESCE(finished_at, UTC_TIMESTAMP(6))) / 1e6 AS seconds
FROM rowscore_run WHERE kind = 'backfill' ORDER BY id DESC LIMIT 1;

-- name: read_caught_up
-- Seconds from the end of the outage until its backlog was worked off, and when that was.
SELECT MAX(churn_scored_at) AS moment,
       GREATEST(TIMESTAMPDIFF(MICROSECOND, :up, MAX(churn_scored_at)), 0) / 1e6 AS seconds
FROM {{ schema | id }}.{{ table | id }} WHERE id > :last AND churn_scored_at IS NOT NULL AND created_at <= :up;

-- name: read_waits
-- Seconds from insert to prediction of each row, and whether the outage had nothing to do with it.
SELECT TIMESTAMPDIFF(MICROSECOND, created_at, churn_scored_at) / 1e6 AS wait,
       COALESCE(created_at > :caught_up, TRUE) OR churn_scored_at < :down AS normal
FROM {{ schema | id }}.{{ table | id }} WHERE id > :last AND churn_scored_at IS NOT NULL;

-- name: read_first
-- When the first row after a key arrived.
SELECT MIN(created_at) AS began FROM {{ schema | id }}.{{ table | id }} WHERE id > :last;

-- name: read_seconds
-- Second by second since the traffic's first insert: rows that arrived and rows that were scored.
WITH arrived AS (
    SELECT created_at, churn_scored_at, MIN(created_at) OVER () AS began
    FROM {{ schema | id }}.{{ table | id }} WHERE id > :last
), moments AS (
    SELECT TIMESTAMPDIFF(MICROSECOND, began, created_at) DIV 1000000 AS second, 1 AS arrived, 0 AS scored FROM arrived
    UNION ALL
    SELECT TIMESTAMPDIFF(MICROSECOND, began, churn_scored_at) DIV 1000000, 0, 1 FROM arrived WHERE churn_scored_at IS NOT NULL
)
SELECT second, CAST(SUM(arrived) AS SIGNED) AS arrived, CAST(SUM(scored) AS SIGNED) AS scored
FROM moments GROUP BY second ORDER BY second;

-- name: create_predict_churn
-- The shipped churn model as a function; written by `python -m worker.demo.train`, do not edit.
DROP FUNCTION IF EXISTS predict_churn;
CREATE FUNCTION predict_churn(
    state varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    acc_length integer,
    area_code integer,
    phone varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    int_plan varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    vmail_plan varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    vmail_msg integer,
    day_mins double,
    day_calls integer,
    day_charge double,
    eve_mins double,
    eve_calls integer,
    eve_charge double,
    night_mins double,
    night_calls integer,
    night_charge double,
    int_mins double,
    int_calls integer,
    int_charge double,
    cust_service_calls integer
) RETURNS double DETERMINISTIC NO SQL
RETURN 1e0 / (1e0 + EXP(LEAST(700e0, -(
    -3.357600e0
    -0.105698e0 * ((acc_length - 100e0) / 40e0)
    -0.122420e0 * ((vmail_msg - 8e0) / 14e0)
    -0.144623e0 * ((day_mins - 180e0) / 54e0)
    -0.002383e0 * ((day_calls - 100e0) / 20e0)
    -0.066102e0 * ((eve_mins - 201e0) / 51e0)
    -0.003034e0 * ((eve_calls - 100e0) / 20e0)
    -0.027647e0 * ((night_mins - 201e0) / 51e0)
    -0.014997e0 * ((night_calls - 100e0) / 20e0)
    +0.014567e0 * ((int_mins - 10e0) / 3e0)
    -0.002255e0 * ((int_calls - 4e0) / 2.5e0)
    +0.221059e0 * ((cust_service_calls - 1.5e0) / 1.3e0)
    +0.442302e0 * (state IN ('CA', 'MD', 'ME', 'MI', 'MS', 'MT', 'NJ', 'NV', 'SC', 'TX', 'WA'))
    -0.001657e0 * (area_code > 414e0) * ((area_code - 510e0) / -95e0)
    +1.830631e0 * (int_plan IN ('yes'))
    -0.021113e0 * (vmail_plan IN ('yes'))
    +1.331075e0 * GREATEST((day_charge + eve_charge + night_charge + int_charge - 60e0) / 10e0, 0e0)
    +2.985094e0 * GREATEST((day_charge + eve_charge + night_charge + int_charge - 70e0) / 10e0, 0e0)
    -3.868705e0 * GREATEST((day_charge + eve_charge + night_charge + int_charge - 70e0) / 10e0, 0e0) * (vmail_plan IN ('yes'))
    +1.986139e0 * (cust_service_calls > 3e0)
    -0.919691e0 * (cust_service_calls > 3e0) * GREATEST((day_charge + eve_charge + night_charge + int_charge - 50e0) / 10e0, 0e0)
    -1.155166e0 * (int_plan IN ('yes')) * ((int_calls - 4e0) / 2.5e0)
    +2.343193e0 * (int_plan IN ('yes')) * (int_mins > 13.1e0)
))));
