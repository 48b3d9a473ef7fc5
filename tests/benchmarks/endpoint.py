"""`python -m tests.benchmarks.endpoint`: one worker at an endpoint that takes 65 ms a call and serves four at once.

Against what a client reaches there that does nothing else, in turn with it, and against the worker with a model in its
own process, which is what the database and the worker allow. The endpoint is a process of its own that speaks HTTP and
text/csv; it says for how much of the time its places were taken.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.benchmarks.contenders import WORKER_SIDE, configuration
from tests.benchmarks.postgresql import PostgreSQL
from tests.benchmarks.subject import FEATURES, SOURCE, Subject
from worker.batch import BatchResult
from worker.config import Configuration
from worker.demo import churn
from worker.drain import Drain, Summary
from worker.engine import Engine
from worker.log import configure_log
from worker.models import csvformat
from worker.models.protocol import Batch

SECONDS = 0.065  # of a call, as AWS measured it
PLACES = 4
WANTED = 0.85  # of the endpoint's limit, until the database is the limit
WANTED_TIMES = 100


class _Server(ThreadingHTTPServer):
    """Answers each call after its time, so many at once; adds up how long its places were taken."""

    daemon_threads = True

    def __init__(self, seconds: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seconds = seconds
        self.free = threading.Semaphore(PLACES)
        self.lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        self.calls = self.rows = 0
        self.busy = self.last = 0.0
        self.first: float | None = None

    def serve(self, rows: int) -> None:
        with self.free:
            started = time.perf_counter()
            time.sleep(self.seconds)
            ended = time.perf_counter()
        with self.lock:
            self.calls, self.rows = self.calls + 1, self.rows + rows
            self.busy += ended - started
            self.first = started if self.first is None else min(self.first, started)
            self.last = max(self.last, ended)

    def told(self) -> dict[str, Any]:
        """What was done since this was asked last."""
        span = self.last - (self.first or 0.0)
        share = self.busy / (PLACES * span) if span > 0 else 0.0
        found = {"calls": self.calls, "rows": self.rows, "seconds": span, "busy": share}
        self.clear()
        return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        rows = self.rfile.read(int(self.headers["Content-Length"])).count(b"\n")
        self.server.serve(rows)
        self._answer(b"0.5\n" * rows)

    def do_GET(self) -> None:
        self._answer(json.dumps(self.server.told()).encode())

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/csv")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _serve(seconds: float, told: Any) -> None:
    server = _Server(seconds)
    told.put(server.server_port)
    server.serve_forever()


@contextmanager
def served(seconds: float) -> Iterator[int]:
    """The endpoint in a process of its own; yields its port."""
    context = multiprocessing.get_context("spawn")
    told: Any = context.Queue()
    process = context.Process(target=_serve, args=(seconds, told), daemon=True)
    process.start()
    try:
        yield told.get(timeout=60)
    finally:
        process.terminate()
        process.join()


def counted(port: int) -> dict[str, Any]:
    """What the endpoint did since it was asked last."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/")
    found: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return found


def idle_client(port: int, body: bytes, calls: int) -> dict[str, Any]:
    """The same call again and again over a connection a place, by a client that does nothing else."""

    def post(count: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for _ in range(count):
            connection.request("POST", "/invocations", body, {"Content-Type": "text/csv"})
            connection.getresponse().read()
        connection.close()

    counted(port)
    with ThreadPoolExecutor(PLACES) as pool:
        list(pool.map(post, [calls // PLACES] * PLACES))
    return counted(port)


def configured(url: str, model: dict[str, str], rows_per_call: int, claim: int) -> Configuration:
    """The churn prediction with these sizes."""
    base = configuration(url, model)
    changed = {
        "max_rows_per_batch": rows_per_call,
        "concurrency": PLACES if "http" in model else 1,
        "max_rows_per_claim": claim,
    }
    prediction = base.predictions["churn"].model_copy(update=changed)
    return base.model_copy(update={"predictions": {"churn": prediction}})


def drained(subject: Subject, model: dict[str, str], rows_per_call: int, claim: int) -> float:
    """Rows a second of one worker, from its start to its last batch; a claim of full size was learned before."""
    subject.reset(model)
    subject.connection.execute(f"UPDATE rowscore.learned SET rows_per_claim = {claim}")
    engine = Engine(configured(subject.url, model, rows_per_call, claim))
    ended = [0.0]

    def progress(_: Summary, result: BatchResult) -> None:
        if result.scored:
            ended[0] = time.perf_counter()

    drain = Drain(engine, seconds=600, progress=progress)
    started = time.perf_counter()
    scored = drain.run().scored
    engine.dispose()
    return scored / (ended[0] - started)


def main() -> None:
    """In turn, so many rounds."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.endpoint", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows-per-call", type=int, nargs="+", default=[2048, 1024, 512, 256])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a call")
    parser.add_argument("--claim", type=int, default=10_000, help="max_rows_per_claim")
    options = parser.parse_args()
    configure_log("ERROR")
    with (
        tempfile.TemporaryDirectory() as folder,
        PostgreSQL(Path(folder)) as subject,
        served(options.seconds) as port,
    ):
        subject.prepare(options.rows)
        sample = subject.connection.execute(f"SELECT {FEATURES} FROM {SOURCE} LIMIT 2048").fetchall()
        model = {"http": f"http://127.0.0.1:{port}/invocations"}
        own = [drained(subject, WORKER_SIDE, 5000, options.claim) for _ in range(options.rounds)]
        print(f"a model in the worker's own process: {statistics.median(own):,.0f} rows/s", flush=True)
        for size in options.rows_per_call:
            body = csvformat.encode(Batch(tuple(churn.FEATURES), sample[:size]))
            idle, speeds, shares = [], [], []
            for _ in range(options.rounds):
                found = idle_client(port, body, 60)
                idle.append(found["rows"] / found["seconds"])
                speeds.append(drained(subject, model, size, options.claim))
                shares.append(counted(port)["busy"])
            _report(size, idle, speeds, shares, statistics.median(own), options.seconds)


def _report(
    size: int, idle: list[float], speeds: list[float], shares: list[float], own: float, seconds: float
) -> None:
    limit = PLACES * size / seconds
    speed = statistics.median(speeds)
    ratio = statistics.median(mine / client for mine, client in zip(speeds, idle, strict=True))
    parts = [
        f"{size:5} rows a call: {speed:9,.0f} rows/s",
        f"the endpoint's limit {limit:,.0f}, an idle client {statistics.median(idle):,.0f}: {ratio:.2f} of it",
        f"{speed / own:.2f} of the worker without an endpoint",
        f"places taken for {statistics.median(shares):.2f} of the time",
        f"{speed * seconds:,.0f} times a trigger of one session that calls for each row",
    ]
    print("; ".join(parts), flush=True)


if __name__ == "__main__":
    main()
