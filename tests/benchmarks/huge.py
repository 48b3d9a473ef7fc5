"""`python -m tests.benchmarks.huge`: `rowscore backfill --workers 2` over ten million rows of a live table.

A snapshot is held open from before the first row to after the last, so nothing can be cleaned up behind the workers. A
third of the way, pgbench reads, updates and inserts rows of the same table for a while, as it did before the backfill
began. Progress is read from the run's own record, memory from the processes.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
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
throttle = {{ nice = {nice} }}
"""
Sample = tuple[float, int, list[int]]  # seconds since the start, rows done, bytes of each worker


def main() -> None:
    """Run it and print tenths."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.huge", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--model", choices=("in-database", "worker-side"), default="in-database")
    parser.add_argument("--seconds", type=int, default=20, help="of each of the two pgbench runs; 0: none")
    parser.add_argument("--nice", type=float, default=0.0, help="throttle.nice; 0 is its default")
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
            before = pgbench(server, folder, options) if options.seconds else None
            with psycopg.connect(server.url()) as holder:
                holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                holder.execute(f"SELECT id FROM {churn.TABLE} LIMIT 1")
                samples, during = follow(connection, server, folder, options)
            report(samples, before, during)


def prepare(connection: psycopg.Connection[Any], rows: int) -> None:
    """The table with all its rows, which were there before rowscore."""
    churn.create(connection, SOURCE)
    churn.create_model(connection)
    churn.load(connection, CHUNK, table=SOURCE)
    churn.create(connection, churn.TABLE)
    for done in range(0, rows, CHUNK):
        source = f"SELECT {FEATURES} FROM {SOURCE} ORDER BY id LIMIT {min(CHUNK, rows - done)}"
        connection.execute(f"INSERT INTO {churn.TABLE} ({FEATURES}) {source}")


def configure(folder: Path, model: dict[str, str], nice: float) -> None:
    """The file, with every option that matters to others at its default."""
    kind, name = next(iter(model.items()))
    inputs = ", ".join(f'"{feature}"' for feature in churn.FEATURES)
    text = CONFIGURATION.format(table=churn.TABLE, inputs=inputs, model=f'{{ {kind} = "{name}" }}', nice=nice)
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
) -> tuple[list[Sample], tuple[float, float, float] | None]:
    """The backfill from its start to its end: a sample each half second; pgbench's figure, and when it ran."""
    process = rowscore(folder, server.url(), "backfill", "--workers", "2")
    started = time.perf_counter()
    samples: list[Sample] = [(0.0, 0, [])]
    during: tuple[float, float, float] | None = None
    while process.poll() is None:
        time.sleep(0.5)
        samples.append((time.perf_counter() - started, done(connection), memory(process.pid)))
        if options.seconds and during is None and samples[-1][1] > options.rows / 3:
            begun = time.perf_counter() - started
            during = pgbench(server, folder, options), begun, time.perf_counter() - started
            samples.append((during[2], done(connection), memory(process.pid)))
    assert process.returncode == 0, process.returncode
    return samples, during


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


def report(samples: list[Sample], before: float | None, during: tuple[float, float, float] | None) -> None:
    """Rows a second and memory by tenths; the tenths that pgbench ran in are marked."""
    rows = samples[-1][1]  # those that pgbench changed meanwhile wait for a drain
    print(f"{rows:,} rows by 2 workers in {samples[-1][0]:.1f} s")
    tenths: list[float] = []
    for tenth in range(10):
        first, last = moment(samples, rows * tenth / 10), moment(samples, rows * (tenth + 1) / 10)
        beside = during is not None and first < during[2] and last > during[1]
        held = [sizes for at, _, sizes in samples if first <= at <= last and sizes]
        sizes = " ".join(f"{size >> 20} MiB" for size in held[-1]) if held else ""
        rate = rows / 10 / (last - first)
        tenths.append(rate)
        print(f"  tenth {tenth + 1:2}: {rate:9,.0f} rows/s  {sizes}{'  beside pgbench' if beside else ''}")
    print(f"last tenth against the first: {tenths[-1] / tenths[0]:.2f} (wanted: at least 0.85)")
    full = [sizes for at, count, sizes in samples if count > rows / 10 and len(sizes) == 2]
    growth = max(last / first for first, last in zip(full[0], full[-1], strict=True))
    print(f"memory at the end against the end of the first tenth: {growth:.2f} (wanted: at most 1.10)")
    if before is not None and during is not None:
        share = during[0] / before
        print(f"pgbench: {before:,.0f} transactions/s alone, {during[0]:,.0f} beside the backfill")
        print(f"         of which {share:.2f} is left (wanted: at least 0.67)")


def moment(samples: list[Sample], rows: float) -> float:
    """When so many rows were done, between two samples."""
    for (before, less, _), (after, more, _) in pairwise(samples):
        if more >= rows and more > less:
            return before + (after - before) * max(0.0, (rows - less) / (more - less))
    return samples[-1][0]


if __name__ == "__main__":
    main()
