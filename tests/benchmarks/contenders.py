"""Rowscore as a contender: 1 or 2 workers that score the rows which wait, in any database."""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from typing import Any

import numpy as np

from worker.batch import BatchResult
from worker.config import Configuration, parse_configuration
from worker.demo import churn
from worker.drain import Drain, Summary
from worker.engine import Engine
from worker.log import configure_log
from worker.models.protocol import Batch

NUMBERS = [place for place, name in enumerate(churn.FEATURES) if name not in churn.TEXTS]
_NAMES = tuple(churn.FEATURES[place] for place in NUMBERS)
_WEIGHTS = np.linspace(-0.01, 0.01, len(churn.FEATURES))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One contender's run: rows a second, how the last tenth of its batches compares with the first, memory growth.

    Attributes:
        slowdown: mean seconds of the last tenth of the batches over the first tenth's (after one of warm-up).
        last_look: seconds from the last row's commit to the end of the drains: the walk over dead index entries
            looking for rows that committed late; outside any lock, rationed, and not in `rows_per_second`.
        growth: largest resident memory of a worker at its end over that after its first few batches of full size.
        processor: seconds of processor time of the workers' own processes for each row, starting up not counted.
    """

    rows_per_second: float
    slowdown: float | None = None
    growth: float | None = None
    last_look: float | None = None
    processor: float | None = None


def configuration(url: str, model: dict[str, str]) -> Configuration:
    """The churn prediction over all twenty features; every worker that is started may hold a lease."""
    return parse_configuration(
        {
            "database": url,
            "predictions": {
                "churn": {
                    "table": churn.TABLE,
                    "inputs": list(churn.FEATURES),
                    "outputs": {"churn_probability": "double precision"},
                    "model": model,
                    "max_rows_per_batch": 5000,
                    "concurrency": 1,
                }
            },
        }
    )


IN_DATABASE = {"sql": "predict_churn"}
WORKER_SIDE = {"python": "tests.benchmarks.contenders:in_process"}


def in_process(batch: Batch) -> Any:
    """A logistic regression in numpy over the numeric features, in this process."""
    return 1.0 / (1.0 + np.exp(-(batch.matrix(_NAMES) @ _WEIGHTS[NUMBERS]) / 100.0))


def workers(url: str, model: dict[str, str], count: int, rows: int) -> Outcome:
    """`count` processes drain the table together; the clock runs from their common start to the last row's commit."""
    context = multiprocessing.get_context("spawn")
    os.environ["OPENBLAS_NUM_THREADS"] = (
        "1"  # of the processes about to start: its threads spin on the other core
    )
    go = context.Event()
    results: Any = context.Queue()
    processes = [context.Process(target=_work, args=(url, model, go, results)) for _ in range(count)]
    for process in processes:
        process.start()
    for _ in processes:
        assert results.get(timeout=60) == "ready"
    started = time.perf_counter()
    go.set()
    reports = [results.get(timeout=600) for _ in processes]
    ended = time.perf_counter()
    seconds = max(report["last"] for report in reports) - started  # one clock for all processes of a machine
    for process in processes:
        process.join()
    assert sum(report["scored"] for report in reports) == rows, reports
    slowdowns = [report["slowdown"] for report in reports if report["slowdown"]]
    growth = max(report["growth"] for report in reports)
    processor = sum(report["processor"] for report in reports) / rows
    return Outcome(rows / seconds, max(slowdowns, default=None), growth, ended - started - seconds, processor)


def _work(url: str, model: dict[str, str], go: Event, results: Any) -> None:
    """One worker process."""
    configure_log("ERROR")
    engine = Engine(configuration(url, model))
    times: list[float] = []
    memory: list[tuple[int, int]] = []
    moments: list[float] = [0.0]

    def progress(_: Summary, result: BatchResult) -> None:
        if result.taken:
            times.append(result.total_seconds / result.taken)
            memory.append((result.taken, _resident()))
            moments.append(time.perf_counter())

    drain = Drain(engine, seconds=600, progress=progress)
    with drain.database.transaction():
        pass  # connected, as the one UPDATE is
    results.put("ready")
    go.wait()
    begun = time.process_time()
    scored = drain.run().scored
    while (again := Drain(engine, seconds=600, progress=progress).run()).scored:
        scored += again.scored  # windows that the other worker held when this one ran out
    tenth = max(1, (len(times) - 5) // 10)
    slowdown = (
        float(np.mean(times[-tenth - 1 : -1]) / np.mean(times[5 : 5 + tenth])) if len(times) > 25 else None
    )
    full = [pages for taken, pages in memory if taken == max(memory)[0]]
    growth = full[-1] / full[:3][-1] if full else 1.0
    results.put(
        {
            "scored": scored,
            "slowdown": slowdown,
            "growth": growth,
            "last": moments[-1],
            "processor": time.process_time() - begun,
        }
    )
    engine.dispose()


def _resident() -> int:
    """This process's resident memory in pages."""
    with open(f"/proc/{os.getpid()}/statm", encoding="ascii") as file:
        return int(file.read().split()[1])
