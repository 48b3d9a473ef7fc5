"""rowscore's own tables come to this version with what is in them, and go back."""

from __future__ import annotations

from typing import Any

import pytest
from alembic import command

from tests.conftest import Connect
from tests.support.databases import one, own
from worker import state
from worker.database import Database

CONFORMANCE = True
STATUSES = ["running", "finished", "cancelled"]


def migrated(database: Database, revisions: str, run: Any) -> None:
    """Between two revisions, as `apply` does it."""
    with database.transaction() as transaction:
        if revisions.startswith("base") and transaction.capabilities.own_schema:
            transaction.script("CREATE SCHEMA IF NOT EXISTS rowscore")
        transaction.script(state._offline(transaction, revisions, run))


def test_runs_outlive_an_upgrade_and_one_is_live_paused_or_not(database: Database, connect: Connect) -> None:
    application = connect()
    migrated(database, "base:0002", command.upgrade)
    application.execute(
        f"INSERT INTO {own(application, 'prediction')} (name, definition_hash, definition) "
        f"VALUES ('churn', 'x', '{{}}')"
    )
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
    migrated(database, "0003:0002", command.downgrade)
    assert one(application, f"SELECT count(*) FROM {runs} WHERE status = 'cancelled'") == 2
    application.execute(f"INSERT INTO {runs} (prediction, kind) VALUES ('churn', 'backfill')")
    assert state.migrate(database)
