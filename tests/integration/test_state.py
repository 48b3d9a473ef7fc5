"""rowscore's own tables: migrations, registration, and whose column is whose."""

from __future__ import annotations

import threading

import pytest

from tests.conftest import Connect
from tests.support.applied import resolved
from tests.support.databases import Session, one, own
from tests.support.predictions import make_items
from worker.apply import apply
from worker.database import Database
from worker.errors import RefusedError
from worker.state import migrate, pending_migrations
from worker.table import listed

CONFORMANCE = True


def runs(connection: Session) -> list[tuple[str, str, list[str]]]:
    """Kind, status and cursor of each run."""
    found = connection.execute(f"SELECT kind, status, pos FROM {own(connection, 'run')} ORDER BY id")
    return [(kind, status, listed(pos)) for kind, status, pos in found.fetchall()]


def test_migrations_are_idempotent_and_stop_at_a_newer_version(connect: Connect, database: Database) -> None:
    connection = connect()
    assert migrate(database) is True
    assert migrate(database) is False
    with database.transaction() as transaction:
        assert pending_migrations(transaction) == ""
    connection.execute(f"UPDATE {own(connection, 'alembic_version')} SET version_num = '9999'")
    with pytest.raises(RefusedError, match="not of this version"):
        migrate(database)


def test_two_migrations_at_once_do_no_harm(database: Database) -> None:
    start = threading.Barrier(3)
    results: list[bool] = []

    def run() -> None:
        start.wait()
        results.append(migrate(database))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, False, True]


def test_another_version_begins_a_generation_and_voids_leases(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    apply(database, resolved(database, version={"column": "model", "value": "1"}))
    run, lease = own(connection, "run"), own(connection, "lease")
    connection.execute(
        f"""INSERT INTO {lease} (run_id, token, lo, hi, owner, expires_at)
           SELECT id, 1, '["1"]', '["2"]', 'w', now() FROM {run};
           UPDATE {run} SET pos = '["5"]';
           INSERT INTO {run} (prediction, kind) VALUES ('churn', 'backfill')"""
    )
    apply(database, resolved(database, version={"column": "model", "value": "2"}))
    generations = f"SELECT generation, version FROM {own(connection, 'prediction')}"
    assert connection.execute(generations).fetchall() == [(2, "2")]
    assert one(connection, f"SELECT count(*) FROM {lease}") == 0
    assert runs(connection) == [("drain", "running", ["5"]), ("backfill", "running", [])]
    apply(database, resolved(database, version={"column": "model", "value": "2"}, inputs=["a"]))
    assert one(connection, generations) == 3
    assert runs(connection) == [("drain", "running", []), ("backfill", "cancelled", [])]
