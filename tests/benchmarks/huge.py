"""`python -m tests.benchmarks.huge`: `rowscore backfill --workers 2` over ten million rows of a live table.

A snapshot is held open from before the first row to after the last, so nothing can be cleaned up behind the workers. A
third of the way, pgbench reads, updates and inserts rows of the same table for a while: with the backfill paused,
beside it, and both once more, so that the table is the same for both. Progress is read from the run's own record,
memory from the processes.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tests.benchmarks.contenders import IN_DATABASE, WORKER_SIDE
from tests.benchmarks.postgresql import SETTINGS
from tests.benchmarks.subject import FEATURES, SOURCE
from worker.demo import churn
from worker.demo.servers import PostgresServer

CHUNK = 500_000
OLTP = f"""\\set id random(1, :rows)
SELECT churn_probability FROM {churn.TABLE} WHERE id = :id;
UPDATE {churn.TABLE} SET acc_length = acc_length + 1 WHERE id = :id;
INSERT INTO {churn.TABLE} ({FEATURES}) SELECT {FEATURES} FROM {SOURCE} WHERE id = 1 + :id % {CHUNK};
"""
CONFIGURATION = """database = "$DATABASE_URL"
[predictions.churn]
table = "{table}"
inputs = [{inputs}]
outputs = {{ churn_probability = "double precision" }}
model = {model}
max_rows_per_batch = 5000
concurrency = 1
{throttle}
"""
ROUNDS = 2
Sample = tuple[float, int, list[int]]  # seconds since the start, rows done, bytes of each worker


@dataclass(frozen=True, slots=True)
class Beside:
    """pgbench's transactions a second with the backfill paused and beside it, and the seconds that all that took."""

    alone: list[float]
    together: list[float]
    begun: float
    ended: float


def main() -> None:
    """Run it and print tenths."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.huge", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--model", choices=("in-database", "worker-side"), default="in-database")
    parser.add_argument("--seconds", type=int, default=20, help="of each of the four pgbench runs; 0: none")
    parser.add_argument("--nice", default="auto", help="throttle.nice; auto is its default")
    parser.add_argument("--clients", type=int, default=4, help="of pgbench")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, PostgresServer(Path(name), settings=SETTINGS) as server:
        folder = Path(name)
        with psycopg.connect(server.url(), autocommit=True) as connection:
            prepare(connection, options.rows)
            model = IN_DATABASE if options.model == "in-database" else WORKER_SIDE
            configure(folder, model, options.nice)
            rowscore(folder, server.url(), "apply").wait()
            connection.execute(f"VACUUM ANALYZE {churn.TABLE}")
            connection.execute("CHECKPOINT")
            with psycopg.connect(server.url()) as holder:
                holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                holder.execute(f"SELECT id FROM {churn.TABLE} LIMIT 1")
                samples, beside = follow(connection, server, folder, options)
            report(samples, beside)


def prepare(connection: psycopg.Connection[Any], rows: int) -> None:
    """The table with all its rows, which were there before rowscore."""
    churn.create(connection, SOURCE)
    churn.create_model(connection)
    churn.load(connection, CHUNK, table=SOURCE)
    churn.create(connection, churn.TABLE)
    for done in range(0, rows, CHUNK):
        source = f"SELECT {FEATURES} FROM {SOURCE} ORDER BY id LIMIT {min(CHUNK, rows - done)}"
        connection.execute(f"INSERT INTO {churn.TABLE} ({FEATURES}) {source}")


def configure(folder: Path, model: dict[str, str], nice: str) -> None:
    """The file, with every option that matters to others at its default."""
    kind, name = next(iter(model.items()))
    throttle = "" if nice == "auto" else f"throttle = {{ nice = {nice} }}"
    inputs = ", ".join(f'"{feature}"' for feature in churn.FEATURES)
    text = CONFIGURATION.format(
        table=churn.TABLE, inputs=inputs, model=f'{{ {kind} = "{name}" }}', throttle=throttle
    )
    (folder / "rowscore.toml").write_text(text)
    (folder / "oltp.sql").write_text(OLTP)


def rowscore(folder: Path, url: str, *words: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own."""
    environment = {**os.environ, "DATABASE_URL": url, "PYTHONPATH": os.getcwd(), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "worker.cli", *words], cwd=folder, env=environment, stdout=subprocess.DEVNULL
    )


def pgbench(server: PostgresServer, folder: Path, options: argparse.Namespace) -> float:
    """Transactions a second."""
    words = [str(server.programs / "pgbench"), "--no-vacuum", f"--file={folder / 'oltp.sql'}"]
    words += [f"--define=rows={options.rows}", f"--client={options.clients}", f"--time={options.seconds}"]
    done = subprocess.run([*words, server.url()], capture_output=True, text=True, check=True)
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found is not None, done.stdout
    return float(found[1])


def follow(
    connection: psycopg.Connection[Any], server: PostgresServer, folder: Path, options: argparse.Namespace
) -> tuple[list[Sample], Beside | None]:
    """The backfill from its start to its end: a sample each half second, and what pgbench did meanwhile."""
    process = rowscore(folder, server.url(), "backfill", "--workers", "2")
    started = time.perf_counter()
    samples: list[Sample] = [(0.0, 0, [])]
    beside: Beside | None = None
    while process.poll() is None:
        time.sleep(0.5)
        samples.append((time.perf_counter() - started, done(connection), memory(process.pid)))
        if options.seconds and beside is None and samples[-1][1] > options.rows / 3:
            begun = time.perf_counter() - started
            alone, together = [], []
            for _ in range(ROUNDS):
                rowscore(folder, server.url(), "pause").wait()
                settled(connection, moving=False)
                alone.append(pgbench(server, folder, options))
                rowscore(folder, server.url(), "resume").wait()
                settled(connection, moving=True)
                together.append(pgbench(server, folder, options))
            beside = Beside(alone, together, begun, time.perf_counter() - started)
            samples.append((beside.ended, done(connection), memory(process.pid)))
    assert process.returncode == 0, process.returncode
    return samples, beside


def settled(connection: psycopg.Connection[Any], *, moving: bool) -> None:
    """Returns when the backfill goes on, or when it has not for two seconds."""
    since, before = time.perf_counter(), done(connection)
    while True:
        time.sleep(0.1)
        now = done(connection)
        if now != before:
            if moving:
                return
            since, before = time.perf_counter(), now
        elif not moving and time.perf_counter() - since > 2.0:
            return


def done(connection: psycopg.Connection[Any]) -> int:
    """Rows that the run has scored."""
    row = connection.execute("SELECT rows_scored FROM rowscore.run WHERE kind = 'backfill'").fetchone()
    return 0 if row is None else int(row[0])


def memory(pid: int) -> list[int]:
    """Resident bytes of each working process, in the order of their starts."""
    try:
        below = psutil.Process(pid).children()
        return [one.memory_info().rss for one in below if "spawn_main" in " ".join(one.cmdline())]
    except psutil.NoSuchProcess:
        return []


def report(samples: list[Sample], pgbench: Beside | None) -> None:
    """Rows a second and memory by tenths; the tenths that pgbench ran in are marked."""
    rows = samples[-1][1]  # those that pgbench changed meanwhile wait for a drain
    print(f"{rows:,} rows by 2 workers in {samples[-1][0]:.1f} s")
    tenths: list[float] = []
    for tenth in range(10):
        first, last = moment(samples, rows * tenth / 10), moment(samples, rows * (tenth + 1) / 10)
        beside = pgbench is not None and first < pgbench.ended and last > pgbench.begun
        held = [sizes for at, _, sizes in samples if first <= at <= last and sizes]
        sizes = " ".join(f"{size >> 20} MiB" for size in held[-1]) if held else ""
        rate = rows / 10 / (last - first)
        tenths.append(rate)
        print(f"  tenth {tenth + 1:2}: {rate:9,.0f} rows/s  {sizes}{'  beside pgbench' if beside else ''}")
    print(f"last tenth against the first: {tenths[-1] / tenths[0]:.2f} (wanted: at least 0.85)")
    full = [sizes for at, count, sizes in samples if count > rows / 10 and len(sizes) == 2]
    growth = max(last / first for first, last in zip(full[0], full[-1], strict=True))
    print(f"memory at the end against the end of the first tenth: {growth:.2f} (wanted: at most 1.10)")
    if pgbench is not None:
        shares = [beside / alone for beside, alone in zip(pgbench.together, pgbench.alone, strict=True)]
        for beside, alone, share in zip(pgbench.together, pgbench.alone, shares, strict=True):
            print(
                f"pgbench: {alone:,.0f} transactions/s while it is paused, {beside:,.0f} beside it: {share:.2f}"
            )
        print(f"         of which {sum(shares) / ROUNDS:.2f} is left (wanted: at least 0.67)")


def moment(samples: list[Sample], rows: float) -> float:
    """When so many rows were done, between two samples."""
    for (before, less, _), (after, more, _) in pairwise(samples):
        if more >= rows and more > less:
            return before + (after - before) * max(0.0, (rows - less) / (more - less))
    return samples[-1][0]


if __name__ == "__main__":
    main()
