CREATE FUNCTION "mltest"."predict_churn"("state" character varying, "acc_length" integer, "day_mins" double precision, max_rows_per_batch integer DEFAULT NULL)
RETURNS double precision AS $$
  SELECT (aws_sagemaker.invoke_endpoint('churn-endpoint', max_rows_per_batch,
    COALESCE("state", CAST('??' AS character varying)), "acc_length", COALESCE("day_mins", CAST('0.0' AS double precision))))::double precision
$$ LANGUAGE SQL PARALLEL SAFE COST 5000
