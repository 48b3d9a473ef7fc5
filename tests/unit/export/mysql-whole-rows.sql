-- Needs the cluster parameter aurora_select_into_s3_role or aws_default_s3_role, and GRANT AWS_SELECT_S3_ACCESS TO ...
-- MySQL writes 1 for 1.0, and may quote where quotes are not needed: readers of CSV see the same values. A TIMESTAMP
-- comes in the session's time zone: SET time_zone = '+00:00' before.
SELECT COALESCE(CAST(`prediction` AS CHAR), '') AS `prediction`, COALESCE(CAST(`state` AS CHAR), '') AS `state`, COALESCE(CAST(COALESCE(`day_mins`, ('0.0' + 0e0)) AS CHAR), '') AS `day_mins`, COALESCE(CAST((acc_length > 100) AS CHAR), '') AS `long`, COALESCE(DATE_FORMAT(`seen`, CASE WHEN MICROSECOND(`seen`) = 0 THEN '%Y-%m-%dT%H:%i:%s' ELSE '%Y-%m-%dT%H:%i:%s.%f' END), '') AS `seen`
FROM `mltest`.`churn_inserts` AS c
WHERE TRUE AND (state <> 'XX') IS TRUE AND `state` IS NOT NULL AND COALESCE(`day_mins`, ('0.0' + 0e0)) IS NOT NULL AND (acc_length > 100) IS NOT NULL AND `seen` IS NOT NULL
ORDER BY c.`id`
INTO OUTFILE S3 's3-eu-west-1://models/churn/it''s.csv' CHARACTER SET utf8mb4 FORMAT CSV
