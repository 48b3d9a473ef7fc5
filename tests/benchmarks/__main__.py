"""`python -m tests.benchmarks`: runs the contenders in turn on a database of its own and prints the ratios."""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.benchmarks import contenders, inserts
from tests.benchmarks.contenders import IN_DATABASE, WORKER_SIDE, Outcome
from tests.benchmarks.mysql import MariaDB, MySQL
from tests.benchmarks.postgresql import PostgreSQL
from tests.benchmarks.subject import Subject
from worker.log import configure_log

SUBJECTS: Mapping[str, type[Subject]] = {"postgresql": PostgreSQL, "mariadb": MariaDB, "mysql": MySQL}
HELD = "in-database, 1 worker, while a snapshot is held"


def main() -> None:
    """Run everything and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--database", choices=SUBJECTS, default="postgresql")
    parser.add_argument("--rows", type=int, help="a million, or half of one in MariaDB and MySQL")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", help="run only the contenders whose name contains this (and the one UPDATE)"
    )
    options = parser.parse_args()
    configure_log("ERROR")
    kind = SUBJECTS[options.database]
    options.rows = options.rows or kind.rows
    with tempfile.TemporaryDirectory() as folder, kind(Path(folder)) as subject:
        print(f"{options.rows:,} rows, {options.rounds} rounds, contenders in turn", flush=True)
        subject.prepare(options.rows)
        report(subject, run(subject, options))
        plain, applied = inserts.compare(subject, 5_000)
        print(
            f"\ninsert p50: plain {plain * 1e6:.0f} µs, applied {applied * 1e6:.0f} µs: {applied / plain:.2f} times"
        )


def run(subject: Subject, options: argparse.Namespace) -> dict[str, list[Outcome]]:
    """Every contender once a round, each on a fresh table."""
    url, rows = subject.url, options.rows
    field: dict[str, tuple[dict[str, str], Callable[[], Outcome]]] = {
        "one UPDATE": (IN_DATABASE, lambda: subject.one_statement(rows)),
        "in-database, 1 worker": (IN_DATABASE, lambda: contenders.workers(url, IN_DATABASE, 1, rows)),
        "in-database, 2 workers": (IN_DATABASE, lambda: contenders.workers(url, IN_DATABASE, 2, rows)),
        "worker-side, 1 worker": (WORKER_SIDE, lambda: contenders.workers(url, WORKER_SIDE, 1, rows)),
        "worker-side, 2 workers": (WORKER_SIDE, lambda: contenders.workers(url, WORKER_SIDE, 2, rows)),
    }
    if subject.flat is not None:
        field[HELD] = (IN_DATABASE, lambda: held(subject, rows))
    measured: dict[str, list[Outcome]] = {name: [] for name in field}
    for number in range(options.rounds):
        for name, (model, contend) in field.items():
            if options.only and options.only not in name and name != "one UPDATE":
                continue
            subject.reset(model)
            outcome = contend()
            measured[name].append(outcome)
            print(f"  round {number + 1}: {name}: {outcome.rows_per_second:,.0f} rows/s", flush=True)
    return measured


def held(subject: Subject, rows: int) -> Outcome:
    """One worker, behind which the server may clean nothing up."""
    with subject.snapshot():
        return contenders.workers(subject.url, IN_DATABASE, 1, rows)


def report(subject: Subject, measured: dict[str, list[Outcome]]) -> None:
    """Medians of the ratios, round by round, against the one UPDATE of the same round."""
    base = [outcome.rows_per_second for outcome in measured["one UPDATE"]]
    print(
        f"\n{'':24}{'ratio':>7}{'wanted':>8}{'(each round)':>22}{'last/first tenth':>18}{'memory':>8}{'last look':>11}"
    )
    for name, wanted in subject.targets.items():
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
    if slowdowns := [outcome.slowdown for outcome in measured.get(HELD, []) if outcome.slowdown]:
        each = ", ".join(f"{slowdown:.2f}" for slowdown in slowdowns)
        print(
            f"\n{HELD}: the last tenth of the batches took {statistics.median(slowdowns):.2f} times the first"
            f" (each round: {each}; wanted: at most {subject.flat})"
        )


if __name__ == "__main__":
    main()
