"""Alembic's environment, offline only: renders the migrations as SQL, which `worker.state` runs or shows."""

from alembic import context

attributes = context.config.attributes
context.configure(
    dialect_name=attributes["dialect"],
    version_table=attributes["prefix"] + "alembic_version",
    version_table_schema=attributes["schema"],
    parts=attributes["parts"],
    transactional_ddl=False,  # whoever runs the SQL opens the transaction, with its lock
)
with context.begin_transaction():
    context.run_migrations()
