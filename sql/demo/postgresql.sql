-- name: create_schema
-- The schema of AWS's post.
CREATE SCHEMA IF NOT EXISTS {{ schema | id }};

-- name: create_table
-- The churn table of AWS's post with a key and a time of arrival; rowscore adds the prediction.
CREATE TABLE IF NOT EXISTS {{ schema | id }}.{{ table | id }} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    state varchar(2),
    acc_length integer,
    area_code integer,
    phone varchar(10),
    int_plan varchar(3),
    vmail_plan varchar(3),
    vmail_msg integer,
    day_mins double precision,
    day_calls integer,
    day_charge double precision,
    eve_mins double precision,
    eve_calls integer,
    eve_charge double precision,
    night_mins double precision,
    night_calls integer,
    night_charge double precision,
    int_mins double precision,
    int_calls integer,
    int_charge double precision,
    cust_service_calls integer,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- name: insert_row
-- One customer arrives, as the application of AWS's post inserts it.
INSERT INTO {{ schema | id }}.{{ table | id }} (
    state, acc_length, area_code, phone, int_plan, vmail_plan, vmail_msg,
    day_mins, day_calls, day_charge, eve_mins, eve_calls, eve_charge,
    night_mins, night_calls, night_charge, int_mins, int_calls, int_charge, cust_service_calls
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20);

-- name: copy_rows
-- Many customers at once.
COPY {{ schema | id }}.{{ table | id }} (
    state, acc_length, area_code, phone, int_plan, vmail_plan, vmail_msg,
    day_mins, day_calls, day_charge, eve_mins, eve_calls, eve_charge,
    night_mins, night_calls, night_charge, int_mins, int_calls, int_charge, cust_service_calls
) FROM STDIN;

-- name: add_prediction
-- The column that AWS's trigger fills, for the simulated comparison only.
ALTER TABLE {{ schema | id }}.{{ table | id }} ADD COLUMN IF NOT EXISTS prediction boolean;

-- name: create_trigger_function
-- SIMULATED: the model call of AWS's trigger is a wait of 65 ms, what AWS measured a call to take.
CREATE OR REPLACE FUNCTION {{ schema | id }}.simulated_model_call() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(0.065);
    NEW.prediction := 0.5 <= predict_churn(
        NEW.state, NEW.acc_length, NEW.area_code, NEW.phone, NEW.int_plan, NEW.vmail_plan, NEW.vmail_msg,
        NEW.day_mins, NEW.day_calls, NEW.day_charge, NEW.eve_mins, NEW.eve_calls, NEW.eve_charge,
        NEW.night_mins, NEW.night_calls, NEW.night_charge, NEW.int_mins, NEW.int_calls, NEW.int_charge,
        NEW.cust_service_calls
    );
    RETURN NEW;
END
$$;

-- name: create_trigger
-- SIMULATED: one model call inside every INSERT, the design that rowscore replaces.
CREATE OR REPLACE TRIGGER simulated_model_call BEFORE INSERT ON {{ schema | id }}.{{ table | id }}
FOR EACH ROW EXECUTE FUNCTION {{ schema | id }}.simulated_model_call();

-- name: analyze
-- Statistics at once: the demo does not wait for autovacuum.
ANALYZE {{ schema | id }}.{{ table | id }};

-- name: begin_tally
-- Now by the database's clock, and the last key: what arrives later is the traffic's.
SELECT clock_timestamp() AS now, coalesce(max(id), 0) AS last FROM {{ schema | id }}.{{ table | id }};

-- name: read_progress
-- How many rows arrived after a key, and how many of all wait; walks the key and the pending index.
SELECT (SELECT count(*) FROM {{ schema | id }}.{{ table | id }} WHERE id > :last) AS arrived,
       (SELECT count(*) FROM {{ schema | id }}.{{ table | id }} WHERE churn_state = 0) AS waiting,
       clock_timestamp() AS now;

-- name: read_totals
-- The table's rows, those with a prediction of this model version, and what the view shows.
SELECT count(*) AS rows, count(*) FILTER (WHERE id > :last) AS arrived,
       count(*) FILTER (WHERE churn_state = 1 AND churn_probability IS NOT NULL AND churn_model = :version) AS scored,
       (SELECT count(*) FROM {{ schema | id }}.{{ (table ~ "_scored") | id }}) AS shown,
       (SELECT count(*) FROM {{ schema | id }}.{{ (table ~ "_scored") | id }} WHERE prediction_state = 'scored') AS shown_scored
FROM {{ schema | id }}.{{ table | id }};

-- name: read_sample
-- Some rows from everywhere in the table, the same ones each time, with their predictions.
SELECT churn_probability, state, acc_length, area_code, phone, int_plan, vmail_plan, vmail_msg,
       day_mins, day_calls, day_charge, eve_mins, eve_calls, eve_charge,
       night_mins, night_calls, night_charge, int_mins, int_calls, int_charge, cust_service_calls
FROM {{ schema | id }}.{{ table | id }} ORDER BY hashint8(id) LIMIT :count;

-- name: read_calls
-- The model calls that scored waiting rows (kind drain) or rows that were there before (kind backfill).
SELECT r.kind, sum(b.calls)::bigint AS calls, sum(b.call_rows)::bigint AS rows,
       min(b.call_rows_min) AS rows_min, max(b.call_rows_max) AS rows_max,
       sum(b.call_seconds) AS seconds, min(b.call_seconds_min) AS seconds_min, max(b.call_seconds_max) AS seconds_max,
       (SELECT coalesce(sum(f.calls), 0)::bigint FROM rowscore.batch f JOIN rowscore.run k ON k.id = f.run_id
        WHERE f.error IS NOT NULL AND k.kind = r.kind) AS failed
FROM rowscore.batch b JOIN rowscore.run r ON r.id = b.run_id WHERE b.error IS NULL GROUP BY r.kind;

-- name: read_backfill
-- The backfill: how many rows, and in how many seconds.
SELECT rows_scored, extract(epoch FROM coalesce(finished_at, clock_timestamp()) - started_at)::float8 AS seconds
FROM rowscore.run WHERE kind = 'backfill' ORDER BY id DESC LIMIT 1;

-- name: read_caught_up
-- Seconds from the end of the outage until its backlog was worked off, and when that was.
SELECT max(churn_scored_at) AS moment,
       extract(epoch FROM greatest(max(churn_scored_at), :up) - :up)::float8 AS seconds
FROM {{ schema | id }}.{{ table | id }} WHERE id > :last AND churn_scored_at IS NOT NULL AND created_at <= :up;

-- name: read_waits
-- Seconds from insert to prediction of each row, and whether the outage had nothing to do with it.
SELECT extract(epoch FROM churn_scored_at - created_at)::float8 AS wait,
       coalesce(created_at > :caught_up, true) OR churn_scored_at < :down AS normal
FROM {{ schema | id }}.{{ table | id }} WHERE id > :last AND churn_scored_at IS NOT NULL;

-- name: read_first
-- When the first row after a key arrived.
SELECT min(created_at) AS began FROM {{ schema | id }}.{{ table | id }} WHERE id > :last;

-- name: read_seconds
-- Second by second since the traffic's first insert: rows that arrived and rows that were scored.
WITH arrived AS (
    SELECT created_at, churn_scored_at, min(created_at) OVER () AS began
    FROM {{ schema | id }}.{{ table | id }} WHERE id > :last
), moments AS (
    SELECT floor(extract(epoch FROM created_at - began))::int AS second, 1 AS arrived, 0 AS scored FROM arrived
    UNION ALL
    SELECT floor(extract(epoch FROM churn_scored_at - began))::int, 0, 1 FROM arrived WHERE churn_scored_at IS NOT NULL
)
SELECT second, sum(arrived)::int AS arrived, sum(scored)::int AS scored FROM moments GROUP BY second ORDER BY second;

-- name: create_predict_churn
-- The shipped churn model as a function; written by `python -m worker.demo.train`, do not edit.
CREATE OR REPLACE FUNCTION predict_churn(
    state varchar,
    acc_length integer,
    area_code integer,
    phone varchar,
    int_plan varchar,
    vmail_plan varchar,
    vmail_msg integer,
    day_mins double precision,
    day_calls integer,
    day_charge double precision,
    eve_mins double precision,
    eve_calls integer,
    eve_charge double precision,
    night_mins double precision,
    night_calls integer,
    night_charge double precision,
    int_mins double precision,
    int_calls integer,
    int_charge double precision,
    cust_service_calls integer
) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 5000 AS $$
SELECT 0.5 + 0.5 * tanh(0.5 * (
    -3.357600
    -0.105698 * (((acc_length)::float8 - 100) / 40)
    -0.122420 * (((vmail_msg)::float8 - 8) / 14)
    -0.144623 * (((day_mins)::float8 - 180) / 54)
    -0.002383 * (((day_calls)::float8 - 100) / 20)
    -0.066102 * (((eve_mins)::float8 - 201) / 51)
    -0.003034 * (((eve_calls)::float8 - 100) / 20)
    -0.027647 * (((night_mins)::float8 - 201) / 51)
    -0.014997 * (((night_calls)::float8 - 100) / 20)
    +0.014567 * (((int_mins)::float8 - 10) / 3)
    -0.002255 * (((int_calls)::float8 - 4) / 2.5)
    +0.221059 * (((cust_service_calls)::float8 - 1.5) / 1.3)
    +0.442302 * (state IN ('CA', 'MD', 'ME', 'MI', 'MS', 'MT', 'NJ', 'NV', 'SC', 'TX', 'WA'))::int::float8
    -0.001657 * (area_code > 414)::int::float8 * (((area_code)::float8 - 510) / -95)
    +1.830631 * (int_plan IN ('yes'))::int::float8
    -0.021113 * (vmail_plan IN ('yes'))::int::float8
    +1.331075 * (CASE WHEN ((day_charge + eve_charge + night_charge + int_charge)::float8 - 60) / 10 < 0 THEN 0 ELSE ((day_charge + eve_charge + night_charge + int_charge)::float8 - 60) / 10 END)
    +2.985094 * (CASE WHEN ((day_charge + eve_charge + night_charge + int_charge)::float8 - 70) / 10 < 0 THEN 0 ELSE ((day_charge + eve_charge + night_charge + int_charge)::float8 - 70) / 10 END)
    -3.868705 * (CASE WHEN ((day_charge + eve_charge + night_charge + int_charge)::float8 - 70) / 10 < 0 THEN 0 ELSE ((day_charge + eve_charge + night_charge + int_charge)::float8 - 70) / 10 END) * (vmail_plan IN ('yes'))::int::float8
    +1.986139 * (cust_service_calls > 3)::int::float8
    -0.919691 * (cust_service_calls > 3)::int::float8 * (CASE WHEN ((day_charge + eve_charge + night_charge + int_charge)::float8 - 50) / 10 < 0 THEN 0 ELSE ((day_charge + eve_charge + night_charge + int_charge)::float8 - 50) / 10 END)
    -1.155166 * (int_plan IN ('yes'))::int::float8 * (((int_calls)::float8 - 4) / 2.5)
    +2.343193 * (int_plan IN ('yes'))::int::float8 * (int_mins > 13.1)::int::float8
))
$$;
