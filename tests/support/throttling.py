"""Work that is held up, and work that goes on: what each leaves in the database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.databases import Session, is_postgresql, one, own
from tests.support.predictions import (
    applied,
    configuration,
    drain,
    make_items,
    opened,
    states,
)
from worker.drain import Summary
from worker.engine import Engine

PYTHON = {"python": "tests:none"}


class Stop(threading.Event):
    """An event that notes for how long it is waited for, and lets nobody wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return self.is_set()


def gated(connection: Session) -> Session:
    """The table items is empty, and so is the table gate, which a query may ask."""
    make_items(connection)
    connection.execute("CREATE TABLE gate (reason text)")
    return connection


@contextmanager
def limited(url: str, model: Any = None, **limits: Any) -> Iterator[Engine]:
    """An engine with these limits, over ten rows that wait."""
    options = {"model": PYTHON} if model is not None else {}
    with opened(configuration(url, throttle=limits, max_rows_per_claim=10, **options), model) as engine:
        applied(engine)
        yield engine


def leases(connection: Session) -> int:
    """Windows that somebody may score now."""
    now = "clock_timestamp()" if is_postgresql(connection) else "UTC_TIMESTAMP(6)"
    return int(one(connection, f"SELECT count(*) FROM {own(connection, 'lease')} WHERE expires_at > {now}"))


def record(connection: Session) -> Any:
    """What is on record: signal, reason and when it began."""
    return connection.execute(f"SELECT kind, reason, since FROM {own(connection, 'throttle')}").fetchone()


def look_anew(engine: Engine) -> None:
    """The next check asks the servers, as it would a second later."""
    engine.watch(engine.prediction())._looked = None


def held(engine: Engine, connection: Session) -> Summary:
    """A drain that finds the work held up: nothing is leased, scored or charged."""
    look_anew(engine)
    before = states(connection)
    summary = drain(engine)
    assert summary.throttled, summary
    assert (summary.batches, summary.calls, summary.fault, summary.empty) == (0, 0, None, False)
    assert summary.retry_after is not None
    assert summary.retry_after > 0
    assert states(connection) == before
    assert leases(connection) == 0
    assert one(connection, f"SELECT count(*) FROM {own(connection, 'failure')}") == 0
    return summary


def scores(engine: Engine, rows: int) -> None:
    """A drain that finds nothing in its way."""
    look_anew(engine)
    summary = drain(engine)
    assert (summary.scored, summary.throttled) == (rows, False), summary
