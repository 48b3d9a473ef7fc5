"""Whole batches through the HTTP model: poison rows, dropped connections, limits that are learned."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.endpoint import OUTPUTS, Request, Rows, Server, body, raw, status, well
from worker.errors import (
    ServiceUnavailableError,
)
from worker.models.http import HttpEndpoint
from worker.models.protocol import Batch, RowFailure
from worker.patience import Patience
from worker.scoring import score


def numbered(size: int) -> Batch:
    return Batch(("n", "x"), [(number, float(number)) for number in range(size)])


def test_one_poison_row_among_ten_thousand(server: Server, model: HttpEndpoint) -> None:
    def behave(request: Request, rows: Rows) -> None:
        if any(row[0] == "7531" for row in rows):
            request.answer("ValueError: could not convert", 500, "text/plain")
            return
        with server.lock:
            server.scored.update(row[0] for row in rows)
        well(request, rows)

    server.behave = behave
    scores = score(model, numbered(10_000), OUTPUTS, rows_per_call=2000, concurrency=4)
    failed = [row for row, outcome in enumerate(scores.outcomes) if isinstance(outcome, RowFailure)]
    assert failed == [7531]
    assert scores.fault is None
    assert None not in scores.outcomes
    assert scores.outcomes[9999] == (999.9,)
    assert set(server.scored.values()) == {1}
    assert len(server.scored) == 9999
    assert scores.statistics.calls == len(server.requests) <= 5 + 2 * 11
    assert len(server.clients) <= 4


def test_a_row_on_which_the_endpoint_drops_the_connection_stops_nobody(
    server: Server, model: HttpEndpoint
) -> None:
    def behave(request: Request, rows: Rows) -> None:
        if any(row[0] == "31" for row in rows):
            request.raw(b"")
        else:
            well(request, rows)

    server.behave = behave
    patience = Patience(first_wait=0.001, longest_wait=0.002)
    scores = score(model, numbered(64), OUTPUTS, rows_per_call=64, patience=patience)
    failed = [row for row, outcome in enumerate(scores.outcomes) if isinstance(outcome, RowFailure)]
    assert (failed, scores.fault) == ([31], None)
    assert scores.outcomes[63] == (6.3,)


def test_an_endpoint_that_drops_every_connection_charges_no_row(server: Server, model: HttpEndpoint) -> None:
    server.behave = raw(b"")
    patience = Patience(first_wait=0.001, longest_wait=0.002)
    scores = score(model, numbered(64), OUTPUTS, rows_per_call=64, patience=patience)
    assert isinstance(scores.fault, ServiceUnavailableError)
    assert set(scores.outcomes) == {None}


def test_a_nan_fails_its_row_alone(server: Server, model: HttpEndpoint) -> None:
    server.behave = lambda request, _rows: request.answer("0.5\nNaN\n\n")
    scores = score(model, numbered(3), OUTPUTS, rows_per_call=10)
    assert scores.outcomes[0] == (0.5,)
    assert isinstance(scores.outcomes[1], RowFailure)
    assert "p: the model answered 'NaN', which is not a finite number" in scores.outcomes[1].message
    assert scores.outcomes[2] == (None,)


@pytest.mark.parametrize("behave", [body("<html>maintenance", "text/html"), status(500, "out of memory")])
def test_an_endpoint_that_is_broken_blames_no_row(server: Server, model: HttpEndpoint, behave: Any) -> None:
    server.behave = behave
    scores = score(model, numbered(1000), OUTPUTS, rows_per_call=500, concurrency=2)
    assert isinstance(scores.fault, ServiceUnavailableError)
    assert scores.outcomes == [None] * 1000
    assert len(server.requests) < 25


def test_a_limit_of_the_server_is_learned(server: Server, model: HttpEndpoint) -> None:
    server.behave = lambda request, rows: (
        status(413)(request, rows) if len(rows) > 100 else well(request, rows)
    )
    scores = score(model, numbered(1200), OUTPUTS, rows_per_call=300, concurrency=2)
    assert scores.fault is None
    assert None not in scores.outcomes
    assert scores.rows_per_call == 75


def test_throttling_is_waited_out(server: Server, model: HttpEndpoint) -> None:
    left = [status(429, Retry_After="0"), status(400, '{"message": null}'), status(503)]

    def behave(request: Request, rows: Rows) -> None:
        (left.pop(0) if left else well)(request, rows)

    server.behave = behave
    patience = Patience(first_wait=0.01, throttle_wait=0.01)
    scores = score(model, numbered(10), OUTPUTS, rows_per_call=10, patience=patience)
    assert scores.fault is None
    assert (scores.statistics.throttled, scores.statistics.retries) == (2, 3)
