CREATE FUNCTION "mltest"."mood"("message" text, max_rows_per_batch integer DEFAULT NULL, OUT "mood" character varying, OUT "mood_confidence" real)
AS $$
  SELECT aws_comprehend.detect_sentiment("message", 'fr', max_rows_per_batch)
$$ LANGUAGE SQL PARALLEL SAFE COST 5000
