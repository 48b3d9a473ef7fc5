"""rowscore's own tables, migrated by Alembic with a version table of its own, and only from `rowscore apply`."""

HEAD = "0004"  # the newest revision, for those who only want to know whether the tables are up to date
Part = tuple[str, str, str]  # of the tables: table, kind (`column` or `index`) and name
