CREATE FUNCTION "mltest"."mood"("message" text, max_rows_per_batch integer DEFAULT NULL)
RETURNS text AS $$
  SELECT ((aws_comprehend.detect_sentiment("message", 'en', max_rows_per_batch)).sentiment)::text
$$ LANGUAGE SQL PARALLEL SAFE COST 5000
