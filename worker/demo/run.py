"""`rowscore demo`: the whole of rowscore on this machine, step by step; each step's work is in another module.

Ctrl-C, SIGTERM and SIGHUP end it at any moment, and every process that it started with it.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import psycopg

from worker.demo import churn, measure
from worker.demo.measure import Figures, Freshness, Latency, Meter, Outage, Tally
from worker.demo.narrator import Narrator
from worker.demo.process import ENDING, Process
from worker.demo.scene import VERSION, WORKERS, Scene, command, finished, shown, writable_folder
from worker.demo.summary import rate, seconds, summary
from worker.errors import RowscoreError

EACH = 10.0  # inserts a second of each client; with the trigger a client could make 15
DOWN_AT, DOWN_FOR, DOWN_MOST = 0.4, 0.2, 4.0  # when the model goes, in shares of the traffic; for seconds at most
TRIGGER_SHARE, TRIGGER_MOST = 0.3, 6.0  # how long the trigger's traffic takes
POLL = 0.25
CATCH_UP = 60.0  # seconds that the backlog may take after the traffic


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    rows: int
    clients: int
    seconds: float

    @property
    def rate(self) -> float:
        """Inserts a second of all clients."""
        return self.clients * EACH


@dataclass(frozen=True, slots=True)
class Episode:
    """The traffic that rowscore kept up with, and when the model was down, by the database's clock."""

    since: Tally
    down: datetime
    up: datetime
    report: dict[str, Any]


def run_demo(
    *,
    keep: bool = False,
    folder: Path | None = None,
    rows: int = 200_000,
    clients: int = 100,
    seconds: float = 20,
    json: bool = False,
) -> dict[str, Any]:
    """Runs the demo and returns its figures; `passed` says whether all that must hold does.

    With `keep` everything stays up until Ctrl-C. With `json` the words go to stderr. A folder that was named or
    `.demo` keeps the configuration and the logs.

    Raises:
        RowscoreError: something did not start or did not work; where it is written down is in the message.
        KeyboardInterrupt: Ctrl-C, after everything was stopped.
        SystemExit: SIGTERM or SIGHUP, likewise.
    """
    narrator = Narrator(sys.stderr if json else sys.stdout)
    size = Size(rows, clients, seconds)
    begun = time.monotonic()
    scene = Scene(folder or writable_folder())
    with _told_to_end(narrator), scene:
        figures = _play(scene, narrator, size)
        took = time.monotonic() - begun
        narrator.lines(summary(figures))
        narrator.say(f"\nThe demo took {took:.0f} s.", "dim")
        if keep:
            _stay(scene, narrator)
    narrator.say(f"Every process of it is stopped. Configuration and logs: {shown(scene.folder)}", "dim")
    return {"passed": figures.passed, "seconds": round(took, 1), "folder": str(scene.folder), **asdict(figures)}


@contextmanager
def _told_to_end(narrator: Narrator) -> Iterator[None]:
    """Turns the first signal into an exception, and lets no other one disturb what ends the processes."""

    def end(number: int, _frame: object) -> NoReturn:
        for ignored in ENDING:
            signal.signal(ignored, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    handlers = {number: signal.signal(number, end) for number in ENDING}
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        narrator.say("\nStopped before its end; so is every process that it started.", "bad")
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _play(scene: Scene, narrator: Narrator, size: Size) -> Figures:
    """All steps; what they measured."""
    narrator.title(
        f"rowscore demo: {size.rows:,} rows that wait, then {size.rate:,.0f} inserts a second, "
        "and a model that takes 65 ms a call"
    )
    _set_up(scene, narrator, size)
    _score_existing(scene, narrator, size)
    meter = Meter(scene.postgres.url())
    try:
        episode = _traffic(scene, narrator, size, meter)
        trigger = _trigger(scene, narrator, size)
        return _figures(size, meter, episode, trigger)
    finally:
        meter.close()


def _set_up(scene: Scene, narrator: Narrator, size: Size) -> None:
    narrator.step(
        f"Servers of its own, on free ports of this machine, in {shown(scene.folder)}",
        "PostgreSQL 18, Redis for Celery, and a churn model behind HTTP: 65 ms a call, as AWS measured it.",
    )
    with _timed(narrator, "ready"), narrator.moving("starting"):
        scene.start_servers()
    narrator.step(f"AWS's churn table with {size.rows:,} customers in it")
    with _timed(narrator, "loaded"), psycopg.connect(scene.postgres.url()) as connection:
        churn.create(connection)
        churn.load(connection, size.rows)
    with psycopg.connect(scene.postgres.url(), autocommit=True) as connection:
        connection.execute(churn.statement("analyze", **churn.named(churn.TABLE)))


def _score_existing(scene: Scene, narrator: Narrator, size: Size) -> None:
    said = f"{command()} -c {shown(scene.config)}"
    narrator.step(
        f"$ {said} apply",
        "Adds columns, an index over the rows that wait, and a view. It sends nothing to the model:",
        "rows that were there before wait until somebody asks for them, so that nobody pays by surprise.",
    )
    scene.rowscore(narrator.stream, "apply")
    narrator.step(f"Celery: a worker with {WORKERS} processes, beat (a tick a second), Flower")
    with _timed(narrator, "ready"), narrator.moving("starting"):
        scene.start_celery()
    narrator.step(
        f"$ {said} backfill",
        f"Asks for the {size.rows:,} rows. It may be stopped at any time and goes on from there.",
    )
    scene.rowscore(narrator.stream, "backfill")


def _traffic(scene: Scene, narrator: Narrator, size: Size, meter: Meter) -> Episode:
    """The application inserts, the workers keep up, and the model is killed and comes back."""
    down_for = min(size.seconds * DOWN_FOR, DOWN_MOST)
    narrator.step(
        f"{size.clients} clients insert {size.rate:,.0f} rows a second for {size.seconds:g} s; "
        f"for {down_for:g} of them the model is dead",
        "The application does not know of the model: it inserts, and the workers score what arrives.",
    )
    since = meter.tally()
    process = scene.traffic(
        "traffic", table=churn.TABLE, clients=size.clients, seconds=size.seconds, rate=size.rate
    )
    with narrator.moving("connecting") as show:
        watch = _Watch(meter, since, process, show)
        watch.until(lambda: watch.now.arrived > 0)
        watch.until_second(size.seconds * DOWN_AT)
        scene.endpoint.process.kill()
        down = meter.tally().now
        narrator.say(f"{watch.moment}  model killed (SIGKILL), with calls under way", "bad")
        watch.until_second(size.seconds * DOWN_AT + down_for)
        narrator.say(f"{watch.moment}  model started again; {watch.now.waiting:,} rows wait, no insert does", "good")
        scene.endpoint.start()
        up = meter.tally().now
        watch.until(lambda: not process.alive)
        finished(process)
        narrator.say(f"{watch.moment}  the clients are done: {watch.now.arrived:,} rows arrived")
        _catch_up(watch)
        narrator.say(f"{watch.moment}  nothing waits any more", "good")
    return Episode(since, down, up, measure.read_report(scene.report("traffic")))


def _catch_up(watch: _Watch) -> None:
    deadline = time.monotonic() + CATCH_UP
    watch.until(lambda: watch.now.waiting == 0 or time.monotonic() > deadline)
    if watch.now.waiting:
        raise RowscoreError(f"{watch.now.waiting:,} rows still wait after {CATCH_UP:g} s; the workers' log says why")


def _trigger(scene: Scene, narrator: Narrator, size: Size) -> dict[str, Any]:
    """The same inserts with the model call inside, simulated."""
    lasts = min(size.seconds * TRIGGER_SHARE, TRIGGER_MOST)
    narrator.step(
        f"The same inserts for {lasts:g} s into a table whose trigger calls the model for each row",
        "Simulated: the trigger waits in pg_sleep(65 ms), which has no limit of its own, as a model has.",
    )
    with psycopg.connect(scene.postgres.url()) as connection:
        churn.create_trigger(connection)
    process = scene.traffic(
        "trigger", table=churn.TRIGGER_TABLE, clients=size.clients, seconds=lasts, rate=size.rate
    )
    with narrator.moving("inserting"):
        finished(process)
    report = measure.read_report(scene.report("trigger"))
    narrator.say(f"{report['inserts']:,} inserts, half of them in {report['latency_ms'].get('p50', 0):.0f} ms or less")
    return report


def _figures(size: Size, meter: Meter, episode: Episode, trigger: dict[str, Any]) -> Figures:
    normal, during, catching_up = meter.freshness(episode.since, episode.down, episode.up)
    began = meter.began(episode.since)
    down, up = ((moment - began).total_seconds() for moment in (episode.down, episode.up))
    return Figures(
        existing=size.rows,
        backfill_seconds=meter.backfill_seconds(),
        calls=meter.calls(),
        inserts=measure.latency(episode.report),
        trigger=measure.latency(trigger),
        freshness=normal,
        outage=Outage(up - down, catching_up, measure.slowest(episode.report, down, up), during),
        by_second=meter.by_second(episode.since),
        down=(down, up),
        clients=size.clients,
        facts=meter.facts(episode.since, episode.report, size.rows, VERSION),
    )
