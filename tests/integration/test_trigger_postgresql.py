"""The staleness trigger where only PostgreSQL has such things: rights on a function, whole rows, partitions by name."""

from __future__ import annotations

from tests.conftest import Connect
from tests.integration.test_trigger import WRITE, state
from tests.support.applied import add_partition, make_items, partition_items, resolved
from tests.support.databases import one
from worker.apply import apply
from worker.database import Database


def test_an_expression_over_the_whole_row(connect: Connect, database: Database) -> None:
    items = connect()
    make_items(items, 1)
    items.execute("CREATE FUNCTION summary(items) RETURNS text LANGUAGE sql STABLE AS $$ SELECT $1.note $$")
    wanted = resolved(database, inputs=[{"name": "s", "sql": "summary(c) || a"}])
    apply(database, wanted)
    assert apply(database, wanted) == []
    assert state(items, "UPDATE items SET note = 'changed'") == 0


def test_roles_without_a_right_on_rowscores_schema(connect: Connect, database: Database) -> None:
    items = connect()
    make_items(items, 1)
    apply(database, resolved(database))
    items.execute(WRITE)
    role = one(items, "SELECT 'writer_' || current_database()")
    items.execute(f"CREATE ROLE {role}; GRANT SELECT, UPDATE ON items TO {role}")
    items.execute(
        "CREATE SCHEMA evil; "
        "CREATE FUNCTION evil.int2(integer) RETURNS smallint LANGUAGE sql AS 'SELECT 3::smallint'"
    )
    items.execute(
        f"GRANT USAGE ON SCHEMA evil TO {role}; SET ROLE {role}; SET search_path = evil, public, pg_catalog"
    )
    items.execute("UPDATE items SET a = 5")
    assert one(items, "SELECT churn_state FROM items") == 0
    items.execute(f"RESET ROLE; RESET search_path; DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def test_a_partition_that_is_written_to_itself_and_one_that_comes_later(
    connect: Connect, database: Database
) -> None:
    connection = connect()
    partition_items(connection)
    apply(database, resolved(database, inputs=["a"]))
    assert state(connection, 'UPDATE "items 2b" SET a = -2 WHERE id = 103', "id = 103") == 0
    add_partition(connection)
    connection.execute("INSERT INTO items (id, a, b) VALUES (200, 1, 1)")
    assert state(connection, "UPDATE items SET a = 2 WHERE id = 200", "id = 200") == 0
