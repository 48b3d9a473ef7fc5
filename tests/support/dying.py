"""A worker in a process of its own that kills itself at a chosen SQL statement, with the model that it calls."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import psycopg
from sqlalchemy import event

import sql
from tests.support.predictions import add_up, configuration, drain, opened
from worker import backfill
from worker.engine import Engine
from worker.models.protocol import Batch

BATCH = 2
POISON = -1.0

_children = multiprocessing.get_context("forkserver")
_children.set_forkserver_preload([__name__])
sql.load("postgresql")  # by the fork server, once for all children


def options(way: str) -> dict[str, Any]:
    """The configuration for one of the three ways that an answer takes: three batches of two rows."""
    model = {"python": "tests:none"} if way == "worker" else {"sql": "predict", "mode": way}
    return {"model": model, "max_rows_per_claim": BATCH, "where": "b > 0"}


def model_of(way: str, url: str) -> Callable[[Batch], Any] | None:
    """A model that counts the rows that are paid for where no rollback undoes it, and refuses poison."""
    if way != "worker":
        return None

    def score(batch: Batch) -> list[Any]:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SELECT nextval('calls') FROM generate_series(1, %s)", [len(batch)])
        return [
            ("poison",) if row[0] == POISON else add_up(Batch(batch.names, [row]))[0] for row in batch.rows
        ]

    return score


def run(engine: Engine, kind: str) -> None:
    """All there is to do."""
    if kind == "drain":
        drain(engine)
    else:
        backfill.work(engine, None, backfill.begin(engine), lambda *_: None, lambda _: None)


def die(url: str, way: str, kind: str, fatal: int, moment: str, counted: Any) -> None:
    """The child: statements are counted from the first one that the engine runs; none is fatal where `fatal` is 0."""
    numbers, lock = itertools.count(1), threading.Lock()

    class Deadly(psycopg.Cursor[Any]):
        def execute(self, *args: Any, **kwargs: Any) -> Any:
            with lock:
                counted.value = number = next(numbers)
            if number == fatal and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = super().execute(*args, **kwargs)
            if number == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

    with opened(configuration(url, **options(way)), model_of(way, url)) as engine:
        pool = engine.database(engine.prediction()).engine
        engine.materialisation(engine.prediction())  # what is only looked up is not worth dying for

        @event.listens_for(pool, "checkout")
        def arm(connection: Any, *_: Any) -> None:
            connection.cursor_factory = Deadly

        run(engine, kind)


def child(*arguments: Any) -> tuple[int, int]:
    """Exit code and statements of a child that may have died."""
    counted = _children.Value("i", 0)
    process = _children.Process(target=die, args=(*arguments, counted))
    process.start()
    process.join(30)
    assert process.exitcode is not None
    return process.exitcode, counted.value
