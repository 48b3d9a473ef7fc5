"""The beat table: what Celery beat sends when, built from rowscore.toml."""
