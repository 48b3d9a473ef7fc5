"""Batches that overlap: the model is asked about the next one while one is written, and each keeps its promises."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.databases import one, own
from tests.support.predictions import add_items, applied, configuration, make_items, opened, states
from tests.support.scorer import Scorer
from worker import batch
from worker.apply import apply
from worker.config import Configuration
from worker.drain import Drain
from worker.states import RowState

CONFORMANCE = True
CLAIM, CALL = 20, 5
WAIT = 30.0


class Places(Scorer):
    """Counts how many calls are inside at once, and tells when an id is asked about.

    Attributes:
        most: calls inside at once.
        seen: an event for each id of interest.
        refused: from the first call with one of these ids on, every call fails.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most = self.inside = 0
        self.seen: dict[int, threading.Event] = {}
        self.refused: set[int] = set()
        self.refuses = False
        self.lock = threading.Lock()

    def _answer(self, body: str) -> str:
        ids = {int(line.split(",")[0]) for line in body.splitlines()}
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.refuses = self.refuses or bool(ids & self.refused)
        for number in ids & set(self.seen):
            self.seen[number].set()
        try:
            return "" if self.refuses else super()._answer(body)
        finally:
            with self.lock:
                self.inside -= 1


@pytest.fixture
def places() -> Iterator[Places]:
    with Places() as scorer:
        yield scorer


def overlapping(url: str, scorer: Scorer, **options: Any) -> Configuration:
    section = {
        "inputs": ["id", "a", "b"],
        "model": {"http": scorer.url, "attempts": 1},
        "max_rows_per_claim": CLAIM,
        "max_rows_per_batch": CALL,
        "concurrency": 2,
    }
    return configuration(url, **{**section, **options})


class Held:
    """Holds the writes from so many batches on, until the test lets them go on."""

    def __init__(self, drain: Drain, windows: int) -> None:
        self.entered, self.released = threading.Event(), threading.Event()
        self._write, self._left = drain.scorer.writeback.write, windows
        drain.scorer.writeback.write = self  # type: ignore[method-assign]

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self._left -= 1
        if self._left <= 0:
            self.entered.set()
            assert self.released.wait(WAIT), "the test never let the write go on"
        return self._write(*arguments, **options)


def test_the_model_is_asked_about_the_next_batch_while_one_is_written(
    database_url: str, connect: Connect, places: Places
) -> None:
    application = connect()
    make_items(application)
    with opened(overlapping(database_url, places)) as engine, ThreadPoolExecutor(1) as pool:
        applied(engine)
        add_items(application, 5 * CLAIM)
        next_id = 2 * CLAIM + 1
        places.seen[next_id] = threading.Event()
        drain = Drain(engine, seconds=60.0)
        held = Held(drain, windows=2)
        running = pool.submit(drain.run)
        try:
            assert held.entered.wait(WAIT)
            assert places.seen[next_id].wait(WAIT), "the third batch was asked about"
            assert (
                one(application, f"SELECT churn_state FROM items WHERE id = {CLAIM + 1}") == RowState.PENDING
            )
        finally:
            held.released.set()
        summary = running.result(timeout=WAIT)
        assert (summary.scored, summary.call_rows, summary.lost) == (5 * CLAIM, 5 * CLAIM, 0)
        assert states(application) == {RowState.SCORED: 5 * CLAIM}
        assert set(places.scored.values()) == {1}, "each row was paid for once"
        assert places.most <= 2, "calls of all batches share the concurrency"
        assert one(application, f"SELECT count(*) FROM {own(application, 'lease')}") == 0


def test_a_service_that_stops_answering_is_one_outage_for_all_batches_under_way(
    database_url: str, connect: Connect, places: Places
) -> None:
    application = connect()
    make_items(application)
    with opened(overlapping(database_url, places)) as engine:
        applied(engine)
        add_items(application, 8 * CLAIM)
        places.refused, places.refusal = {3 * CLAIM + 1}, 503
        summary = Drain(engine, seconds=60.0).run()
        assert summary.fault is not None
        assert summary.failed == 0
        assert one(application, f"SELECT failures FROM {own(application, 'circuit')}") == 1
        assert one(application, f"SELECT count(*) FROM {own(application, 'failure')}") == 0
        assert states(application)[RowState.SCORED] == summary.scored
        places.refused, places.refuses = set(), False
        application.execute(f"DELETE FROM {own(application, 'circuit')}")
        again = Drain(engine, seconds=60.0).run()
        assert summary.scored + again.scored == 8 * CLAIM
        assert states(application) == {RowState.SCORED: 8 * CLAIM}


def test_a_drain_that_meets_an_outage_has_one_batch_under_way(
    database_url: str, connect: Connect, places: Places
) -> None:
    application = connect()
    make_items(application)
    with opened(overlapping(database_url, places)) as engine:
        applied(engine)
        add_items(application, 5 * CLAIM)
        places.refuses = True
        summary = Drain(engine, seconds=60.0).run()
        assert (summary.batches, summary.scored, summary.failed) == (1, 0, 0)


def test_a_new_generation_voids_all_batches_under_way(
    database_url: str, connect: Connect, places: Places
) -> None:
    application = connect()
    make_items(application)
    version = {"column": "v", "value": "1"}
    with opened(overlapping(database_url, places, version=version)) as engine, ThreadPoolExecutor(1) as pool:
        applied(engine)
        add_items(application, 6 * CLAIM)
        places.seen[2 * CLAIM + 1] = threading.Event()
        drain = Drain(engine, seconds=60.0)
        held = Held(drain, windows=2)
        running = pool.submit(drain.run)
        try:
            assert held.entered.wait(WAIT)
            assert places.seen[2 * CLAIM + 1].wait(WAIT)
            newer = overlapping(database_url, places, version={**version, "value": "2"})
            with opened(newer) as other:
                prediction = other.prediction()
                apply(other.database(prediction), other.materialisation(prediction))
        finally:
            held.released.set()
        summary = running.result(timeout=WAIT)
        assert summary.ended == "a newer generation of the prediction began"
        assert states(application) == {RowState.SCORED: CLAIM, RowState.PENDING: 5 * CLAIM}


def test_a_process_that_stops_leaves_no_lease_behind(
    database_url: str, connect: Connect, places: Places
) -> None:
    application = connect()
    make_items(application)
    with opened(overlapping(database_url, places)) as engine, ThreadPoolExecutor(1) as pool:
        applied(engine)
        add_items(application, 6 * CLAIM)
        places.seen[2 * CLAIM + 1] = threading.Event()
        drain = Drain(engine, seconds=60.0)
        held = Held(drain, windows=2)
        running = pool.submit(drain.run)
        try:
            assert held.entered.wait(WAIT)
            assert places.seen[2 * CLAIM + 1].wait(WAIT)
            engine.stop.set()
        finally:
            held.released.set()
        summary = running.result(timeout=WAIT)
        assert summary.ended == "it was told to stop"
        found = states(application)
        assert found[RowState.SCORED] == summary.scored == summary.call_rows
        live = "expires_at > now()" if "postgresql" in database_url else "expires_at > UTC_TIMESTAMP(6)"
        assert one(application, f"SELECT count(*) FROM {own(application, 'lease')} WHERE {live}") == 0


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_window_that_takes_too_long_is_written_in_parts(
    database_url: str, connect: Connect, places: Places, concurrency: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = connect()
    make_items(application)
    monkeypatch.setattr(batch, "BATCH_SECONDS", 0.1)
    options = {"max_rows_per_batch": 1, "max_rows_per_claim": 40, "concurrency": concurrency}
    with opened(overlapping(database_url, places, **options)) as engine:
        applied(engine)
        add_items(application, 40)
        places.delay = 0.02
        summary = Drain(engine, seconds=60.0).run()
        assert (summary.scored, summary.failed, summary.fault, summary.empty) == (40, 0, None, True)
        assert summary.batches > 2
        assert states(application) == {RowState.SCORED: 40}
        assert set(places.scored.values()) == {1}, "each row was paid for once"
