"""Two that end a backfill at the same moment, each with a connection of its own and ordered by what the server says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from tests.conftest import Connect
from tests.integration.test_backfill import SCORED, status
from tests.integration.test_backfill_options import leases_of
from tests.support.databases import waiting_sessions
from tests.support.deadlines import eventually
from tests.support.predictions import applied, calls, configuration, make_items, opened, states
from worker import backfill
from worker.engine import Engine
from worker.leases import Idle
from worker.states import RunKind, RunStatus

CONFORMANCE = True


class Stop:
    """Where a session waits until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.released = threading.Event()


@contextmanager
def stopped_before(engine: Engine, words: str) -> Iterator[Stop]:
    """The engine's next statement with these words waits, in its transaction and with its locks."""
    stop = Stop()
    pool = engine.database(engine.prediction()).engine

    def wait(*arguments: Any) -> None:
        if words in arguments[2] and not stop.reached.is_set():
            stop.reached.set()
            assert stop.released.wait(30), "the test never let the session go on"

    event.listen(pool, "before_cursor_execute", wait)
    try:
        yield stop
    finally:
        stop.released.set()
        event.remove(pool, "before_cursor_execute", wait)


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_that_find_nothing_left_at_once_finish_it_once(
    database_url: str, connect: Connect, workers: int
) -> None:
    """The first has the run locked and is about to say so when the others want to."""
    application = connect()
    make_items(application, 60)
    config = configuration(database_url, max_rows_per_claim=20, backfill_workers=workers)
    with opened(config) as one, opened(config) as two, ThreadPoolExecutor(workers) as pool:
        applied(one)
        run = backfill.begin(one)
        assert backfill.drain_of(one, None, run, seconds=60.0).run().empty
        assert backfill.drain_of(two, None, run, seconds=60.0).run().empty, "both look, and nothing is left"
        with stopped_before(one, "SET status") as stop:
            first = pool.submit(backfill.finish, one, None, run)
            assert stop.reached.wait(30)
            others = [pool.submit(backfill.finish, two, None, run) for _ in range(workers - 1)]
            eventually(lambda: waiting_sessions(application) == workers - 1, "the others at the run's lock")
            stop.released.set()
            assert [ending.result(30) for ending in (first, *others)] == [None] * workers
        assert status(application) == [("finished", 60, 60, 0, 0)]
        assert isinstance(leases_of(two, run, "late").acquire(RunKind.BACKFILL, 10), Idle)
        assert backfill.begin(two).id != run.id, "it is over: the next call begins another"
    assert states(application) == {SCORED: 60}
    assert calls(application) == 60


@pytest.mark.parametrize("after", [RunStatus.CANCELLED, RunStatus.PAUSED])
def test_a_word_from_another_terminal_and_the_end_do_not_undo_each_other(
    database_url: str, connect: Connect, after: RunStatus
) -> None:
    """Whichever has the run first; the end leaves a run alone that is cancelled or paused."""
    application = connect()
    make_items(application, 20)
    config = configuration(database_url)
    with opened(config) as one, opened(config) as two, ThreadPoolExecutor(2) as pool:
        applied(one)
        run = backfill.begin(one)
        assert backfill.drain_of(one, None, run, seconds=60.0).run().empty
        with stopped_before(two, "SET status") as stop:
            word = pool.submit(backfill.change, two, None, after)
            assert stop.reached.wait(30)
            ending = pool.submit(backfill.finish, one, None, run)
            eventually(lambda: waiting_sessions(application) == 1, "the end at the run's lock")
            stop.released.set()
            assert word.result(30).status is after
            assert ending.result(30) is None
        assert backfill.read(one, None, run).status is after
        assert status(application) == [(after.value, 20, 20, 0, 0)]
