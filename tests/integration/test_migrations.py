"""rowscore's own tables come to this version with what is in them, whatever dies on the way, and go back."""

from __future__ import annotations

from importlib import resources
from typing import Any

import pytest
from alembic.script import ScriptDirectory

import sql
from tests.conftest import Connect
from tests.support.databases import INNODB, Session, one, only, own
from worker import state
from worker.database import Database, Transaction
from worker.migrations import HEAD
from worker.migrations.rendering import revisions

CONFORMANCE = True
STATUSES = ["running", "finished", "cancelled"]
SCRIPTS = ScriptDirectory(str(resources.files("worker.migrations")))
REVISIONS = [script.revision for script in reversed(list(SCRIPTS.walk_revisions()))]
STEPS = ["base", *REVISIONS[:-1]]


def test_the_newest_is_known_without_alembic() -> None:
    assert REVISIONS[-1] == HEAD == revisions()[0]


def migrated(database: Database, span: str, *, down: bool = False) -> None:
    """Between two revisions, as `apply` does it."""
    with database.transaction() as transaction:
        if span.startswith("base") and transaction.capabilities.own_schema:
            transaction.script("CREATE SCHEMA IF NOT EXISTS rowscore")
        transaction.script(rendered(transaction, span, down=down))


def rendered(transaction: Transaction, span: str, *, down: bool = False) -> str:
    """The SQL between two revisions, without what is done already."""
    return state._rendered(transaction, span, down=down, found=state._parts(transaction))


def test_runs_outlive_an_upgrade_and_one_is_live_paused_or_not(database: Database, connect: Connect) -> None:
    application = connect()
    migrated(database, "base:0002")
    add_prediction(application)
    runs = own(application, "run")
    for status in STATUSES:
        application.execute(
            f"INSERT INTO {runs} (prediction, kind, status) VALUES ('churn', 'backfill', '{status}')"
        )
    assert state.migrate(database)
    assert not state.migrate(database)
    found = application.execute(f"SELECT status, spent_rows, options FROM {runs} ORDER BY id").fetchall()
    assert [tuple(row) for row in found] == [(status, 0, None) for status in STATUSES]
    application.execute(f"UPDATE {runs} SET status = 'paused' WHERE status = 'running'")
    with pytest.raises(Exception, match=r"run_live|[Dd]uplicate"):
        application.execute(f"INSERT INTO {runs} (prediction, kind) VALUES ('churn', 'backfill')")
    application.execute(f"INSERT INTO {runs} (prediction, kind) VALUES ('churn', 'drain')")
    migrated(database, f"{REVISIONS[-1]}:0002", down=True)
    assert one(application, f"SELECT count(*) FROM {runs} WHERE status = 'cancelled'") == 2
    application.execute(f"INSERT INTO {runs} (prediction, kind) VALUES ('churn', 'backfill')")
    assert state.migrate(database)


# --- where DDL commits by itself ------------------------------------------------------------------------------


def add_prediction(connection: Session) -> None:
    """A registered prediction, as the oldest tables hold it."""
    connection.execute(
        f"INSERT INTO {own(connection, 'prediction')} (name, definition_hash, definition) "
        f"VALUES ('churn', 'x', '{{}}')"
    )


def shape(connection: Session) -> dict[str, list[Any]]:
    """All that the catalogue says of the database's tables, but where they are and how large."""
    asked = {
        "columns": "table_name, column_name, ordinal_position, column_default, is_nullable, column_type, extra, "
        "column_comment, generation_expression, column_key, collation_name",
        "statistics": "table_name, index_name, seq_in_index, column_name, non_unique, index_type",
        "key_column_usage": "table_name, constraint_name, column_name, referenced_table_name, referenced_column_name",
        "table_constraints": "table_name, constraint_name, constraint_type",
    }
    return {
        name: connection.execute(
            f"SELECT {columns} FROM information_schema.{name} WHERE table_schema = DATABASE() ORDER BY 1, 2, 3"
        ).fetchall()
        for name, columns in asked.items()
    }


def stand_at(database: Database, connection: Session, revision: str) -> None:
    """Rowscore's own tables as that revision leaves them, with a prediction and a run where it has tables for them."""
    connection.execute(sql.load("mysql")["drop_own_tables"].show())
    if revision != "base":
        migrated(database, f"base:{revision}")
        add_prediction(connection)
        connection.execute("INSERT INTO rowscore_run (prediction, kind) VALUES ('churn', 'backfill')")


@only(*INNODB)
@pytest.mark.parametrize("step", STEPS)
def test_a_migration_that_dies_after_any_statement_is_finished_by_the_next_one(
    database: Database, connect: Connect, step: str
) -> None:
    application, dying = connect(), connect(autocommit=False)
    state.migrate(database)
    clean = shape(application)
    stand_at(database, application, step)
    with database.transaction() as transaction:
        text = rendered(transaction, f"{step}:{REVISIONS[STEPS.index(step)]}")
    statements = text.split(";\n")
    assert len(statements) > 1, "what it makes, and its number"
    for count in range(len(statements) + 1):
        stand_at(database, application, step)
        for statement in statements[:count]:
            dying.execute(statement)
        dying.rollback()
        assert state.migrate(database)
        assert shape(application) == clean, f"after {count} statements"
        assert not state.migrate(database)
        if step != "base":
            kept = application.execute("SELECT prediction, kind, status FROM rowscore_run").fetchall()
            assert kept == [("churn", "backfill", "running")]
