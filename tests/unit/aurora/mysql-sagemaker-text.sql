CREATE FUNCTION `mltest`.`predict_churn`(`state` varchar(2) CHARSET utf8mb4, `acc_length` int unsigned, `day_mins` double, `message` text CHARSET utf8mb4, `f1` double)
RETURNS varchar(2048) CHARSET utf8mb4 COMMENT 'maintained by rowscore: prediction churn, model 586e33f51afc'
ALIAS AWS_SAGEMAKER_INVOKE_ENDPOINT ENDPOINT NAME 'churn-endpoint'
