"""`python -m tests.benchmarks`: runs the contenders in turn on a PostgreSQL of its own and prints the ratios."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from tests.benchmarks import contenders, inserts
from tests.benchmarks.contenders import IN_DATABASE, WORKER_SIDE, Outcome
from worker.demo.servers import DEMO_SETTINGS, PostgresServer
from worker.log import configure_log

SETTINGS = {
    **DEMO_SETTINGS,
    "shared_buffers": "1GB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
}
TARGETS = {
    "in-database, 1 worker": 0.8,
    "in-database, 2 workers": 1.2,
    "worker-side, 1 worker": 0.5,
    "worker-side, 2 workers": 0.85,
}


def main() -> None:
    """Run everything and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", help="run only the contenders whose name contains this (and the one UPDATE)"
    )
    options = parser.parse_args()
    configure_log("ERROR")
    with tempfile.TemporaryDirectory() as folder, PostgresServer(Path(folder), settings=SETTINGS) as server:
        url = server.url()
        with psycopg.connect(url, autocommit=True) as connection:
            print(f"{options.rows:,} rows, {options.rounds} rounds, contenders in turn", flush=True)
            contenders.prepare(connection, options.rows)
            measured = run(connection, url, options)
            report(measured)
            plain, applied = inserts.compare(connection, 5_000)
            print(
                f"\ninsert p50: plain {plain * 1e6:.0f} µs, applied {applied * 1e6:.0f} µs: {applied / plain:.2f} times"
            )


def run(
    connection: psycopg.Connection[Any], url: str, options: argparse.Namespace
) -> dict[str, list[Outcome]]:
    """Every contender once a round, each on a fresh table."""
    rows = options.rows
    field: dict[str, tuple[dict[str, str], Callable[[], Outcome]]] = {
        "one UPDATE": (IN_DATABASE, lambda: contenders.one_statement(connection, rows)),
        "in-database, 1 worker": (IN_DATABASE, lambda: contenders.workers(url, IN_DATABASE, 1, rows)),
        "in-database, 2 workers": (IN_DATABASE, lambda: contenders.workers(url, IN_DATABASE, 2, rows)),
        "worker-side, 1 worker": (WORKER_SIDE, lambda: contenders.workers(url, WORKER_SIDE, 1, rows)),
        "worker-side, 2 workers": (WORKER_SIDE, lambda: contenders.workers(url, WORKER_SIDE, 2, rows)),
    }
    measured: dict[str, list[Outcome]] = {name: [] for name in field}
    for number in range(options.rounds):
        for name, (model, contend) in field.items():
            if options.only and options.only not in name and name != "one UPDATE":
                continue
            contenders.reset(connection, url, model)
            outcome = contend()
            measured[name].append(outcome)
            print(f"  round {number + 1}: {name}: {outcome.rows_per_second:,.0f} rows/s", flush=True)
    return measured


def report(measured: dict[str, list[Outcome]]) -> None:
    """Medians of the ratios, round by round, against the one UPDATE of the same round."""
    base = [outcome.rows_per_second for outcome in measured["one UPDATE"]]
    print(
        f"\n{'':24}{'ratio':>7}{'wanted':>8}{'(each round)':>22}{'last/first tenth':>18}{'memory':>8}{'last look':>11}"
    )
    for name, wanted in TARGETS.items():
        outcomes = measured[name]
        if not outcomes:
            continue
        ratios = [outcome.rows_per_second / one for outcome, one in zip(outcomes, base, strict=True)]
        each = " ".join(f"{ratio:.2f}" for ratio in ratios)
        slowdown = statistics.median(outcome.slowdown or 1.0 for outcome in outcomes)
        look = statistics.median(outcome.last_look or 0.0 for outcome in outcomes)
        growth = statistics.median(outcome.growth or 1.0 for outcome in outcomes)
        ratio = statistics.median(ratios)
        print(f"{name:24}{ratio:7.2f}{wanted:8.2f}{each:>22}{slowdown:18.2f}{growth:8.2f}{look:9.2f} s")


if __name__ == "__main__":
    main()
