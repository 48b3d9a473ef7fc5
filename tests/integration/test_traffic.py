"""An application beside two drains: it meets no deadlock, waits for nobody long, and the last state is right."""

from __future__ import annotations

import os
import queue
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pymysql
import pytest

from tests.conftest import Connect
from tests.support.databases import Session, is_postgresql, one, session
from tests.support.mysql import URL
from tests.support.predictions import (
    add_items,
    add_up,
    applied,
    configuration,
    drain,
    make_items,
    opened,
    states,
)
from worker.engine import Engine
from worker.states import RowState

SECONDS = float(os.environ.get("ROWSCORE_TEST_TRAFFIC_SECONDS", "3"))
THREADS = int(os.environ.get("ROWSCORE_TEST_TRAFFIC_CLIENTS", "10"))
CONFORMANCE = True
STATEMENTS = [
    "UPDATE items SET a = {number} WHERE id IN ({ids})",
    "UPDATE items SET note = 'no input' WHERE id IN ({ids})",
    "UPDATE items SET b = b + 1 WHERE id IN ({ids})",
    "DELETE FROM items WHERE id = {id}",
    "INSERT INTO items (a, b) VALUES ({number}, 1), ({number}, 2), ({number}, 3), ({number}, 4), ({number}, 5)",
]
Counts = dict[str, Any]


def live(url: str, seed: int, stop: threading.Event) -> Counts:
    """One thread of the application: transactions over a few rows each, one after the other, until it is stopped.

    So that two of its own threads cannot deadlock each locks its rows first in one order: downwards, for a batch's
    rows are locked upwards.
    """
    chance = random.Random(seed)
    counts: Counts = {"transactions": 0, "deadlocks": 0, "longest": 0.0}
    with session(url, autocommit=False) as connection:
        while not stop.is_set():
            ids = sorted(chance.sample(range(1, 3000), 4), reverse=True)
            started = time.monotonic()
            try:
                for key in ids:
                    connection.execute("SELECT id FROM items WHERE id = %s FOR UPDATE", [key])
                listed = ", ".join(map(str, ids))
                statement = chance.choice(STATEMENTS)
                connection.execute(statement.format(number=chance.random(), ids=listed, id=ids[0]))
                connection.commit()
            except (psycopg.Error, pymysql.Error) as error:
                connection.rollback()
                if not is_deadlock(error):
                    raise
                counts["deadlocks"] += 1
            counts["transactions"] += 1
            counts["longest"] = max(counts["longest"], time.monotonic() - started)
    return counts


def is_deadlock(error: Exception) -> bool:
    """Whether this session was the victim of one."""
    return isinstance(error, psycopg.errors.DeadlockDetected) or 1213 in error.args


def deadlocks(connection: Session) -> int:
    """How many the server has met, whoever was the victim; PostgreSQL counts those of the database."""
    if is_postgresql(connection):
        return int(
            one(connection, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        )
    return int(
        one(connection, "SELECT `count` FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'")
    )


def last_deadlock(connection: Session) -> str:
    """What the server noted of it: the statements, and the locks that they held and waited for."""
    if is_postgresql(connection):
        return "see the server's log"
    status = str((connection.execute("SHOW ENGINE INNODB STATUS").fetchone() or ("", "", ""))[2])
    return status.partition("LATEST DETECTED DEADLOCK")[2].partition("\nTRANSACTIONS\n")[0]


def score(engine: Engine, scored: queue.Queue[int], stop: threading.Event) -> None:
    """Drain after drain, as ticks would start them; each says how many rows it scored."""
    while not stop.is_set():
        scored.put(drain(engine, seconds=0.5).scored)
        stop.wait(0.02)


@pytest.mark.parametrize("way", ["update", "select", "worker"])
def test_an_application_beside_two_drains(database_url: str, connect: Connect, way: str) -> None:
    application = connect()
    make_items(application)
    model = {"python": "tests:none"} if way == "worker" else {"sql": "predict", "mode": way}
    double = add_up if way == "worker" else None
    config = configuration(database_url, model=model, max_rows_per_claim=400)
    stop = threading.Event()
    seconds = SECONDS if way == "update" else SECONDS / 2
    with (
        opened(config, double) as one,
        opened(config, double) as two,
        ThreadPoolExecutor(THREADS + 2) as pool,
    ):
        applied(one)
        add_items(application, 3000)
        before = deadlocks(application)
        scored: queue.Queue[int] = queue.Queue()
        drains = [pool.submit(score, engine, scored, stop) for engine in (one, two)]
        threads = [pool.submit(live, database_url, seed, stop) for seed in range(THREADS)]
        until, rows = time.monotonic() + seconds, 0
        try:
            # Beside the application, however fast the machine is: as many rows as there were, and some again.
            while rows <= 3000 or time.monotonic() < until:
                rows += scored.get(timeout=60)
        finally:
            stop.set()
        counts = [running.result() for running in threads]
        for running in drains:
            running.result()
        drain(one)
        drain(one)
    # The application's threads lock their rows in one order, so each cycle has a session of rowscore's in it.
    assert sum(count["deadlocks"] for count in counts) == 0, last_deadlock(application)
    if URL not in os.environ:  # else other test processes have theirs on the same server
        assert deadlocks(application) == before, last_deadlock(application)
    assert min(count["transactions"] for count in counts) > 0
    assert max(count["longest"] for count in counts) < 10.0, (
        "seconds; a batch holds its rows for milliseconds"
    )
    assert set(states(application)) == {RowState.SCORED.value}
    stale = application.execute("SELECT count(*) FROM items WHERE p <> a + b OR p IS NULL").fetchone()
    assert stale == (0,)
