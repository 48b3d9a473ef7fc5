CREATE FUNCTION `mltest`.`predict_churn`(`state` varchar(2) CHARSET utf8mb4, `acc_length` int unsigned, `day_mins` double)
RETURNS double COMMENT 'maintained by rowscore: prediction churn, model f47b3a9ff40c'
ALIAS AWS_SAGEMAKER_INVOKE_ENDPOINT ENDPOINT NAME 'churn-endpoint' MAX_BATCH_SIZE 2000
