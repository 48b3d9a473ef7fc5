-- Needs the extension aws_s3, and a role of the cluster for the feature s3Export.
-- PostgreSQL writes 1 for 1.0, no zeros at the end of fractions of a second, and "" for a text that is empty: readers of
-- CSV see the same values.
SELECT * FROM aws_s3.query_export_to_s3(
  $rowscore$
SELECT CASE WHEN "prediction" THEN '1' WHEN NOT "prediction" THEN '0' END AS "prediction", "state" AS "state", COALESCE("day_mins", CAST('0.0' AS double precision)) AS "day_mins", CASE WHEN (acc_length > 100) THEN '1' WHEN NOT (acc_length > 100) THEN '0' END AS "long", to_json("seen") #>> '{}' AS "seen"
FROM "mltest"."churn_inserts" AS c
WHERE true AND (state <> 'XX') IS TRUE AND (id % 10 <> 0) IS TRUE
ORDER BY c."id" LIMIT 50000
$rowscore$,
  aws_commons.create_s3_uri('models', 'churn/it''s.csv', 'eu-west-1'),
  options := 'format csv')
