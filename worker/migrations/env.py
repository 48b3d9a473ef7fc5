"""Alembic's environment, offline only: it renders the migrations as SQL for `worker.state`, which runs or shows it."""

from alembic import context

attributes = context.config.attributes
context.configure(
    dialect_name=attributes["dialect"],
    version_table="alembic_version",
    version_table_schema=attributes["schema"],
    transactional_ddl=False,  # whoever runs the SQL opens the transaction, with its lock
)
with context.begin_transaction():
    context.run_migrations()
