"""Backfills that keep their options, can be paused, and are paced."""

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql, postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BOUND = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
INSTANT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")  # in UTC
LIVE = "status IN ('running', 'paused')"


def _own(table: str) -> tuple[str, str | None]:
    attributes = context.config.attributes
    return attributes["prefix"] + table, attributes["schema"]


def upgrade() -> None:
    """A paused run is live as well: there is one live run of each kind."""
    run, schema = _own("run")
    columns: list[sa.Column[Any]] = [
        sa.Column("lower", BOUND, comment="a backfill's first key; none: from the beginning"),
        sa.Column("options", BOUND, comment="what the backfill was begun with"),
        sa.Column("next_at", INSTANT, comment="no window is handed out before"),
        sa.Column("spent_on", sa.Date, comment="the day, in UTC, that a daily budget's sums are of"),
        sa.Column("spent_calls", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("spent_rows", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("spent_money", sa.Numeric(20, 6), nullable=False, server_default="0"),
    ]
    for column in columns:
        op.add_column(run, column, schema=schema)
    lease, _ = _own("lease")
    size = sa.Column("size", sa.Integer, nullable=False, server_default="0", comment="keys in the window")
    op.add_column(lease, size, schema=schema)
    _replace_live(LIVE)


def _replace_live(condition: str) -> None:
    run, schema = _own("run")
    if schema:
        op.drop_index("run_live", run, schema=schema)
        op.create_index(
            "run_live", run, ["prediction", "kind"], unique=True, schema=schema,
            postgresql_where=sa.text(condition),
        )  # fmt: skip
    else:  # the foreign key needs an index that begins with the prediction, so it has one meanwhile
        op.create_index("run_prediction", run, ["prediction"])
        op.drop_index("run_live", run)
        op.drop_column(run, "live")
        live = sa.Computed(f"CASE WHEN {condition} THEN 1 END")
        op.add_column(run, sa.Column("live", sa.Integer, live, comment="1 while it runs or is paused"))
        op.create_index("run_live", run, ["prediction", "kind", "live"], unique=True)
        op.drop_index("run_prediction", run)


def downgrade() -> None:
    """A paused run counts as cancelled."""
    run, schema = _own("run")
    table = f"{schema}.{run}" if schema else run
    op.execute(f"UPDATE {table} SET status = 'cancelled' WHERE status = 'paused'")
    _replace_live("status = 'running'")
    lease, _ = _own("lease")
    op.drop_column(lease, "size", schema=schema)
    for name in ("spent_money", "spent_rows", "spent_calls", "spent_on", "next_at", "options", "lower"):
        op.drop_column(run, name, schema=schema)
