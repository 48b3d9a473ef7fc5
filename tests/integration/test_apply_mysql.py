"""`apply` and `remove` where only MySQL and MariaDB are so: DDL commits by itself, servers copy, databases are many."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import make_url

import sql
from tests.conftest import Connect
from tests.support.applied import make_items, prediction, resolved
from tests.support.catalogue import catalogue
from tests.support.databases import INNODB, one, session
from tests.support.predictions import states
from worker.apply import apply, remove
from worker.changes import Change
from worker.database import Database
from worker.errors import DatabaseError, PrivilegeError, RefusedError
from worker.state import migrate, pending_migrations

CONFORMANCE = INNODB
VERSION = {"column": "model", "value": "it's"}


def test_the_columns_are_added_instantly(connect: Connect, database: Database) -> None:
    make_items(connect(), 20)
    made = apply(database, resolved(database))
    (columns,) = [change for change in made if change.title.startswith("add")]
    assert "ALGORITHM=INSTANT" in columns.sql


def statements_of(changes: list[Change]) -> Iterator[str]:
    """Each statement that a server runs by itself, as `apply` sends them; rows of one change are one transaction."""
    for change in changes:
        if change.transactional:
            yield change.script
            continue
        yield from (statement for text in change.statements for statement in text.split(";\n\n"))


def test_a_crash_between_any_two_statements_of_the_first_migrations_is_mended_by_the_next(
    connect: Connect, database: Database
) -> None:
    """A server that dies takes the session with it, and with the session what it locked."""
    connection = connect()
    make_items(connection)
    with database.transaction() as transaction:
        script = pending_migrations(transaction)
    migrate(database)
    whole = catalogue(connection)
    steps = [statement for statement in script.split(";\n\n") if statement.strip()]
    assert len(steps) > 10
    for stop in range(1, len(steps), 3):  # each is answered alike: what is there is dropped and made again
        connection.execute(sql.load("mysql")["drop_own_tables"].show())
        run_and_die(database.url.render_as_string(hide_password=False), steps[:stop])
        migrate(database)
        assert catalogue(connection) == whole, steps[stop]


def test_a_crash_between_any_two_statements_is_mended_by_the_next_run(
    connect: Connect, database: Database
) -> None:
    connection = connect()
    make_items(connection, 1)
    empty = catalogue(connection)
    wanted = resolved(database, version=VERSION)
    url = database.url.render_as_string(hide_password=False)
    apply(database, wanted)
    whole = catalogue(connection)
    undone = list(statements_of(remove(database, wanted, drop_outputs=True, dry_run=True)))
    for stop in range(len(undone)):
        run_and_die(url, undone[:stop])
        remove(database, wanted, drop_outputs=True)
        assert catalogue(connection) == empty
        apply(database, wanted)
    remove(database, wanted, drop_outputs=True)
    migrate(database)
    steps = list(statements_of(apply(database, wanted, dry_run=True)))
    for stop in range(1, len(steps)):
        run_and_die(url, steps[:stop])
        apply(database, wanted)
        assert catalogue(connection) == whole
        remove(database, wanted, drop_outputs=True)
        assert catalogue(connection) == empty
        migrate(database)


def run_and_die(url: str, statements: list[str]) -> None:
    """A session that runs the statements and ends."""
    with session(url) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.execute("UNLOCK TABLES")  # as the end of the session does, but now


def test_a_default_that_a_crash_left_is_mended(
    connect: Connect, database: Database, database_url: str
) -> None:
    connection = connect()
    make_items(connection, 1)
    wanted = resolved(database)
    (columns,) = [c for c in apply(database, wanted, dry_run=True) if c.title.startswith("add")]
    run_and_die(database_url, list(columns.statements[:2]))
    connection.execute("INSERT INTO items (id) VALUES (2)")
    titles = [change.title for change in apply(database, wanted)]
    assert any(title.startswith("let new rows wait") for title in titles)
    connection.execute("INSERT INTO items (id) VALUES (3)")
    assert states(connection) == {4: 2, 0: 1}


def test_a_copy_of_the_table_is_refused_unless_asked_for(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 3)
    connection.execute("ALTER TABLE items ADD FULLTEXT KEY (note)")
    wanted = resolved(database)
    with pytest.raises(RefusedError, match="--allow-copy"):
        apply(database, wanted)
    connection.execute("INSERT INTO items (id) VALUES (7)")  # no lock is left
    apply(database, wanted, allow_copy=True)
    connection.execute("INSERT INTO items (id) VALUES (8)")
    assert states(connection) == {4: 4, 0: 1}
    assert apply(database, wanted) == []


def test_privileges_that_are_missing_are_named_before_anything_is_done(
    connect: Connect, database_url: str
) -> None:
    connection = connect()
    make_items(connection, 1)
    before = catalogue(connection)
    name = make_url(database_url).database
    user = f"u_{name}"[:32]
    connection.execute(f"CREATE USER {user}@'%' IDENTIFIED BY 'secret'")
    connection.execute(f"GRANT SELECT, INSERT, UPDATE ON {name}.* TO {user}@'%'")
    limited = Database(
        make_url(database_url).set(username=user, password="secret").render_as_string(hide_password=False)
    )
    try:
        wanted = resolved(limited)
        with pytest.raises(PrivilegeError) as caught:
            apply(limited, wanted)
        assert catalogue(connection) == before
        grants = str(caught.value).split("needed: ")[1].split("; ")
        assert any("TRIGGER" in grant and f"`{name}`.`items`" in grant for grant in grants)
        for grant in grants:
            connection.execute(grant)
        limited.dispose()  # a session asks for its database's privileges when it begins
        apply(limited, wanted)
        assert apply(limited, wanted) == []
    finally:
        limited.dispose()
        connection.execute(f"DROP USER {user}@'%'")


def test_marks_in_other_databases_are_not_this_ones(
    connect: Connect, database: Database, database_url: str
) -> None:
    connection = connect()
    name = make_url(database_url).database
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    connection.execute(f"CREATE DATABASE {name}_copy")
    copy = Database(make_url(database_url).set(database=f"{name}_copy").render_as_string(hide_password=False))
    try:
        connection.execute(f"CREATE TABLE {name}_copy.items (id bigint PRIMARY KEY, a double, b int)")
        apply(copy, resolved(copy))
        before = catalogue(connection)
        assert apply(database, wanted) == []
        remove(copy, prediction(), drop_outputs=True)
        assert catalogue(connection) == before
    finally:
        copy.dispose()
        connection.execute(f"DROP DATABASE {name}_copy")


def test_tables_that_lost_their_version_are_not_made_anew(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    connection.execute("DELETE FROM rowscore_alembic_version")
    with pytest.raises(RefusedError, match="restore"):
        apply(database, wanted)
    assert one(connection, "SELECT COUNT(*) FROM rowscore_prediction") == 1


@pytest.mark.parametrize("kind", ["RANGE (id)", "KEY (id) PARTITIONS 4"])
def test_partitioned_tables(connect: Connect, database: Database, kind: str) -> None:
    connection = connect()
    parts = "(PARTITION p0 VALUES LESS THAN (100), PARTITION p1 VALUES LESS THAN MAXVALUE)"
    connection.execute(
        "CREATE TABLE items (id bigint, a double, b int, note varchar(10), PRIMARY KEY (id, b)) "
        f"PARTITION BY {kind} {parts if kind.startswith('RANGE') else ''}"
    )
    connection.execute("INSERT INTO items VALUES (1, 1, 1, 'x'), (150, 1, 1, 'x')")
    wanted = resolved(database)
    apply(database, wanted)
    assert apply(database, wanted) == []
    connection.execute("INSERT INTO items (id, a, b) VALUES (2, 1, 1)")
    connection.execute("UPDATE items SET a = 7 WHERE id = 150")
    assert states(connection) == {0: 2, 4: 1}
    with pytest.raises(RefusedError, match="part of the key"):
        apply(database, resolved(database, inputs=["a"], outputs={"b": "int"}))


def test_a_generated_column_upon_an_output_keeps_it_from_being_removed(
    connect: Connect, database: Database
) -> None:
    connection = connect()
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    connection.execute("ALTER TABLE items ADD COLUMN sure boolean AS (p > 0.9)")
    with pytest.raises(DatabaseError, match=r"(?i)generated"):
        remove(database, wanted, drop_outputs=True)
    connection.execute("ALTER TABLE items DROP COLUMN sure")
    remove(database, wanted, drop_outputs=True)
