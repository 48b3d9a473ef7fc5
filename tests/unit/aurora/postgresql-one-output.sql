CREATE FUNCTION "mltest"."predict_churn"("state" character varying, "acc_length" integer, "day_mins" double precision, max_rows_per_batch integer DEFAULT NULL)
RETURNS double precision AS $$
  SELECT (aws_sagemaker.invoke_endpoint('churn-endpoint', max_rows_per_batch,
    "state", "acc_length", "day_mins"))::double precision
$$ LANGUAGE SQL PARALLEL SAFE COST 5000
