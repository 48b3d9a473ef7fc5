"""`apply` while others are at work: locks, inserts, another apply."""

from __future__ import annotations

import threading

import pytest

from tests.conftest import Connect
from tests.support.applied import HURRIED, STEADY, make_items, resolved
from tests.support.databases import is_postgresql, one, session_number
from worker.apply import apply
from worker.changes import Change
from worker.database import Database
from worker.errors import LockTimeoutError

CONFORMANCE = True


def test_a_lock_that_is_never_granted_names_its_holder(connect: Connect, database: Database) -> None:
    connection, holder = connect(), connect(autocommit=False)
    make_items(connection, 1)
    wanted = resolved(database)
    waits: list[str] = []
    number = session_number(holder)
    holder.execute("SELECT count(*) FROM items")
    with pytest.raises(LockTimeoutError) as caught:
        apply(database, wanted, patience=HURRIED, on_wait=waits.append)
    assert f"session {number} " in str(caught.value)
    if is_postgresql(connection):  # which keeps the text of a statement that has ended
        assert "SELECT count(*) FROM items" in str(caught.value)
    assert len(waits) == HURRIED.attempts - 1
    connection.execute("INSERT INTO items (id) VALUES (2)")  # what the attempts locked is given back
    holder.rollback()
    assert apply(database, wanted)
    assert apply(database, wanted) == []


def test_a_lock_that_is_released_lets_apply_go_on(connect: Connect, database: Database) -> None:
    connection, holder = connect(), connect(autocommit=False)
    make_items(connection, 1)
    wanted = resolved(database)
    number = session_number(holder)
    holder.execute("SELECT count(*) FROM items")
    waits: list[str] = []

    def release(message: str) -> None:
        waits.append(message)
        holder.rollback()

    apply(database, wanted, patience=STEADY, on_wait=release)
    assert str(number) in waits[0]
    assert apply(database, wanted) == []


def test_only_one_apply_at_a_time(connect: Connect, database: Database) -> None:
    connection, other = connect(), connect()
    make_items(connection, 1)
    wanted = resolved(database)
    own_lock = "CONCAT('rowscore.', LEFT(SHA2(DATABASE(), 256), 48))"
    other.execute(
        "SELECT pg_advisory_lock(7599103, 0)" if is_postgresql(other) else f"SELECT GET_LOCK({own_lock}, 0)"
    )
    with pytest.raises(LockTimeoutError, match=f"session {session_number(other)} "):
        apply(database, wanted, patience=HURRIED)
    other.close()
    apply(database, wanted, patience=STEADY)


def test_two_at_once_end_with_one_result(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 10)
    wanted = resolved(database)
    start = threading.Barrier(2)
    results: list[int] = []

    def run() -> None:
        start.wait()
        results.append(len(apply(database, wanted, patience=STEADY)))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, 6]


def test_rows_inserted_meanwhile_are_pending_or_existing_and_none_is_lost(
    connect: Connect, database: Database
) -> None:
    connection = connect()
    make_items(connection, 50)
    wanted = resolved(database)
    begun, done = threading.Event(), threading.Event()
    inserted: list[int] = []

    def insert() -> None:
        writer = connect()
        while not done.is_set():
            number = 1000 + len(inserted)
            writer.execute("INSERT INTO items (id, a, b) VALUES (%s, 1, 1)", [number])
            inserted.append(number)
            begun.set()

    writer = threading.Thread(target=insert)
    writer.start()
    assert begun.wait(30)
    added: list[int] = []

    def note(change: Change) -> None:
        if change.title.startswith("build"):  # the columns are there: all rows from now on are pending
            added.append(len(inserted) + 1)

    apply(database, wanted, patience=STEADY, on_change=note)
    for _ in range(2):  # the first insert that ends may have begun before
        begun.clear()
        assert begun.wait(30)
    done.set()
    writer.join()
    assert one(connection, "SELECT count(*) FROM items") == 50 + len(inserted)
    assert len(inserted) > added[0]
    waiting = f"SELECT count(*) FROM items WHERE id >= {1000 + added[0]} AND churn_state = 0"
    assert one(connection, waiting) == len(inserted) - added[0]
    assert one(connection, "SELECT count(*) FROM items WHERE churn_state NOT IN (0, 4)") == 0
    assert one(connection, "SELECT min(id) FROM items WHERE churn_state = 0") > one(
        connection, "SELECT max(id) FROM items WHERE churn_state = 4"
    )
