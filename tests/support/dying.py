"""Workers in processes of their own: one that kills itself at a chosen SQL statement, one that only leases."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pymysql
from sqlalchemy import event

from tests.support.children import children
from tests.support.databases import session
from tests.support.predictions import add_calls, add_up, configuration, drain, opened
from worker import backfill
from worker.apply import switch
from worker.engine import Engine
from worker.leases import Lease, Leases
from worker.models.protocol import Batch
from worker.options import Options
from worker.states import RunKind
from worker.switches import Direction

BATCH = 2
POISON = -1.0


def options(way: str) -> dict[str, Any]:
    """The configuration for one of the three ways that an answer takes: three batches of two rows."""
    model = {"python": "tests:none"} if way == "worker" else {"sql": "predict", "mode": way}
    return {"model": model, "max_rows_per_claim": BATCH, "where": "b > 0"}


def model_of(way: str, url: str) -> Callable[[Batch], Any] | None:
    """A model that counts the rows that are paid for where no rollback undoes it, and refuses poison."""
    if way != "worker":
        return None

    def score(batch: Batch) -> list[Any]:
        with session(url) as connection:
            add_calls(connection, len(batch))
        return [
            ("poison",) if row[0] == POISON else add_up(Batch(batch.names, [row]))[0] for row in batch.rows
        ]

    return score


def run(engine: Engine, kind: str) -> None:
    """All there is to do."""
    if kind == "drain":
        drain(engine)
        return
    options = Options(older_than="1d") if kind == "rescore" else None
    begun = backfill.begin(engine, None, options, RunKind(kind))
    backfill.work(engine, None, begun, lambda *_: None, lambda _: None)


def arm(pool: Any, fatal: int, moment: str, counted: Any) -> None:
    """Count the statements that the pool's connections run from now on; the fatal one kills this process."""
    numbers, lock = itertools.count(1), threading.Lock()

    class Deadly:
        def execute(self, *args: Any, **kwargs: Any) -> Any:
            with lock:
                counted.value = number = next(numbers)
            if number == fatal and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = super().execute(*args, **kwargs)  # type: ignore[misc]
            if number == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

    of_postgresql = type("OfPostgresql", (Deadly, psycopg.Cursor), {})
    of_mysql = type("OfMysql", (Deadly, pymysql.cursors.Cursor), {})

    @event.listens_for(pool, "checkout")
    def give(connection: Any, *_: Any) -> None:
        connection.cursor_factory = of_postgresql  # whichever the driver knows
        connection.cursorclass = of_mysql


def die(url: str, way: str, kind: str, fatal: int, moment: str, counted: Any) -> None:
    """The child: statements are counted from the first one that the engine runs; none is fatal where `fatal` is 0."""
    with opened(configuration(url, **options(way)), model_of(way, url)) as engine:
        pool = engine.database(engine.prediction()).engine
        engine.materialisation(engine.prediction())  # what is only looked up is not worth dying for
        arm(pool, fatal, moment, counted)
        run(engine, kind)


def die_switching(
    url: str, section: dict[str, Any], direction: str, fatal: int, moment: str, counted: Any
) -> None:
    """The child: lets a prediction and its shadow change places, after the plan was made once."""
    with opened(configuration(url, **section)) as engine:
        database, pair = engine.database(engine.prediction()), engine.configuration.pair()
        switch(database, pair, Direction(direction), dry_run=True, allow_missing=True)
        arm(database.engine, fatal, moment, counted)
        switch(database, pair, Direction(direction), allow_missing=True)


def child(*arguments: Any, work: Callable[..., None] = die) -> tuple[int, int]:
    """Exit code and statements of a child that may have died at its work."""
    counted = children.Value("i", 0)
    process = children.Process(target=work, args=(*arguments, counted))
    process.start()
    process.join(30)
    assert process.exitcode is not None
    return process.exitcode, counted.value


def lease_all(url: str, owner: str, begin: Any, found: Any) -> None:
    """A process of its own: leases windows until there are none, ends none, and tells which it had."""
    with opened(configuration(url, workers=8)) as engine:
        prediction = engine.prediction()
        leases = Leases(engine.database(prediction), engine.materialisation(prediction), owner)
        begin.wait()
        mine = []
        while isinstance(lease := leases.acquire(RunKind.DRAIN, 10), Lease):
            mine.append((int(lease.window.lo[0]), int(lease.window.hi[0]), lease.rows))
        found.put(mine)
