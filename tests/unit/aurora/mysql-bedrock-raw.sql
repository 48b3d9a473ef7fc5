CREATE FUNCTION `mltest`.`ask`(request_body text CHARSET utf8mb4)
RETURNS text CHARSET utf8mb4 COMMENT 'maintained by rowscore: prediction churn, model 4161504aa99f'
ALIAS AWS_BEDROCK_INVOKE_MODEL MODEL ID 'm' CONTENT_TYPE 'application/json' ACCEPT 'application/json'
