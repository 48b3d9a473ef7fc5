"""The view where only PostgreSQL has such things: policies, grants of a view that is made anew, composite answers."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.accounts import Account
from tests.support.applied import make_items, resolved
from tests.support.catalogue import catalogue
from tests.support.databases import one, session
from tests.support.predictions import calls
from worker.apply import apply
from worker.database import Database
from worker.errors import RefusedError


def test_a_policy_holds_for_the_reader(connect: Connect, database: Database, account: Account) -> None:
    connection = connect()
    make_items(connection, 4)
    apply(database, resolved(database))
    connection.execute(
        f"""GRANT SELECT ON items, items_scored TO {account.quoted};
            ALTER TABLE items ENABLE ROW LEVEL SECURITY;
            CREATE POLICY even ON items FOR SELECT USING (id % 2 = 0)"""
    )
    with session(account.url) as reader:
        assert reader.execute("SELECT id FROM items_scored ORDER BY 1").fetchall() == [(2,), (4,)]


def test_a_renamed_column_needs_a_new_view_with_all_the_old_grants(
    connect: Connect, database: Database, account: Account
) -> None:
    connection = connect()
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    connection.execute(f"GRANT SELECT ON items_scored TO {account.quoted} WITH GRANT OPTION")
    connection.execute("GRANT SELECT, DELETE ON items_scored TO PUBLIC")
    acl = "SELECT array(SELECT unnest(relacl)::text ORDER BY 1) FROM pg_class WHERE relname = 'items_scored'"
    before = one(connection, acl)
    connection.execute("ALTER TABLE items RENAME COLUMN note TO remark")
    (change,) = apply(database, wanted)
    assert change.statements[0].startswith("DROP VIEW")
    assert one(connection, acl) == before
    assert apply(database, wanted) == []


def test_a_new_view_is_refused_where_another_stands_on_the_old(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    connection.execute("CREATE VIEW report AS SELECT id FROM items_scored")
    connection.execute("ALTER TABLE items RENAME COLUMN note TO remark")
    before = catalogue(connection)
    with pytest.raises(RefusedError, match="view report depends on it"):
        apply(database, wanted)
    assert catalogue(connection) == before


def make_function(connection: psycopg.Connection[Any], volatility: str) -> None:
    """predict(a, b) answers (p, label) and counts its calls, whatever it claims about itself."""
    connection.execute("CREATE SEQUENCE calls; CREATE TYPE answer AS (p double precision, label text)")
    connection.execute("CREATE FUNCTION noted() RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('calls') $$")
    connection.execute(
        f"""CREATE FUNCTION predict(a float8, b int) RETURNS answer LANGUAGE plpgsql {volatility} AS
        $$ BEGIN PERFORM noted(); RETURN ROW(a + b, 'live')::answer; END $$"""
    )


@pytest.mark.parametrize("volatility", ["VOLATILE", "STABLE"])
def test_live_takes_all_outputs_from_one_call(connect: Connect, database: Database, volatility: str) -> None:
    connection = connect()
    make_items(connection, 1)
    make_function(connection, volatility)
    outputs = {"p": "double precision", "label": "varchar(4)"}
    wanted = resolved(database, model={"sql": "predict"}, outputs=outputs, live=True)
    apply(database, wanted)
    assert apply(database, wanted) == []
    connection.execute("INSERT INTO items (id, a, b) VALUES (2, 2, 1), (3, 3, 1)")
    rows = connection.execute("SELECT id, p, label FROM items_scored ORDER BY id").fetchall()
    assert rows == [(1, None, None), (2, 3.0, "live"), (3, 4.0, "live")]
    assert calls(connection) == 2


def test_the_batch_size_is_passed_on(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection)
    connection.execute(
        """CREATE FUNCTION sized(a float8, b int, max_rows_per_batch int DEFAULT NULL) RETURNS int
           LANGUAGE sql AS $$ SELECT max_rows_per_batch $$"""
    )
    common: dict[str, Any] = {"model": {"sql": "sized"}, "live": True}
    apply(database, resolved(database, **common))
    connection.execute("INSERT INTO items (id, a, b) VALUES (1, 1, 1)")
    assert one(connection, "SELECT p FROM items_scored") is None
    apply(database, resolved(database, **common, max_rows_per_batch=7))
    assert one(connection, "SELECT p FROM items_scored") == 7
