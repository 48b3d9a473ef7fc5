CREATE FUNCTION "mltest"."predict_churn"("features" double precision[], max_rows_per_batch integer DEFAULT NULL)
RETURNS double precision AS $$
  SELECT (aws_sagemaker.invoke_endpoint('churn-endpoint', max_rows_per_batch,
    "features"))::double precision
$$ LANGUAGE SQL PARALLEL SAFE COST 5000
