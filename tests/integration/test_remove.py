"""`remove`: it undoes `apply`, keeps what was there before, and works on ruins."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.applied import HURRIED, catalogue, make_items, one, partition_items, prediction, resolved
from worker.apply import apply, remove
from worker.changes import Change
from worker.database import Database
from worker.errors import LockTimeoutError, RefusedError

VERSION = {"column": "model", "value": "1"}


@pytest.mark.parametrize("partitioned", [False, True])
def test_nothing_is_left(connect: Connect, database: Database, partitioned: bool) -> None:
    connection = connect()
    partition_items(connection) if partitioned else make_items(connection, 5)
    before = catalogue(connection)
    wanted = resolved(database, version=VERSION)
    apply(database, wanted)
    removed = remove(database, wanted, drop_outputs=True)
    assert any(change.destructive for change in removed)
    assert catalogue(connection) == before
    assert remove(database, wanted) == []


def test_outputs_stay_unless_asked_and_are_the_users_then(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 2)
    wanted = resolved(database, version=VERSION)
    apply(database, wanted)
    connection.execute("UPDATE items SET p = 0.5, churn_state = 1")
    remove(database, wanted)
    columns = connection.execute("SELECT * FROM items LIMIT 0").description or []
    assert [column.name for column in columns] == ["id", "a", "b", "note", "p"]
    assert one(connection, "SELECT sum(p) FROM items") == 1.0
    apply(database, wanted)
    remove(database, wanted, drop_outputs=True)
    assert one(connection, "SELECT sum(p) FROM items") == 1.0


def test_columns_from_before_are_never_dropped(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    connection.execute(
        "ALTER TABLE items ADD COLUMN p real, ADD COLUMN model text, ADD COLUMN churn_scored_at timestamp"
    )
    before = catalogue(connection)
    wanted = resolved(database, version=VERSION)
    apply(database, wanted)
    remove(database, wanted, drop_outputs=True)
    assert catalogue(connection) == before


def test_a_dry_run_changes_nothing_and_its_sql_by_hand_does_the_same(
    connect: Connect, database: Database
) -> None:
    connection = connect()
    make_items(connection, 1)
    before = catalogue(connection)
    wanted = resolved(database)
    apply(database, wanted)
    applied = catalogue(connection)
    planned = remove(database, wanted, drop_outputs=True, dry_run=True)
    assert catalogue(connection) == applied
    for change in planned:
        connection.execute(change.script)
    assert catalogue(connection) == before


@pytest.mark.parametrize(
    "ruin",
    [
        "DROP TABLE items CASCADE",
        "DROP VIEW items_scored",
        "DROP INDEX rowscore_churn_pending",
        "DROP TRIGGER zzz_rowscore_churn ON items",
        "DROP FUNCTION rowscore.churn_stale() CASCADE",
        "ALTER TABLE items DROP COLUMN churn_state CASCADE",
        "DELETE FROM rowscore.prediction",
        "DROP SCHEMA rowscore CASCADE",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'rowscore_churn_pending'::regclass",
    ],
)
def test_ruins_are_cleared(connect: Connect, database: Database, ruin: str) -> None:
    connection = connect()
    make_items(connection, 1)
    apply(database, resolved(database))
    connection.execute(ruin)
    remove(database, prediction(), drop_outputs=True)
    left = connection.execute("SELECT relname FROM pg_class WHERE relname ~ 'rowscore|scored'").fetchall()
    assert left == []
    assert one(connection, "SELECT to_regnamespace('rowscore') IS NULL")
    assert (
        one(connection, "SELECT count(*) FROM pg_attribute WHERE attname ~ '^churn_' AND NOT attisdropped")
        == 0
    )


class CrashError(Exception):
    """The process dies between two steps."""


def test_a_crash_before_any_step_is_mended_by_the_next_run(connect: Connect, database: Database) -> None:
    connection = connect()
    partition_items(connection)
    before = catalogue(connection)
    wanted = resolved(database)
    apply(database, wanted)

    def crash_at_second() -> object:
        seen: list[Change] = []

        def told(change: Change) -> None:
            seen.append(change)
            if len(seen) == 2:
                raise CrashError

        return told

    for _ in range(len(remove(database, wanted, drop_outputs=True, dry_run=True)) - 1):
        with pytest.raises(CrashError):
            remove(database, wanted, drop_outputs=True, on_change=crash_at_second())  # type: ignore[arg-type]
    remove(database, wanted, drop_outputs=True)
    assert catalogue(connection) == before


@pytest.mark.parametrize(
    ("build", "named"),
    [
        ("CREATE VIEW report AS SELECT prediction_state FROM items_scored", "view report"),
        ("CREATE VIEW report AS SELECT p FROM items", "view report"),
        ("CREATE MATERIALIZED VIEW report AS SELECT churn_state FROM items", "materialized view report"),
        ("CREATE POLICY seen ON items USING (churn_state = 1)", "policy seen on table items"),
    ],
)
def test_what_users_built_upon_it_is_named_and_nothing_is_changed(
    connect: Connect, database: Database, build: str, named: str
) -> None:
    connection = connect()
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    connection.execute(build)
    before = catalogue(connection)
    with pytest.raises(RefusedError, match=named):
        remove(database, wanted, drop_outputs=True)
    assert catalogue(connection) == before


def test_the_last_prediction_takes_the_schema_along(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    fraud = resolved(database, "fraud", outputs={"f": "boolean"}, view=False)
    apply(database, resolved(database))
    apply(database, fraud)
    remove(database, prediction())
    assert one(connection, "SELECT string_agg(name, ',') FROM rowscore.prediction") == "fraud"
    assert [change.title for change in apply(database, fraud)] == []
    remove(database, fraud)
    assert one(connection, "SELECT to_regnamespace('rowscore') IS NULL")


def test_what_users_keep_in_the_schema_is_not_dropped(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    connection.execute("CREATE TABLE rowscore.mine (x int)")
    with pytest.raises(RefusedError, match="rowscore"):
        remove(database, wanted)
    assert one(connection, "SELECT to_regclass('rowscore.mine') IS NOT NULL")
    connection.execute("DROP TABLE rowscore.mine")
    remove(database, wanted)
    assert one(connection, "SELECT to_regnamespace('rowscore') IS NULL")


def test_a_lock_names_its_holder(connect: Connect, database: Database) -> None:
    connection, holder = connect(), connect(autocommit=False)
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    holder.execute("LOCK TABLE items IN ROW SHARE MODE")
    with pytest.raises(LockTimeoutError, match=f"session {holder.info.backend_pid} "):
        remove(database, wanted, patience=HURRIED)
    holder.rollback()
    remove(database, wanted)
