"""Runs over rows that were there before give way to sessions of others that work; fresh rows wait for nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.accounts import Account
from tests.support.databases import Session, is_postgresql, one, session
from tests.support.deadlines import eventually
from tests.support.predictions import add_items, applied, configuration, make_items, opened
from tests.support.throttling import Stop, look_anew
from worker import backfill
from worker.batch import BatchResult
from worker.database import Database
from worker.drain import Drain, Summary
from worker.engine import Engine
from worker.errors import DatabaseError
from worker.limits import LONGEST_YIELD, OTHERS_FOR
from worker.states import RunKind
from worker.throttle import Watch

CONFORMANCE = True


@pytest.fixture
def application(connect: Connect) -> Session:
    """The application's session; the table items is empty."""
    found = connect()
    make_items(found)
    return found


@contextmanager
def computing(administrator: Session, execute: Callable[[str], Any], number: int) -> Iterator[None]:
    """The session of that number keeps a processor busy while the block runs."""
    work, end = "SELECT BENCHMARK(100000000000, SQRT(2))", f"KILL QUERY {number}"
    if is_postgresql(administrator):
        work = "SELECT sum(i) FROM (SELECT generate_series(1, 100000000000) AS i) AS numbers"
        end = f"SELECT pg_cancel_backend({number})"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(execute, work)

        def ended() -> bool:
            administrator.execute(end)
            return running.done()

        try:
            yield
        finally:
            eventually(ended, "the statement has ended")


def number_of(connection: Session) -> str:
    """What a session asks for its own number."""
    return "SELECT pg_backend_pid()" if is_postgresql(connection) else "SELECT CONNECTION_ID()"


def let_in(administrator: Session, account: Account) -> None:
    """On MySQL nobody may enter a database without a privilege."""
    if not is_postgresql(administrator):
        database = one(administrator, "SELECT DATABASE()")
        administrator.execute(f"GRANT SELECT ON `{database}`.* TO {account.quoted}")


@contextmanager
def an_application_computes(administrator: Session, account: Account) -> Iterator[None]:
    """An application of another account."""
    let_in(administrator, account)
    with session(account.url) as busy:
        number = one(busy, number_of(administrator))
        with computing(administrator, busy.execute, number):
            yield


def watch_of(engine: Engine) -> Watch:
    return engine.watch(engine.prediction())


def test_sessions_of_others_that_work_are_counted_and_none_of_ours(
    database_url: str, application: Session, connect: Connect, account: Account
) -> None:
    idle = connect(autocommit=False)
    idle.execute("SELECT count(*) FROM items")
    with opened(configuration(database_url)) as engine:
        others = watch_of(engine).signals.others
        with an_application_computes(application, account):
            eventually(lambda: others() == 1, "the application works")
        eventually(lambda: others() == 0, "nobody works")
        another = Database(database_url)
        with suppress(DatabaseError), another.transaction() as transaction:
            number = transaction.value(number_of(application))
            with computing(application, transaction.value, number):
                running = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
                if not is_postgresql(application):
                    running = "SELECT count(*) FROM information_schema.processlist WHERE id = %s AND command = 'Query'"
                eventually(lambda: one(application, running, [number]) == 1, "another worker computes")
                assert others() == 0
        another.dispose()


def test_a_role_that_may_not_see_what_others_do_sees_that_they_work(
    application: Session, account: Account, connect: Connect
) -> None:
    """On PostgreSQL; MySQL hides such sessions altogether, and nothing fails."""
    busy = connect()
    with opened(configuration(account.url)) as engine:
        let_in(application, account)
        others = watch_of(engine).signals.others
        eventually(lambda: others() == 0, "nobody works")
        with computing(application, busy.execute, one(busy, number_of(application))):
            if is_postgresql(application):
                eventually(lambda: others() == 1, "the application works")
            assert others() is not None


def test_a_backfill_rests_for_an_application_that_works_and_a_drain_does_not(
    database_url: str, application: Session, account: Account
) -> None:
    add_items(application, 40)
    config = configuration(database_url, max_rows_per_claim=10)
    with opened(config) as engine:
        applied(engine)
        engine.stop = Stop()
        watch = watch_of(engine)
        with an_application_computes(application, account):
            eventually(lambda: watch.signals.others() == 1, "the application works")
            run = backfill.begin(engine)
            seconds: list[float] = []
            backfill.work(
                engine, None, run, lambda _, result: seconds.append(result.database_seconds), lambda _: None
            )
            assert len(seconds) >= 4
            assert watch.rest(RunKind.BACKFILL) == 1.0
            assert [wait for wait in engine.stop.waits if wait in seconds] == seconds
            assert watch.rest(RunKind.DRAIN) == 0.0
        engine.stop.waits.clear()
        seconds.clear()
        add_items(application, 10)

        def told(_: Summary, result: BatchResult) -> None:
            seconds.append(result.database_seconds)

        watch._others.clear()
        look_anew(engine)
        Drain(engine, seconds=60.0, progress=told).run()
        assert seconds
        assert not watch._others, "nobody was asked"
        assert not set(engine.stop.waits) & set(seconds)


def test_it_goes_on_at_full_speed_when_the_application_is_done(
    database_url: str, application: Session, account: Account
) -> None:
    with opened(configuration(database_url)) as engine:
        applied(engine)
        watch, m = watch_of(engine), engine.materialisation(engine.prediction())
        with an_application_computes(application, account):
            eventually(lambda: watch.signals.others() == 1, "the application works")
            watch.check(m, RunKind.RESCORE)
            assert watch.rest(RunKind.RESCORE) == 1.0
        eventually(lambda: watch.signals.others() == 0, "nobody works")
        rests = []
        for _ in range(OTHERS_FOR):
            look_anew(engine)
            watch.check(m, RunKind.RESCORE)
            rests.append(watch.rest(RunKind.RESCORE))
        assert rests == [1.0] * (OTHERS_FOR - 1) + [0.0]


@pytest.mark.usefixtures("application")
@pytest.mark.parametrize("nice", [0, 0.5])
def test_a_file_that_says_how_nice_asks_nobody(database_url: str, nice: float) -> None:
    with opened(configuration(database_url, throttle={"nice": nice})) as engine:
        applied(engine)
        watch = watch_of(engine)
        watch._others.append(LONGEST_YIELD)
        watch.check(engine.materialisation(engine.prediction()), RunKind.BACKFILL)
        assert len(watch._others) == 1
        assert watch.rest(RunKind.BACKFILL) == watch.rest(RunKind.DRAIN) == nice
