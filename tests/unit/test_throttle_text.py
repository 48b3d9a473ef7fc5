"""What `rowscore status` says of work that is held up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from worker.cli.statustext import describe
from worker.standing import Definition, Status, ThrottleStatus

NOTHING: dict[str, Any] = {
    "kind": None, "reason": None, "since": None, "total_seconds": 7.0, "paused": None, "pause_left": None,
    "pause_reason": None,
}  # fmt: skip


def lines(**throttle: Any) -> list[str]:
    definition = Definition(datetime(2026, 11, 1, tzinfo=UTC), "a" * 12, "", ())
    status = Status(
        "churn", "public.items", None, definition, throttle=ThrottleStatus(**{**NOTHING, **throttle})
    )
    return [line.text.strip() for line in describe(status)]


def test_nothing_is_said_while_nothing_holds_it_up() -> None:
    assert not [line for line in lines() if line.startswith(("throttled", "paused"))]


def test_what_holds_it_up_since_when_and_which_key_sets_the_limit() -> None:
    found = lines(kind="max_replica_lag", reason="replica two is 12.0 s behind, more than 10 s", since=200.0)
    assert (
        "throttled    for 3 min 20 s: replica two is 12.0 s behind, more than 10 s (max_replica_lag)" in found
    )


@pytest.mark.parametrize(
    ("pause", "text"),
    [
        ({}, "paused       for 1 min; goes on with: rowscore resume churn"),
        (
            {"pause_left": 7140.0, "pause_reason": "closing"},
            "paused       for 1 min, 1 h 59 min left: closing; goes on with: rowscore resume churn",
        ),
    ],
)
def test_a_pause_goes_before_what_is_on_record(pause: dict[str, Any], text: str) -> None:
    found = lines(kind="query", reason="throttle.query holds", since=1.0, paused=60.0, **pause)
    assert text in found
    assert not [line for line in found if line.startswith("throttled")]
