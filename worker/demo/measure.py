"""The demo's figures as plain data, read from the database and from the traffic's report; it prints none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

import sql
from worker.demo import churn, model
from worker.demo.connections import connect, dialect_of

SAMPLE = 1_000  # predictions that are computed again
CLOSE = 1e-12  # a batch's other length may change the last digit: its arithmetic is vectorised


@dataclass(frozen=True, slots=True)
class Tally:
    """A moment by the database's clock, and the table's last key then."""

    now: datetime
    last: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Rows that arrived since a tally, and rows of the table that wait."""

    arrived: int
    waiting: int
    now: datetime


@dataclass(frozen=True, slots=True)
class Spread:
    """An average, and the least and the most."""

    average: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Calls:
    """Model calls of one kind of run, the rows in all of them, and the rows and seconds of each.

    `failed` more were made in batches that the model did not answer; nothing else counts them.
    """

    calls: int
    rows: int
    size: Spread
    seconds: Spread
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Latency:
    """What the clients saw of one traffic run: inserts a second, and milliseconds an insert."""

    inserts: int
    rate: float
    p50: float
    p99: float
    errors: int = 0
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Freshness:
    """Seconds from insert to prediction of so many in a hundred rows, at most."""

    p50: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True)
class Outage:
    """The seconds without a model, those until its backlog was worked off, and what happened meanwhile.

    `inserts` is the slowest of its seconds as the clients saw them; None where it was too short to tell.
    """

    seconds: float
    catching_up: float
    inserts: Latency | None
    freshness: Freshness | None


@dataclass(frozen=True, slots=True)
class Second:
    """A second of the traffic: rows that arrived in it, and rows that were scored."""

    second: int
    arrived: int
    scored: int


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that must hold, whether it does, and the figures that say so."""

    claim: str
    holds: bool
    shown: str


@dataclass(frozen=True, slots=True)
class Figures:
    """All that the summary shows."""

    existing: int
    backfill_seconds: float
    calls: Mapping[str, Calls]
    inserts: Latency
    trigger: Latency
    freshness: Freshness | None
    outage: Outage
    by_second: Sequence[Second]
    down: tuple[float, float]  # seconds since the first insert
    clients: int
    database: str  # its name and version
    sleep: str  # what stood for the model call in the trigger
    facts: Sequence[Fact]

    @property
    def passed(self) -> bool:
        """Whether all facts hold."""
        return all(fact.holds for fact in self.facts)


class Meter:
    """Reads the figures; `table` is the churn table that rowscore fills."""

    def __init__(self, url: str, *, table: str = churn.TABLE) -> None:
        self._connection = connect(url)
        self._statements = sql.load(dialect_of(self._connection), "demo")
        self._names = churn.named(table)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def tally(self) -> Tally:
        """Now, and the last key."""
        row = self._row("begin_tally")
        return Tally(row.now, row.last)

    def progress(self, since: Tally) -> Progress:
        """How far arrivals and scoring are."""
        row = self._row("read_progress", last=since.last)
        return Progress(row.arrived, row.waiting, row.now)

    def backfill_seconds(self) -> float:
        """How long the backfill took."""
        return float(self._row("read_backfill").seconds)

    def calls(self) -> dict[str, Calls]:
        """The model calls by kind of run; a kind without calls is left out."""
        return {
            row.kind: Calls(
                row.calls,
                row.rows,
                Spread(row.rows / row.calls, row.rows_min, row.rows_max),
                Spread(row.seconds / row.calls, row.seconds_min, row.seconds_max),
                row.failed,
            )
            for row in self._rows("read_calls")
            if row.calls
        }

    def freshness(
        self, since: Tally, down: datetime, up: datetime
    ) -> tuple[Freshness | None, Freshness | None, float]:
        """While the model was up, during and after the outage, and the seconds of that after."""
        end = self._row("read_caught_up", last=since.last, up=up)
        rows = self._rows("read_waits", last=since.last, down=down, caught_up=end.moment)
        normal, outage = (
            [row.wait for row in rows if bool(row.normal) is wanted] for wanted in (True, False)
        )
        return spread(normal), spread(outage), float(end.seconds or 0.0)

    def by_second(self, since: Tally) -> list[Second]:
        """Each second since the first insert in which something happened."""
        return [Second(*row) for row in self._rows("read_seconds", last=since.last)]

    def began(self, since: Tally) -> datetime:
        """When the first row after the tally arrived, by the database's clock."""
        found: datetime = self._row("read_first", last=since.last).began
        return found

    def facts(self, since: Tally, traffic: Mapping[str, Any], existing: int, version: str) -> list[Fact]:
        """What must hold after the traffic, checked."""
        total = self._row("read_totals", last=since.last, version=version)
        sampled, wrong = self._check_sample()
        inserts, errors = traffic["inserts"], traffic["errors"]
        complete = total.scored == total.rows >= existing > 0
        return [
            Fact("every row has its prediction", complete, f"{total.scored:,} of {total.rows:,} rows scored"),
            Fact(
                "no insert was lost",
                total.arrived == inserts and total.rows == existing + inserts,
                f"the clients made {inserts:,}, the table has {total.arrived:,} new rows",
            ),
            Fact("no insert failed while the model was down", errors == 0, f"{errors:,} errors in all"),
            Fact(
                "the view shows every row once",
                total.shown == total.shown_scored == total.rows,
                f"{total.shown:,} rows, {total.shown_scored:,} of them scored",
            ),
            Fact(
                "the predictions are the model's",
                wrong == 0 < sampled,
                f"{sampled:,} computed again, {wrong:,} differ",
            ),
        ]

    def _check_sample(self) -> tuple[int, int]:
        """How many predictions were computed again, and how many of them are not the model's."""
        rows = self._rows("read_sample", count=SAMPLE)
        stored = np.array([row[0] for row in rows], dtype=float)
        off = np.abs(stored - np.array(model.predict([row[1:] for row in rows])))
        return len(rows), int(np.count_nonzero(~(off <= CLOSE)))

    def _rows(self, name: str, **values: Any) -> list[Any]:
        text: Any = self._statements[name].render(**self._names)
        return self._connection.execute(text, values).fetchall()

    def _row(self, name: str, **values: Any) -> Any:
        return self._rows(name, **values)[0]


def spread(waits: Sequence[float]) -> Freshness | None:
    """The percentiles of some waits; None of none."""
    return Freshness(*np.percentile(waits, [50, 99, 100]).tolist()) if waits else None


def read_report(path: Path) -> dict[str, Any]:
    """What the traffic program wrote."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def latency(report: Mapping[str, Any]) -> Latency:
    """A traffic report's figures in short."""
    taken = report["latency_ms"] or {"p50": float("nan"), "p99": float("nan")}
    return Latency(
        report["inserts"], report["rate"], taken["p50"], taken["p99"], report["errors"], report["missed"]
    )


def slowest(report: Mapping[str, Any], began: float, ended: float) -> Latency | None:
    """The slowest median and 99th percentile of the seconds that lie whole between two moments of the run."""
    seconds = [
        item for item in report["by_second"] if began <= item["second"] and item["second"] + 1 <= ended
    ]
    if not seconds:
        return None
    inserts = sum(item["inserts"] for item in seconds)
    p50, p99 = (max(item["latency_ms"][name] for item in seconds) for name in ("p50", "p99"))
    return Latency(inserts, inserts / len(seconds), p50, p99)
