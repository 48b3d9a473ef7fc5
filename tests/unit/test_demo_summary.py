"""The demo's summary, as text from fixed figures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from worker.demo.measure import (
    Calls,
    Fact,
    Figures,
    Freshness,
    Latency,
    Outage,
    Second,
    Spread,
    latency,
    slowest,
)
from worker.demo.summary import bars, duration, rate, summary

FIGURES = Figures(
    existing=200_000,
    backfill_seconds=8.452,
    calls={
        "drain": Calls(341, 20_000, Spread(58.651, 1, 2000), Spread(0.069698, 0.066642, 0.126858), failed=12),
        "backfill": Calls(121, 200_000, Spread(1652.893, 250, 2000), Spread(0.098539, 0.078889, 0.191789)),
    },
    inserts=Latency(20_000, 1000.0, 0.31, 3.52),
    trigger=Latency(5_998, 977.4, 66.61, 131.9),
    freshness=Freshness(0.1184, 0.3944, 0.512),
    outage=Outage(4.5, 1.04, Latency(4_000, 1000.0, 0.33, 3.61), Freshness(2.81, 5.43, 5.52)),
    by_second=[
        Second(0, 1000, 900),
        Second(1, 1000, 1100),
        Second(2, 1000, 0),
        Second(4, 0, 8000),
        Second(3, 999, 0),
    ],
    down=(2.0, 4.1),
    clients=100,
    database="PostgreSQL 18",
    sleep="pg_sleep",
    facts=[
        Fact("every row has its prediction", holds=True, shown="220,000 of 220,000 rows scored"),
        Fact(
            "no insert was lost", holds=False, shown="the clients made 20,000, the table has 19,999 new rows"
        ),
    ],
)

GOLDEN = """\
Rows scored: 220,000
  200,000 were there before: 8.5 s, 23,663 rows/s
  20,000 arrived while the workers kept up
  462 model calls, 476 rows a call; 12 more met the dead model
  before   Batch Processing: num batches=121 avg/min/max batch size=1652.893/250.000/2000.000
           avg/min/max batch call time=98.539/78.889/191.789
  arrived  Batch Processing: num batches=341 avg/min/max batch size=58.651/1.000/2000.000
           avg/min/max batch call time=69.698/66.642/126.858

Insert latency, 100 clients, PostgreSQL 18
                                          inserts/s     p50     p99
  rowscore                                    1,000  0.3 ms  3.5 ms
    its slowest second without the model      1,000  0.3 ms  3.6 ms
  trigger, simulated: pg_sleep(65 ms)           977   67 ms  132 ms

Freshness: from insert to prediction
                                                      p50     p99     max
  with the model                                   118 ms  394 ms  512 ms
  model dead for 4.5 s, and 1.0 s until caught up   2.8 s   5.4 s   5.5 s

Second by second
  inserted  ████   1,000 rows at most
  scored    ▁▁  █  8,000 rows at most
  model     --xx-  x: down

The trigger is a simulation: pg_sleep stands for the model call, and any number may sleep at once. A real
model has a limit: with 100 clients on such a trigger AWS measured 70 to 75 inserts a second, about 70 ms
each, and without its model such a trigger fails every INSERT.

Checked
  ok      every row has its prediction: 220,000 of 220,000 rows scored
  FAILED  no insert was lost: the clients made 20,000, the table has 19,999 new rows
"""


def text(figures: Figures) -> str:
    return "".join(f"{line.text}\n" for line in summary(figures))


def test_the_summary_as_a_whole() -> None:
    assert text(FIGURES) == GOLDEN
    assert max(len(line) for line in GOLDEN.splitlines()) <= 110


def test_the_summary_names_the_database() -> None:
    shown = text(replace(FIGURES, database="MariaDB 10.11.19", sleep="SLEEP"))
    assert "Insert latency, 100 clients, MariaDB 10.11.19\n" in shown
    assert "  trigger, simulated: SLEEP(65 ms) " in shown
    assert "The trigger is a simulation: SLEEP stands" in shown


def test_a_fact_that_does_not_hold_fails_the_demo_and_stands_out() -> None:
    assert not FIGURES.passed
    assert replace(FIGURES, facts=FIGURES.facts[:1]).passed
    assert [line.style for line in summary(FIGURES)][-2:] == ["good", "bad"]


def test_what_was_too_short_to_measure_is_left_out() -> None:
    nothing = float("nan")
    figures = replace(
        FIGURES,
        calls={},
        freshness=None,
        outage=Outage(0.4, 0.0, None, None),
        by_second=[Second(0, 10, 10)],
        inserts=Latency(0, 0.0, nothing, nothing, missed=1_234),
    )
    shown = text(figures)
    assert "0 model calls, 0 rows a call\n" in shown
    assert "Second by second" not in shown
    assert "slowest" not in shown
    assert "  rowscore                                     0      -       -\n" in shown
    assert "inserts that were due and found no time: rowscore 1,234\n" in shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.00031, "0.3 ms"),
        (0.00994, "9.9 ms"),
        (0.00996, "10 ms"),
        (0.65, "650 ms"),
        (0.9996, "1.0 s"),
        (12.4, "12 s"),
    ],
)
def test_durations(value: float, shown: str) -> None:
    assert duration(value) == shown


def test_a_rate_over_no_time_is_none() -> None:
    assert (rate(10, 0), rate(3000, 2)) == ("-", "1,500 rows/s")


def test_bars_are_empty_for_zero_alone() -> None:
    assert bars([0, 1, 500, 1000]) == " ▁▄█"
    assert bars([0, 0]) == "  "
    assert bars([]) == ""


def test_the_slowest_of_the_seconds_that_lie_whole_inside() -> None:
    seconds = [
        {"second": second, "inserts": 100, "latency_ms": {"p50": second, "p99": 10 - second}}
        for second in range(6)
    ]
    report = {"by_second": seconds}
    assert slowest(report, 1.5, 4.2) == Latency(200, 100.0, 3, 8)
    assert slowest(report, 1.5, 2.4) is None


def test_a_report_without_inserts_has_no_latency() -> None:
    report = {"inserts": 0, "rate": 0.0, "latency_ms": {}, "errors": 3, "missed": 7}
    found = latency(report)
    assert (found.inserts, found.errors, found.missed) == (0, 3, 7)
    assert found.p50 != found.p50
