CREATE FUNCTION "mltest"."embed"("message" text)
RETURNS real[] AS $$
  SELECT (aws_bedrock.invoke_model_get_embeddings(
    model_id := 'amazon.titan-embed-text-v2:0', content_type := 'application/json', json_key := 'embedding',
    model_input := CAST(json_build_object('inputText', "message") AS text)))::real[]
$$ LANGUAGE SQL PARALLEL SAFE COST 5000
