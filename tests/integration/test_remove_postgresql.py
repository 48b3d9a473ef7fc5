"""`remove` where only PostgreSQL has such things: materialized views, policies, a schema that others keep things in."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.applied import make_items, resolved
from tests.support.catalogue import catalogue
from tests.support.databases import one
from worker.apply import apply, remove
from worker.database import Database
from worker.errors import RefusedError


@pytest.mark.parametrize(
    ("build", "named"),
    [
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
