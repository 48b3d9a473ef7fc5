"""`python -m tests.benchmarks.tuning`: what `rowscore tune` finds, against each size of its sweep, by real drains.

Three models: a quick function of the database, an endpoint that takes 65 ms a call, and one whose time grows with the
square of the rows. The sizes are drained in turn, in several rounds, each on a fresh table in which every row waits; a
size's best round counts, for what the machine does beside slows it down and never helps.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.benchmarks.__main__ import SUBJECTS
from tests.benchmarks.contenders import IN_DATABASE, configuration
from tests.benchmarks.subject import Subject
from worker.batch import BatchResult
from worker.config import Configuration
from worker.drain import Drain, Summary
from worker.engine import Engine
from worker.log import configure_log
from worker.tune import DEFAULT_CALLS, Wishes, tune

WANTED = 0.95
_WORTH = 0.5  # of the best in the sweep: smaller ones are not drained
CURVES = {"65 ms a call": (0.065, 0.0), "65 ms and the square": (0.065, 1e-6)}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    fixed, square = 0.0, 0.0

    def do_POST(self) -> None:
        """One number a line, after the time that so many lines take."""
        rows = self.rfile.read(int(self.headers["Content-Length"])).count(b"\n")
        time.sleep(self.fixed + self.square * rows * rows)
        answer = b"0.5\n" * rows
        self.send_response(200)
        self.send_header("Content-Type", "text/csv")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _serve(curve: tuple[float, float], told: Any) -> None:
    _Handler.fixed, _Handler.square = curve
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    told.put(server.server_port)
    server.serve_forever()


@contextmanager
def endpoint(curve: tuple[float, float]) -> Iterator[dict[str, str]]:
    """An endpoint in a process of its own; yields the model's section."""
    context = multiprocessing.get_context("spawn")
    told: Any = context.Queue()
    process = context.Process(target=_serve, args=(curve, told), daemon=True)
    process.start()
    try:
        yield {"http": f"http://127.0.0.1:{told.get(timeout=60)}/invocations"}
    finally:
        process.terminate()
        process.join()


def configured(url: str, model: dict[str, str], **options: int) -> Configuration:
    """The churn prediction with these options, and otherwise the defaults."""
    base = configuration(url, model)
    usual = {"max_rows_per_batch": None, "concurrency": 4}
    prediction = base.predictions["churn"].model_copy(update={**usual, **options})
    return base.model_copy(update={"predictions": {"churn": prediction}})


def drained(subject: Subject, model: dict[str, str], setting: str, size: int) -> float:
    """Rows a second of one worker that drains the table with this size from its first batch to its last."""
    subject.reset(model)
    claim = size if setting == "max_rows_per_claim" else 10_000
    with_schema = "rowscore.learned" if subject.url.startswith("postgres") else "rowscore_learned"
    subject.connection.execute(f"UPDATE {with_schema} SET rows_per_claim = {claim}")
    engine = Engine(configured(subject.url, model, **{setting: size}))
    ended = [0.0]

    def progress(_: Summary, result: BatchResult) -> None:
        if result.scored:
            ended[0] = time.perf_counter()

    drain = Drain(engine, seconds=600, progress=progress)
    started = time.perf_counter()
    scored = drain.run().scored
    engine.dispose()
    assert scored
    return scored / (ended[0] - started)


def compare(subject: Subject, name: str, model: dict[str, str], rounds: int, calls: int) -> float:
    """Tune, drain each size in turn, print both; returns the tuned size's share of the best drain."""
    subject.reset(model)
    engine = Engine(configured(subject.url, model))
    tuning = tune(engine, None, Wishes(calls=calls))
    engine.dispose()
    assert tuning.knee is not None
    tuned = tuning.knee.point.size
    swept = {point.size: point.rate or 0.0 for point in tuning.column}
    best = max(swept.values())
    sizes = [size for size, rate in swept.items() if rate >= _WORTH * best]
    measured: dict[int, list[float]] = {size: [] for size in sizes}
    for number in range(rounds):
        for size in sizes if number % 2 == 0 else sizes[::-1]:
            measured[size].append(drained(subject, model, tuning.setting, size))
    drains = {size: max(rates) for size, rates in measured.items()}
    print(
        f"\n{name}: {tuning.setting} = {tuned}, found with {tuning.paid.calls} calls in {tuning.seconds:.1f} s"
    )
    print(f"{'size':>8}{'sweep, rows/s':>16}{'drain, rows/s':>16}{'of the best':>13}")
    for size in sizes:
        share = drains[size] / max(drains.values())
        mark = "  <- tuned" if size == tuned else ""
        print(f"{size:8,}{swept[size]:16,.0f}{drains[size]:16,.0f}{share:13.2f}{mark}")
    ratio = drains[tuned] / max(drains.values())
    print(
        f"tuned / best: {swept[tuned] / best:.2f} in the sweep, {ratio:.2f} in drains (wanted: {WANTED})",
        flush=True,
    )
    return ratio


def main() -> None:
    """Run the three, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.tuning", description=__doc__)
    parser.add_argument("--database", choices=SUBJECTS, default="postgresql")
    parser.add_argument("--rows", type=int, default=200_000, help="an eighth of them for the slowest")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-calls", type=int, default=DEFAULT_CALLS)
    parser.add_argument("--only", help="run only the models whose name contains this")
    options = parser.parse_args()
    configure_log("ERROR")
    fields = {"quick function": None, **CURVES}
    for name, curve in fields.items():
        if options.only and options.only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder, SUBJECTS[options.database](Path(folder)) as subject:
            slow = curve is not None and curve[1] > 0
            subject.prepare(options.rows // 8 if slow else options.rows)
            with nullcontext(IN_DATABASE) if curve is None else endpoint(curve) as model:
                compare(subject, name, model, options.rounds, options.max_calls)


if __name__ == "__main__":
    main()
