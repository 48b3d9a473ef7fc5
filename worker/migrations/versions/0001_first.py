"""The first tables: prediction, run, lease, failure, circuit, learned, batch."""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BOUND = sa.JSON().with_variant(
    postgresql.JSONB(), "postgresql"
)  # a key as an array of texts, one for each column
INSTANT = sa.DateTime(timezone=True)
NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    """Make the tables, parents first. Times are the database's clock; durations are seconds."""
    schema = context.config.attributes["schema"]
    _create_prediction(schema)
    _create_run(schema)
    _create_lease(schema)
    _create_failure(schema)
    _create_circuit(schema)
    _create_learned(schema)
    _create_batch(schema)


def _own(schema: str | None, target: str) -> str:
    return f"{schema}.{target}" if schema else target


def _prediction(schema: str | None, *, primary_key: bool = False) -> sa.Column[str]:
    target = sa.ForeignKey(_own(schema, "prediction.name"), ondelete="CASCADE")
    return sa.Column("prediction", sa.String(40), target, nullable=False, primary_key=primary_key)


def _create_prediction(schema: str | None) -> None:
    op.create_table(
        "prediction",
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("generation", sa.BigInteger, nullable=False, server_default="1"),
        sa.Column("definition_hash", sa.String(12), nullable=False),
        sa.Column("definition", BOUND, nullable=False),
        sa.Column("version", sa.Text, nullable=False, server_default=""),
        sa.Column("applied_at", INSTANT, nullable=False, server_default=NOW),
        schema=schema,
    )


def _create_run(schema: str | None) -> None:
    op.create_table(
        "run",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        _prediction(schema),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("status", sa.String(16), nullable=False, server_default="running"),
        sa.Column("pos", BOUND, comment="the key that was handed out last"),
        sa.Column("upper", BOUND, comment="a backfill's last key, frozen when it began"),
        sa.Column("token", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("wrapped_at", INSTANT),
        sa.Column("wrap_seconds", sa.Float, nullable=False, server_default="0"),
        sa.Column("rows_total", sa.BigInteger, comment="estimated when the run began"),
        sa.Column("rows_walked", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("rows_scored", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("rows_failed", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("rows_skipped", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("started_at", INSTANT, nullable=False, server_default=NOW),
        sa.Column("finished_at", INSTANT),
        schema=schema,
    )
    op.create_index(  # one drain for ever, one backfill at a time
        "run_live", "run", ["prediction", "kind"], unique=True, schema=schema,
        postgresql_where=sa.text("status = 'running'"),
    )  # fmt: skip


def _create_lease(schema: str | None) -> None:
    op.create_table(
        "lease",
        sa.Column(
            "run_id",
            sa.BigInteger,
            sa.ForeignKey(_own(schema, "run.id"), ondelete="CASCADE"),
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


def _create_failure(schema: str | None) -> None:
    op.create_table(
        "failure",
        _prediction(schema, primary_key=True),
        sa.Column("row_key", BOUND, primary_key=True),
        sa.Column("failure_class", sa.String(24), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="1"),
        sa.Column("first_failed_at", INSTANT, nullable=False, server_default=NOW),
        sa.Column("last_failed_at", INSTANT, nullable=False, server_default=NOW),
        sa.Column("next_retry_at", INSTANT, comment="NULL: no further retry by itself"),
        schema=schema,
    )
    op.create_index("failure_due", "failure", ["prediction", "next_retry_at"], schema=schema)


def _create_circuit(schema: str | None) -> None:
    op.create_table(
        "circuit",
        _prediction(schema, primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("failure_class", sa.String(24)),
        sa.Column("reason", sa.Text),
        sa.Column("open_until", INSTANT),
        sa.Column("changed_at", INSTANT, nullable=False, server_default=NOW),
        schema=schema,
    )


def _create_learned(schema: str | None) -> None:
    op.create_table(
        "learned",
        _prediction(schema, primary_key=True),
        sa.Column("rows_per_claim", sa.Integer, nullable=False),
        sa.Column("rows_per_call", sa.Integer),
        sa.Column("changed_at", INSTANT, nullable=False, server_default=NOW),
        schema=schema,
    )


def _create_batch(schema: str | None) -> None:
    op.create_table(
        "batch",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        _prediction(schema),
        sa.Column("run_id", sa.BigInteger, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("finished_at", INSTANT, nullable=False, server_default=NOW),
        sa.Column("rows_taken", sa.Integer, nullable=False, comment="rows read for scoring"),
        sa.Column("rows_scored", sa.Integer, nullable=False),
        sa.Column("rows_failed", sa.Integer, nullable=False),
        sa.Column("rows_skipped", sa.Integer, nullable=False),
        sa.Column(
            "rows_lost", sa.Integer, nullable=False, comment="changed, deleted or locked since they were read"
        ),
        sa.Column("calls", sa.Integer, nullable=False),
        sa.Column("call_rows", sa.Integer, nullable=False),
        sa.Column("call_seconds", sa.Float, nullable=False),
        sa.Column("call_seconds_min", sa.Float),
        sa.Column("call_seconds_max", sa.Float),
        sa.Column("call_rows_min", sa.Integer),
        sa.Column("call_rows_max", sa.Integer),
        sa.Column("retries", sa.Integer, nullable=False),
        sa.Column("throttled", sa.Integer, nullable=False),
        sa.Column("database_seconds", sa.Float, nullable=False),
        sa.Column("total_seconds", sa.Float, nullable=False),
        sa.Column("error", sa.Text),
        schema=schema,
    )
    op.create_index("batch_recent", "batch", ["prediction", "id"], schema=schema)


def downgrade() -> None:
    """Drop the tables, children first."""
    schema = context.config.attributes["schema"]
    for table in ("batch", "learned", "circuit", "failure", "lease", "run", "prediction"):
        op.drop_table(table, schema=schema)
