"""`apply` while others are at work: locks, inserts, another apply, an index build that is cancelled."""

from __future__ import annotations

import threading

import pytest

from tests.conftest import Connect
from tests.support.applied import HURRIED, STEADY, make_items, one, resolved
from worker.apply import apply
from worker.changes import Change
from worker.database import Database
from worker.errors import LockTimeoutError


def test_a_lock_that_is_never_granted_names_its_holder(connect: Connect, database: Database) -> None:
    connection, holder = connect(), connect()
    make_items(connection, 1)
    wanted = resolved(database)
    waits: list[str] = []
    with holder.transaction():
        holder.execute("SELECT count(*) FROM items")
        with pytest.raises(LockTimeoutError) as caught:
            apply(database, wanted, patience=HURRIED, on_wait=waits.append)
    assert f"session {holder.info.backend_pid} " in str(caught.value)
    assert "SELECT count(*) FROM items" in str(caught.value)
    assert len(waits) == HURRIED.attempts - 1
    assert apply(database, wanted)
    assert apply(database, wanted) == []


def test_a_lock_that_is_released_lets_apply_go_on(connect: Connect, database: Database) -> None:
    connection, holder = connect(), connect(autocommit=False)
    make_items(connection, 1)
    wanted = resolved(database)
    holder.execute("LOCK TABLE items IN ACCESS SHARE MODE")
    waits: list[str] = []

    def release(message: str) -> None:
        waits.append(message)
        holder.rollback()

    apply(database, wanted, patience=STEADY, on_wait=release)
    assert str(holder.info.backend_pid) in waits[0]
    assert apply(database, wanted) == []


def test_only_one_apply_at_a_time(connect: Connect, database: Database) -> None:
    connection, other = connect(), connect(autocommit=False)
    make_items(connection, 1)
    wanted = resolved(database)
    other.execute("SELECT pg_advisory_xact_lock(7599103, 0)")
    with pytest.raises(LockTimeoutError, match=f"session {other.info.backend_pid} "):
        apply(database, wanted, patience=HURRIED)
    other.rollback()
    apply(database, wanted)


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
    later = [1000 + number for number in range(added[0], len(inserted))]
    assert later
    query = "SELECT count(*) FROM items WHERE id = ANY(%s) AND churn_state = 0"
    assert one(connection, query, [later]) == len(later)
    assert one(connection, "SELECT count(*) FROM items WHERE churn_state NOT IN (0, 4)") == 0
    assert one(connection, "SELECT min(id) FROM items WHERE churn_state = 0") > one(
        connection, "SELECT max(id) FROM items WHERE churn_state = 4"
    )


def test_a_cancelled_index_build_is_taken_up_again(connect: Connect, database: Database) -> None:
    connection, holder = connect(), connect(autocommit=False)
    make_items(connection, 10)
    wanted = resolved(database)
    name = one(connection, "SELECT current_database()")
    connection.execute(f"ALTER DATABASE {name} SET lock_timeout = '50ms'")  # as a careful DBA might
    fresh = Database(str(database.url.render_as_string(hide_password=False)))
    waits: list[str] = []

    def hold(change: Change) -> None:
        if change.title.startswith("build") and not waits:
            holder.execute("INSERT INTO items (id) VALUES (77)")

    def release(message: str) -> None:
        waits.append(message)
        holder.commit()

    titles = [
        c.title.split()[0] for c in apply(fresh, wanted, patience=STEADY, on_change=hold, on_wait=release)
    ]
    fresh.dispose()
    assert waits
    assert titles.count("drop") == 1  # the INVALID one
    assert apply(database, wanted) == []
    assert one(
        connection, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'rowscore_churn_pending'::regclass"
    )
