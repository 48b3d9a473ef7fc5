"""What holds each prediction's work up now, and an operator's pause."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")  # in UTC


def _own(table: str) -> tuple[str, str | None]:
    attributes = context.config.attributes
    return attributes["prefix"] + table, attributes["schema"]


def upgrade() -> None:
    """Make the table; a row comes with the first thing that there is to say of a prediction."""
    (name, schema), (parent, _) = _own("throttle"), _own("prediction")
    target = sa.ForeignKey(f"{schema}.{parent}.name" if schema else f"{parent}.name", ondelete="CASCADE")
    op.create_table(
        name,
        sa.Column("prediction", sa.String(40), target, primary_key=True),
        sa.Column("kind", sa.String(32), comment="the signal that holds the work up; NULL: none does"),
        sa.Column("reason", sa.Text),
        sa.Column("since", INSTANT),
        sa.Column("looked_at", INSTANT, comment="when a drain last ended for it"),
        sa.Column("total_seconds", sa.Double, nullable=False, server_default="0", comment="before `since`"),
        sa.Column("paused_at", INSTANT, comment="by an operator; NULL: it is not"),
        sa.Column("paused_until", INSTANT, comment="NULL: until it is resumed"),
        sa.Column("pause_reason", sa.Text),
        schema=schema,
    )


def downgrade() -> None:
    """Drop the table."""
    name, schema = _own("throttle")
    op.drop_table(name, schema=schema, if_exists=True)
