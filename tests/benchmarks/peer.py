"""`python -m tests.benchmarks.peer --pgai PATH`: pgai's vectorizer worker and rowscore at the same endpoint and rows.

Both fill 64 numbers for each text, in calls of so many rows, so many at once, by one worker; pgai into its table of
embeddings (its default), rowscore into a column. pgai has to be installed in an environment of its own:
`pip install "pgai[vectorizer-worker]==0.12.1"`. The clock runs from the first request to the end of the worker.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from tests.benchmarks import embeddings
from tests.benchmarks.postgresql import SETTINGS
from worker.demo.servers import PostgresServer

DIMENSIONS = 64
CONFIGURATION = """database = "$DATABASE_URL"
[predictions.notes]
table = "notes"
inputs = ["contents"]
outputs = {{ embedding = "vector({dimensions})" }}
model = {{ openai = "text-embedding-3-small", url = "{address}", dimensions = {dimensions} }}
max_rows_per_batch = {batch}
concurrency = {concurrency}
"""
VECTORIZER = """SELECT ai.create_vectorizer('notes'::regclass, loading => ai.loading_column('contents'),
  embedding => ai.embedding_openai('text-embedding-3-small', {dimensions}, base_url => '{address}'),
  chunking => ai.chunking_none(), indexing => ai.indexing_none(), scheduling => ai.scheduling_none(),
  processing => ai.processing_default(batch_size => {batch}, concurrency => {concurrency}))"""


def main() -> None:
    """Both in turn, so many rounds, each on a fresh database."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peer", description=__doc__)
    parser.add_argument("--pgai", type=Path, required=True, help="pgai's program")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--concurrency", type=int, default=4)
    options = parser.parse_args()
    speeds: dict[str, list[float]] = {"pgai": [], "rowscore": []}
    with (
        tempfile.TemporaryDirectory() as folder,
        PostgresServer(Path(folder), settings=SETTINGS) as server,
        embeddings.served(0.065, 4, DIMENSIONS) as address,
    ):
        for number in range(options.rounds):
            for name, run in (("pgai", _pgai), ("rowscore", _rowscore)):
                url = _fresh(server, options.rows)
                embeddings.counted(address)
                run(url, address, options, Path(folder))
                ended = time.monotonic()
                seen = embeddings.counted(address)
                speeds[name].append(options.rows / (ended - seen["first"]))
                print(
                    f"  round {number + 1}: {name}: {speeds[name][-1]:,.0f} rows/s in {seen['calls']} calls",
                    flush=True,
                )
    ratios = [ours / theirs for ours, theirs in zip(speeds["rowscore"], speeds["pgai"], strict=True)]
    print(
        f"rowscore / pgai: {statistics.median(ratios):.2f} ({' '.join(f'{ratio:.2f}' for ratio in ratios)})"
    )


def _fresh(server: PostgresServer, rows: int) -> str:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS peer WITH (FORCE)")
        connection.execute("CREATE DATABASE peer")
    url = server.url("peer")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE TABLE notes (id bigint PRIMARY KEY, contents text NOT NULL)")
        connection.execute(
            "INSERT INTO notes SELECT n, 'a note about the order number ' || n FROM generate_series(1, %s) AS n",
            (rows,),
        )
        connection.execute("VACUUM ANALYZE notes")
    return url


def _pgai(url: str, address: str, options: argparse.Namespace, _: Path) -> None:
    subprocess.run([options.pgai, "install", "-d", url], check=True, capture_output=True)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_filled(VECTORIZER, address, options))
    # What it counts tokens with comes in its wheel, and is looked for on the internet all the same.
    (tokens,) = options.pgai.resolve().parents[1].glob("lib/*/site-packages/pgai/vectorizer/tiktoken_cache")
    worker = [options.pgai, "vectorizer", "worker", "--once", "-d", url, "--log-level", "ERROR"]
    _run(worker, url, TIKTOKEN_CACHE_DIR=str(tokens))
    _check(url, options.rows, "SELECT count(*) FROM notes_embedding_store")


def _rowscore(url: str, address: str, options: argparse.Namespace, folder: Path) -> None:
    file = folder / "rowscore.toml"
    file.write_text(_filled(CONFIGURATION, address, options))
    command = [sys.executable, "-m", "worker.cli", "-c", file]
    _run([*command, "apply"], url)
    _run([*command, "backfill"], url)
    _check(url, options.rows, "SELECT count(*) FROM notes WHERE embedding IS NOT NULL AND notes_state = 1")


def _filled(text: str, address: str, options: argparse.Namespace) -> str:
    return text.format(
        dimensions=DIMENSIONS, address=address, batch=options.batch, concurrency=options.concurrency
    )


def _run(command: list[str | Path], url: str, **more: str) -> None:
    environment = {**os.environ, "DATABASE_URL": url, "OPENAI_API_KEY": "none", **more}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")


def _check(url: str, rows: int, statement: str) -> None:
    with psycopg.connect(url) as connection:
        (found,) = connection.execute(statement).fetchone() or (0,)
    assert found == rows, f"{found:,} of {rows:,} rows"


if __name__ == "__main__":
    main()
