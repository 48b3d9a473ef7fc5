-- Needs the cluster parameter aurora_select_into_s3_role or aws_default_s3_role, and GRANT AWS_SELECT_S3_ACCESS TO ...
-- MySQL writes 1 for 1.0, and may quote where quotes are not needed: readers of CSV see the same values. A TIMESTAMP
-- comes in the session's time zone: SET time_zone = '+00:00' before.
SELECT COALESCE(CASE `prediction` WHEN 0 THEN 'no' WHEN 1 THEN 'yes' ELSE CAST(`prediction` AS CHAR) END, 'N''A') AS `prediction`, COALESCE(CAST(`state` AS CHAR), 'N''A') AS `state`, COALESCE(CAST(COALESCE(`day_mins`, ('0.0' + 0e0)) AS CHAR), 'N''A') AS `day_mins`, COALESCE(CAST((acc_length > 100) AS CHAR), 'N''A') AS `long`, COALESCE(DATE_FORMAT(`seen`, CASE WHEN MICROSECOND(`seen`) = 0 THEN '%Y-%m-%dT%H:%i:%s' ELSE '%Y-%m-%dT%H:%i:%s.%f' END), 'N''A') AS `seen`
FROM `mltest`.`churn_inserts` AS c
WHERE TRUE AND c.`churn_state` = 1 AND (state <> 'XX') IS TRUE
ORDER BY c.`id`
INTO OUTFILE S3 's3-eu-west-1://models/churn/it''s.csv' CHARACTER SET utf8mb4 FORMAT CSV HEADER OVERWRITE ON
