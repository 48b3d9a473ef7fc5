"""rowscore's own tables, migrated by Alembic with a version table of its own, and only from `rowscore apply`."""
