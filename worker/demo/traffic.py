"""Application traffic for the demo and the benchmark: many clients, each inserting one churn row at a time.

The load is open: each client has its own timetable and does not wait for better times, so a slow database is
seen as late and missed inserts, and not as fewer inserts that all look quick. It calls no model.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from worker.demo.churn import SEED, TABLE, Row, rows
from worker.demo.clients import ERRORS, inserter
from worker.demo.connections import CannotConnectError, message

POOL = 20_000  # different rows; a longer run begins again
LAST_CALL = 0.1  # seconds after the end in which inserts that are due may still begin
RECONNECT = 0.5  # seconds to wait after a lost connection


@dataclass(slots=True)
class Result:
    """What the clients saw, in seconds since the run began.

    `due` is when an insert should have begun; `missed` inserts were due but not begun when the time was over.
    """

    due: list[float] = field(default_factory=list)
    began: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    errors: int = 0
    missed: int = 0
    first_error: str | None = None
    cpu_before: float = 0.0  # processor seconds used until the first insert

    def failed(self, error: Exception) -> None:
        """Counts an insert that the database refused."""
        self.errors += 1
        self.first_error = self.first_error or message(error)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for: clients, the inserts a second of all of them together, and for how many seconds."""

    url: str
    clients: int
    seconds: float
    rate: float
    table: str = TABLE
    seed: int = SEED

    def timetable(self, client: int) -> list[float]:
        """When this client inserts, in seconds since the run began; the clients take turns."""
        turns = range(client, int(np.ceil(self.seconds * self.rate)) + 1, self.clients)
        return [moment for turn in turns if (moment := turn / self.rate) < self.seconds]


class Client:
    """One application connection."""

    def __init__(self, plan: Plan, number: int, pool: Sequence[Row], result: Result) -> None:
        self._plan = plan
        self._number = number
        self._rows = cycle(islice(pool, number, None, plan.clients))
        self._result = result
        self._inserter = inserter(plan.url, plan.table)

    async def connect(self) -> None:
        """Opens the connection."""
        await self._inserter.connect()

    async def close(self) -> None:
        """Closes the connection."""
        await self._inserter.close()

    async def run(self, start: float, stop: asyncio.Event) -> None:
        """Inserts by the timetable until it ends or `stop` is set; `start` is by the monotonic clock."""
        timetable = self._plan.timetable(self._number)
        for turn, due in enumerate(timetable):
            delay = start + due - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            if stop.is_set():
                break
            if time.monotonic() - start > self._plan.seconds + LAST_CALL:
                self._result.missed += len(timetable) - turn
                break
            await self._insert_one(start, due)

    async def _insert_one(self, start: float, due: float) -> None:
        began = time.monotonic()
        try:
            if not self._inserter.is_open:
                await self.connect()
            await self._inserter.insert(next(self._rows))
        except ERRORS as exc:
            self._result.failed(exc)
            await self._recover()
        else:
            self._result.due.append(due)
            self._result.began.append(began - start)
            self._result.ended.append(time.monotonic() - start)

    async def _recover(self) -> None:
        """Waits where the connection is lost, before the next insert opens another."""
        if not self._inserter.is_open:
            await asyncio.sleep(RECONNECT)


async def drive(plan: Plan, stop: asyncio.Event) -> Result:
    """Runs the whole plan, or until `stop` is set."""
    result = Result()
    pool = list(rows(min(POOL, int(plan.rate * plan.seconds) + plan.clients), seed=plan.seed))
    clients = [Client(plan, number, pool, result) for number in range(plan.clients)]
    try:
        for client in clients:
            await client.connect()
        result.cpu_before = cpu_time()
        start = time.monotonic()
        await asyncio.gather(*(client.run(start, stop) for client in clients))
    finally:
        for client in clients:
            await client.close()
    return result


def milliseconds(seconds: Sequence[float] | np.ndarray[Any, Any]) -> dict[str, float]:
    """Percentiles of some durations; empty for none."""
    if len(seconds) == 0:
        return {}
    p50, p95, p99, most = np.percentile(np.asarray(seconds) * 1000, [50, 95, 99, 100])
    found = {"p50": p50, "p95": p95, "p99": p99, "max": most}
    return {name: round(float(value), 3) for name, value in found.items()}


def report(plan: Plan, result: Result, cpu_seconds: float) -> dict[str, Any]:
    """The run in figures.

    `latency_ms` counts from when an insert began, `late_ms` from when it was due; `cpu_seconds` are this
    process's, without connecting.
    """
    due, began, ended = (np.array(times) for times in (result.due, result.began, result.ended))
    took = ended - began
    seconds = max(plan.seconds, float(ended.max(initial=0.0)))
    second_of = ended.astype(int)
    by_second = [
        {"second": second, "inserts": int(mask.sum()), "latency_ms": milliseconds(took[mask])}
        for second in range(int(np.ceil(seconds)))
        if (mask := second_of == second).any()
    ]
    return {
        "table": plan.table,
        "clients": plan.clients,
        "target_rate": plan.rate,
        "rate": round(len(took) / seconds, 1),
        "seconds": round(seconds, 3),
        "inserts": len(took),
        "missed": result.missed,
        "errors": result.errors,
        "first_error": result.first_error,
        "latency_ms": milliseconds(took),
        "late_ms": milliseconds(ended - due),
        "cpu_seconds": round(cpu_seconds, 3),
        "by_second": by_second,
    }


def options(words: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m worker.demo.traffic", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--url", required=True, help="the database's URL: libpq's, or mysql://")
    parser.add_argument("--table", default=TABLE, help=f"where to insert ({TABLE})")
    parser.add_argument("--clients", type=int, default=100, help="connections at once (100)")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long (20)")
    parser.add_argument(
        "--rate", type=float, default=1500.0, help="inserts a second of all clients together (1500)"
    )
    parser.add_argument("--seed", type=int, default=SEED, help="of the made-up rows")
    parser.add_argument("--json", default="-", metavar="FILE", help="where the figures go; - is the terminal")
    return parser.parse_args(words)


async def run(plan: Plan) -> dict[str, Any]:
    """Runs the plan and reports; SIGTERM and SIGINT end it early, with the figures so far."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    result = await drive(plan, stop)
    return report(plan, result, cpu_time() - result.cpu_before)


def cpu_time() -> float:
    """Processor seconds that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(words: list[str] | None = None) -> int:
    """Runs the traffic of the command line; 1 if the database cannot be reached."""
    chosen = options(words)
    plan = Plan(chosen.url, chosen.clients, chosen.seconds, chosen.rate, chosen.table, chosen.seed)
    try:
        figures = asyncio.run(run(plan))
    except CannotConnectError as exc:
        sys.stderr.write(f"cannot connect: {exc}\n")
        return 1
    text = json.dumps(figures, indent=1) + "\n"
    if chosen.json == "-":
        sys.stdout.write(text)
    else:
        Path(chosen.json).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
