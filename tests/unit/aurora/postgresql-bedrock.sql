CREATE FUNCTION "mltest"."summarise"("message" text)
RETURNS text AS $$
  SELECT (CAST(aws_bedrock.invoke_model(
    model_id := 'amazon.titan-text-express-v1', content_type := 'application/json', accept_type := 'application/json',
    model_input := CAST(json_build_object('inputText', concat('Summarise: ', "message"), 'textGenerationConfig', json_build_object('maxTokenCount', CAST('64' AS json), 'temperature', CAST('0' AS json))) AS text)) AS json) #>> '{results,0,outputText}')::text
$$ LANGUAGE SQL PARALLEL SAFE COST 5000
