"""What was not sent, and what was sent row by row: counters of the batch log."""

import sqlalchemy as sa
from alembic import context, op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COUNTERS = {
    "rows_remembered": "answered from earlier batches",
    "rows_equal": "answered by an equal row of the batch",
    "single_calls": "of one row, where there were more",
}


def _own(table: str) -> tuple[str, str | None]:
    attributes = context.config.attributes
    return attributes["prefix"] + table, attributes["schema"]


def upgrade() -> None:
    """Add them; lines from before have none of each."""
    name, schema = _own("batch")
    for column, comment in COUNTERS.items():
        op.add_column(
            name,
            sa.Column(column, sa.Integer, nullable=False, server_default="0", comment=comment),
            schema=schema,
        )


def downgrade() -> None:
    """Drop them; without the table, which holds nothing but a log, there is nothing to drop."""
    name, schema = _own("batch")
    for column in reversed(COUNTERS):
        if schema:  # PostgreSQL; where DDL commits by itself what is missing is left out by itself
            op.execute(f"ALTER TABLE IF EXISTS {schema}.{name} DROP COLUMN IF EXISTS {column}")
        else:
            op.drop_column(name, column)
