CREATE TYPE "mltest"."predict_churn_answer" AS ("churn_probability" real, "churn_reason" varchar)

CREATE FUNCTION "mltest"."predict_churn"("state" character varying, "acc_length" integer, "day_mins" double precision, max_rows_per_batch integer DEFAULT NULL)
RETURNS "mltest"."predict_churn_answer" AS $$
  SELECT (aws_sagemaker.invoke_endpoint('churn-endpoint', max_rows_per_batch,
    "state", "acc_length", "day_mins"))::"mltest"."predict_churn_answer"
$$ LANGUAGE SQL PARALLEL SAFE COST 5000
