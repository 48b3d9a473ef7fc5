CREATE FUNCTION "mltest"."ask"("message" text)
RETURNS jsonb AS $$
  SELECT (aws_bedrock.invoke_model(
    model_id := 'm', content_type := 'application/json', accept_type := 'application/json',
    model_input := "message"))::jsonb
$$ LANGUAGE SQL PARALLEL SAFE COST 5000
