"""The first tables: prediction, run, lease, failure, circuit, learned, batch."""

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import mysql, postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BOUND = sa.JSON().with_variant(
    postgresql.JSONB(), "postgresql"
)  # a key as an array of texts, one for each column
INSTANT = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")  # in UTC
VERSION = sa.Text().with_variant(sa.String(500), "mysql", "mariadb")  # a TEXT can have no plain default there


def upgrade() -> None:
    """Make the tables, parents first. Times are the database's clock; durations are seconds."""
    _create_prediction()
    _create_run()
    _create_lease()
    _create_failure()
    _create_circuit()
    _create_learned()
    _create_batch()


def _own(table: str) -> tuple[str, str | None]:
    """A table's name and schema: PostgreSQL keeps rowscore's own in a schema, the others by a prefix."""
    attributes = context.config.attributes
    return attributes["prefix"] + table, attributes["schema"]


def _reference(table: str, column: str) -> sa.ForeignKey:
    name, schema = _own(table)
    return sa.ForeignKey(f"{schema}.{name}.{column}" if schema else f"{name}.{column}", ondelete="CASCADE")


def _now() -> sa.TextClause:
    return sa.text("clock_timestamp()" if context.config.attributes["schema"] else "(UTC_TIMESTAMP(6))")


def _prediction(*, primary_key: bool = False) -> sa.Column[str]:
    target = _reference("prediction", "name")
    return sa.Column("prediction", sa.String(40), target, nullable=False, primary_key=primary_key)


def _create_prediction() -> None:
    name, schema = _own("prediction")
    op.create_table(
        name,
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("generation", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column("definition_hash", sa.String(12), nullable=False),
        sa.Column("definition", BOUND, nullable=False),
        sa.Column("version", VERSION, nullable=False, server_default=""),
        sa.Column("applied_at", INSTANT, nullable=False, server_default=_now()),
        schema=schema,
    )


def _create_run() -> None:
    name, schema = _own("run")
    op.create_table(
        name,
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        _prediction(),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False, server_default="running"),
        sa.Column("pos", BOUND, comment="the key that was handed out last"),
        sa.Column("upper", BOUND, comment="a backfill's last key, frozen when it began"),
        sa.Column("token", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("wrapped_at", INSTANT),
        sa.Column("wrap_seconds", sa.Double, nullable=False, server_default="0"),
        sa.Column("rows_total", sa.BigInteger, comment="estimated when the run began"),
        sa.Column("rows_walked", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("rows_scored", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("rows_failed", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("rows_skipped", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("started_at", INSTANT, nullable=False, server_default=_now()),
        sa.Column("finished_at", INSTANT),
        schema=schema,
    )
    if schema:
        op.create_index(  # one drain for ever, one backfill at a time
            "run_live", name, ["prediction", "kind"], unique=True, schema=schema,
            postgresql_where=sa.text("status = 'running'"),
        )  # fmt: skip
    else:
        live = sa.Computed("CASE WHEN status = 'running' THEN 1 END")
        op.add_column(name, sa.Column("live", sa.Integer, live, comment="1 while it runs"))
        op.create_index("run_live", name, ["prediction", "kind", "live"], unique=True)


def _create_lease() -> None:
    name, schema = _own("lease")
    op.create_table(
        name,
        sa.Column(
            "run_id",
            sa.BigInteger,
            _reference("run", "id"),
            primary_key=True,
        ),
        sa.Column("token", sa.BigInteger, primary_key=True),
        sa.Column("lo", BOUND, nullable=False, comment="first key, inclusive"),
        sa.Column("hi", BOUND, nullable=False, comment="last key, inclusive"),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="1"),
        sa.Column("expires_at", INSTANT, nullable=False),
        schema=schema,
    )


def _create_failure() -> None:
    name, schema = _own("failure")
    key: list[sa.Column[Any]] = [sa.Column("row_key", BOUND, primary_key=True)]
    if schema is None:  # a JSON cannot be in an index
        key = [
            sa.Column("key_hash", sa.BINARY(32), primary_key=True),
            sa.Column("row_key", BOUND, nullable=False),
        ]
    op.create_table(
        name,
        _prediction(primary_key=True),
        *key,
        sa.Column("failure_class", sa.String(24), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="1"),
        sa.Column("first_failed_at", INSTANT, nullable=False, server_default=_now()),
        sa.Column("last_failed_at", INSTANT, nullable=False, server_default=_now()),
        sa.Column("next_retry_at", INSTANT, comment="NULL: no further retry by itself"),
        schema=schema,
    )
    op.create_index("failure_due", name, ["prediction", "next_retry_at"], schema=schema)


def _create_circuit() -> None:
    name, schema = _own("circuit")
    op.create_table(
        name,
        _prediction(primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("failure_class", sa.String(24)),
        sa.Column("reason", sa.Text),
        sa.Column("open_until", INSTANT),
        sa.Column("changed_at", INSTANT, nullable=False, server_default=_now()),
        schema=schema,
    )


def _create_learned() -> None:
    name, schema = _own("learned")
    op.create_table(
        name,
        _prediction(primary_key=True),
        sa.Column("rows_per_claim", sa.Integer, nullable=False),
        sa.Column("rows_per_call", sa.Integer),
        sa.Column("changed_at", INSTANT, nullable=False, server_default=_now()),
        schema=schema,
    )


def _create_batch() -> None:
    name, schema = _own("batch")
    op.create_table(
        name,
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        _prediction(),
        sa.Column("run_id", sa.BigInteger, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("finished_at", INSTANT, nullable=False, server_default=_now()),
        sa.Column("rows_taken", sa.Integer, nullable=False, comment="rows read for scoring"),
        sa.Column("rows_scored", sa.Integer, nullable=False),
        sa.Column("rows_failed", sa.Integer, nullable=False),
        sa.Column("rows_skipped", sa.Integer, nullable=False),
        sa.Column(
            "rows_lost", sa.Integer, nullable=False, comment="changed, deleted or locked since they were read"
        ),
        sa.Column("calls", sa.Integer, nullable=False),
        sa.Column("call_rows", sa.Integer, nullable=False),
        sa.Column("call_seconds", sa.Double, nullable=False),
        sa.Column("call_seconds_min", sa.Double),
        sa.Column("call_seconds_max", sa.Double),
        sa.Column("call_rows_min", sa.Integer),
        sa.Column("call_rows_max", sa.Integer),
        sa.Column("retries", sa.Integer, nullable=False),
        sa.Column("throttled", sa.Integer, nullable=False),
        sa.Column("database_seconds", sa.Double, nullable=False),
        sa.Column("total_seconds", sa.Double, nullable=False),
        sa.Column("error", sa.Text),
        schema=schema,
    )
    op.create_index("batch_recent", name, ["prediction", "id"], schema=schema)


def downgrade() -> None:
    """Drop the tables, children first."""
    for table in ("batch", "learned", "circuit", "failure", "lease", "run", "prediction"):
        name, schema = _own(table)
        op.drop_table(name, schema=schema, if_exists=True)
