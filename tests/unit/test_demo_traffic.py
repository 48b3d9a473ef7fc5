"""The demo's traffic and endpoint, as far as they need neither a database nor a socket."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.demo import endpoint, traffic


@given(st.integers(1, 50), st.floats(1, 500), st.floats(0.1, 5))
def test_the_clients_together_keep_the_rate(clients: int, rate: float, seconds: float) -> None:
    plan = traffic.Plan("", clients, seconds, rate)
    due = sorted(time for client in range(clients) for time in plan.timetable(client))
    assert all(0 <= time < seconds for time in due)
    assert abs(len(due) - rate * seconds) <= 1 + 1e-6 * rate
    assert due == pytest.approx([turn / rate for turn in range(len(due))])


def test_the_report_counts_what_was_seen() -> None:
    result = traffic.Result(due=[0.0, 0.5, 1.0], began=[0.0, 0.6, 1.0], ended=[0.01, 0.62, 1.03], missed=2)
    result.failed(RuntimeError("no room\n"))
    result.failed(RuntimeError("later"))
    found = traffic.report(traffic.Plan("", 2, 2.0, 2.0), result, cpu_seconds=0.25)
    assert (found["inserts"], found["missed"], found["errors"], found["first_error"]) == (3, 2, 2, "no room")
    assert found["rate"] == 1.5
    assert found["latency_ms"]["p50"] == pytest.approx(20.0)
    assert found["late_ms"]["max"] == pytest.approx(120.0)
    assert [entry["inserts"] for entry in found["by_second"]] == [2, 1]


def test_the_report_of_a_run_without_inserts_is_empty_but_whole() -> None:
    found = traffic.report(traffic.Plan("", 1, 3.0, 1.0), traffic.Result(), cpu_seconds=0.0)
    assert (found["rate"], found["latency_ms"], found["by_second"]) == (0.0, {}, [])


@pytest.mark.parametrize(("text", "seconds"), [("65ms", 0.065), ("0.065s", 0.065), ("0", 0.0), ("2s", 2.0)])
def test_durations(text: str, seconds: float) -> None:
    assert endpoint.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "fast", "-1s", "1h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a duration"):
        endpoint.duration(text)


def test_a_body_is_read_as_rfc_4180_says() -> None:
    assert endpoint.parse(b'a,"b ""c"", d"\r\n"two\r\nlines",\r\n') == [
        ["a", 'b "c", d'],
        ["two\r\nlines", ""],
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"", "no rows"), (b"\xff\xfe", "not UTF-8"), (b'"open', "not CSV"), (b'"a"b,c', "not CSV")],
)
def test_a_body_that_cannot_be_read_is_the_clients_fault(body: bytes, said: str) -> None:
    with pytest.raises(endpoint.RequestError, match=said) as caught:
        endpoint.parse(body)
    assert caught.value.status == 400
