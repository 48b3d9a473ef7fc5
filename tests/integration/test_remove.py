"""`remove`: it undoes `apply`, keeps what was there before, and works on ruins."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.applied import HURRIED, make_items, partition_items, prediction, resolved
from tests.support.catalogue import catalogue, described
from tests.support.databases import Session, columns_of, each, is_postgresql, one, own, session_number
from worker.apply import apply, remove
from worker.database import Database
from worker.errors import LockTimeoutError, RefusedError

CONFORMANCE = True
VERSION = {"column": "model", "value": "it's"}


def own_tables(connection: Session) -> int:
    """How many tables of rowscore's own there are."""
    where = (
        "table_schema = 'rowscore'"
        if is_postgresql(connection)
        else "table_schema = DATABASE() AND table_name LIKE 'rowscore\\_%'"
    )
    return int(one(connection, f"SELECT count(*) FROM information_schema.tables WHERE {where}"))


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


KINDS = {
    "postgresql": ["double precision", "jsonb", "varchar(20)", "timestamptz(3)"],
    "mysql": ["double", "json", "varchar(20) CHARACTER SET latin1", "enum('a','it''s, b')", "timestamp(3)"],
}


@each("kind", KINDS)
def test_outputs_stay_unless_asked_and_are_the_users_then(
    connect: Connect, database: Database, kind: str
) -> None:
    connection = connect()
    make_items(connection, 2)
    wanted = resolved(database, outputs={"p": kind}, version=VERSION)
    apply(database, wanted)
    marked = described(connection, "p")
    assert marked[1] == "maintained by rowscore: prediction churn, output"
    connection.execute("UPDATE items SET churn_state = 1")
    remove(database, wanted)
    assert columns_of(connection, "items") == ["id", "a", "b", "note", "p"]
    assert described(connection, "p") == (marked[0], None)
    apply(database, wanted)
    remove(database, wanted, drop_outputs=True)
    assert columns_of(connection, "items") == ["id", "a", "b", "note", "p"]


def test_predictions_are_kept_with_their_column(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 2)
    wanted = resolved(database)
    apply(database, wanted)
    connection.execute("UPDATE items SET p = 0.5, churn_state = 1")
    remove(database, wanted)
    assert one(connection, "SELECT sum(p) FROM items") == 1.0


def test_columns_from_before_are_never_dropped(connect: Connect, database: Database) -> None:
    connection = connect()
    kind = "timestamp" if is_postgresql(connection) else "datetime"
    make_items(connection, 1, f", p real, model varchar(99), churn_scored_at {kind}")
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


RUINS = {
    "postgresql": [
        "DROP TABLE items CASCADE",
        "DROP VIEW items_scored",
        "DROP INDEX rowscore_churn_pending",
        "DROP TRIGGER zzz_rowscore_churn ON items",
        "DROP FUNCTION rowscore.churn_stale() CASCADE",
        "ALTER TABLE items DROP COLUMN churn_state CASCADE",
        "DELETE FROM rowscore.prediction",
        "DROP TABLE rowscore.batch",
        "DROP SCHEMA rowscore CASCADE",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'rowscore_churn_pending'::regclass",
    ],
    "mysql": [
        "DROP TABLE items",
        "DROP VIEW items_scored",
        "DROP INDEX rowscore_churn_pending ON items",
        "DROP TRIGGER zzz_rowscore_churn",
        "ALTER TABLE items DROP COLUMN churn_scored_at",
        "ALTER TABLE items DROP KEY rowscore_churn_pending, DROP COLUMN churn_state",
        "DELETE FROM rowscore_prediction",
        "DROP TABLE rowscore_batch",
        "DELETE FROM rowscore_prediction; DROP TABLE rowscore_alembic_version",
    ],
}


@each("ruin", RUINS)
def test_ruins_are_cleared(connect: Connect, database: Database, ruin: str) -> None:
    connection = connect()
    empty = catalogue(connection)
    make_items(connection, 1)
    before = catalogue(connection)
    apply(database, resolved(database))
    connection.execute(ruin)
    remove(database, prediction(), drop_outputs=True)
    assert catalogue(connection) == (empty if ruin.startswith("DROP TABLE items") else before)


@pytest.mark.parametrize(
    "build",
    [
        "CREATE VIEW report AS SELECT prediction_state FROM items_scored",
        "CREATE VIEW report AS SELECT p FROM items",
    ],
)
def test_what_users_built_upon_it_is_named_and_nothing_is_changed(
    connect: Connect, database: Database, build: str
) -> None:
    connection = connect()
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    connection.execute("CREATE VIEW harmless AS SELECT a, b FROM items")
    connection.execute(build)
    before = catalogue(connection)
    with pytest.raises(RefusedError, match=r"view \S*report depends on"):
        remove(database, wanted, drop_outputs=True)
    assert catalogue(connection) == before


def test_the_last_prediction_takes_rowscores_tables_along(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    fraud = resolved(database, "fraud", outputs={"f": "boolean"}, view=False)
    apply(database, resolved(database))
    apply(database, fraud)
    remove(database, prediction())
    registered = connection.execute(f"SELECT name FROM {own(connection, 'prediction')}").fetchall()
    assert registered == [("fraud",)]
    assert [change.title for change in apply(database, fraud)] == []
    remove(database, fraud)
    assert own_tables(connection) == 0


def test_a_lock_names_its_holder(connect: Connect, database: Database) -> None:
    connection, holder = connect(), connect(autocommit=False)
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    number = session_number(holder)
    holder.execute("SELECT id FROM items FOR UPDATE")
    with pytest.raises(LockTimeoutError, match=f"session {number} "):
        remove(database, wanted, patience=HURRIED)
    holder.rollback()
    remove(database, wanted)
    assert own_tables(connection) == 0
