CREATE FUNCTION `mltest`.`summarise_bedrock`(request_body text CHARSET utf8mb4)
RETURNS text CHARSET utf8mb4 COMMENT 'maintained by rowscore: prediction churn, model d3489987c8d1'
ALIAS AWS_BEDROCK_INVOKE_MODEL MODEL ID 'amazon.titan-text-express-v1' CONTENT_TYPE 'application/json' ACCEPT 'application/json' TIMEOUT_MS 20000

CREATE FUNCTION `mltest`.`summarise`(`message` text CHARSET utf8mb4)
RETURNS longtext CHARSET utf8mb4 NOT DETERMINISTIC READS SQL DATA COMMENT 'maintained by rowscore: prediction churn, model 0a2e789ea1f7'
RETURN (SELECT IF(JSON_TYPE(r.answer) = 'NULL', NULL, JSON_UNQUOTE(r.answer))
        FROM (SELECT JSON_EXTRACT(`mltest`.`summarise_bedrock`(JSON_OBJECT('inputText', CONCAT('Summarise: ', COALESCE(`message`, '')), 'textGenerationConfig', JSON_OBJECT('maxTokenCount', JSON_EXTRACT('64', '$'), 'temperature', JSON_EXTRACT('0', '$')))), '$.results[0].outputText') AS answer LIMIT 1) AS r)
