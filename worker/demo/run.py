"""`rowscore demo`: all of rowscore on this machine, step by step; each step's work is in another module.

Ctrl-C, SIGTERM and SIGHUP end it at any moment, and every process that it started with it.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from worker.demo import churn, measure
from worker.demo.connections import connect
from worker.demo.episode import Episode, Size, compare_trigger, insert_and_score
from worker.demo.measure import Figures, Meter, Outage
from worker.demo.narrator import Narrator
from worker.demo.process import ENDING
from worker.demo.scene import VERSION, WORKERS, Scene, command, shown, writable_folder
from worker.demo.summary import Line, duration, summary

STOPPING = "Stopping every process that it started ..."


def run_demo(
    *,
    keep: bool = False,
    folder: Path | None = None,
    rows: int = 200_000,
    clients: int = 100,
    seconds: float = 20,
    database: str = "postgresql",
    json: bool = False,
) -> dict[str, Any]:
    """Runs the demo and returns its figures; `passed` says whether all that must hold does.

    With `keep` everything stays up until Ctrl-C. With `json` the words go to stderr. The folder
    (`.demo` unless it is named) keeps the configuration and the logs.

    Raises:
        RowscoreError: something did not start or did not work; where it is written down is in the message.
        KeyboardInterrupt: Ctrl-C, after everything was stopped.
        SystemExit: SIGTERM or SIGHUP, likewise.
    """
    narrator = Narrator(sys.stderr if json else sys.stdout)
    size = Size(rows, clients, seconds)
    begun = time.monotonic()
    scene = Scene(folder or writable_folder(), database)
    with _told_to_end(narrator), scene, _saying(narrator, STOPPING):
        figures = _play(scene, narrator, size)
        took = time.monotonic() - begun
        narrator.lines(summary(figures))
        if keep:
            _stay(scene, narrator)
        narrator.lines([Line(STOPPING, "dim")])
    ended = f"Done after {took:.0f} s. Configuration and logs are in {shown(scene.folder)}."
    narrator.title(ended)
    return {
        "passed": figures.passed,
        "seconds": round(took, 1),
        "folder": str(scene.folder),
        **asdict(figures),
    }


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
        with _saying(narrator, "Stopped before its end."):
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _saying(narrator: Narrator, text: str) -> Iterator[None]:
    """Says it if a signal ends the block."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        narrator.lines([Line(text, "bad")])
        raise


def _play(scene: Scene, narrator: Narrator, size: Size) -> Figures:
    """All steps; what they measured."""
    narrator.title(
        f"rowscore demo on {scene.database.label}: {size.rows:,} rows, then {size.rate:,.0f} inserts a second, "
        "and a model that takes 65 ms a call"
    )
    _set_up(scene, narrator, size)
    _score_existing(scene, narrator, size)
    meter = Meter(scene.database.url)
    try:
        episode = insert_and_score(scene, narrator, size, meter)
        trigger = compare_trigger(scene, narrator, size)
        return _figures(scene, size, meter, episode, trigger)
    finally:
        meter.close()


def _set_up(scene: Scene, narrator: Narrator, size: Size) -> None:
    narrator.step(
        f"Servers of its own, on free ports of this machine, in {shown(scene.folder)}",
        f"{scene.database.title}, Redis for Celery, and a churn model behind HTTP: 65 ms a call, as AWS measured it.",
    )
    with _timed(narrator, "ready"), narrator.moving("starting"):
        scene.start_servers()
    narrator.step(f"AWS's churn table with {size.rows:,} customers in it")
    with _timed(narrator, "loaded"), connect(scene.database.url) as connection:
        churn.create(connection)
        churn.load(connection, size.rows)
        churn.analyze(connection)


def _score_existing(scene: Scene, narrator: Narrator, size: Size) -> None:
    narrator.step(
        "rowscore apply",
        "Adds columns, an index over the rows that wait, and a view. It sends nothing to the model:",
        "rows that were there before wait until somebody asks for them, so that nobody pays by surprise.",
    )
    _rowscore(scene, narrator, "apply")
    narrator.step(f"Celery: a worker with {WORKERS} processes, beat (a tick a second), Flower")
    with _timed(narrator, "ready"), narrator.moving("starting"):
        scene.start_celery()
    narrator.step(
        "rowscore backfill",
        f"Asks for the {size.rows:,} rows. It may be stopped at any time and goes on from there.",
    )
    _rowscore(scene, narrator, "backfill")


def _rowscore(scene: Scene, narrator: Narrator, word: str) -> None:
    """A command as a person types it, and what it says."""
    narrator.say(f"$ {command()} -c {shown(scene.config)} {word}")
    scene.rowscore(narrator.stream, word)


def _figures(scene: Scene, size: Size, meter: Meter, episode: Episode, trigger: dict[str, Any]) -> Figures:
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
        database=scene.database.title,
        sleep=scene.database.sleep,
        facts=meter.facts(episode.since, episode.report, size.rows, VERSION),
    )


@contextmanager
def _timed(narrator: Narrator, word: str) -> Iterator[None]:
    """Says how long the block took."""
    begun = time.monotonic()
    yield
    narrator.say(f"{word} in {duration(time.monotonic() - begun)}")


def _stay(scene: Scene, narrator: Narrator) -> None:
    """Leaves everything up, says where it is, and waits for Ctrl-C, which is here the ordinary end."""
    said = f"{command()} -c {shown(scene.config)}"
    url, client = scene.database.url, scene.database.client
    with suppress(KeyboardInterrupt):
        narrator.lines(
            [
                Line("Everything is up until Ctrl-C", "strong"),
                Line(f"  {scene.database.label:<10}  {url}"),
                Line(f"  Redis       {scene.redis.url()}"),
                Line(f"  model       {scene.endpoint.url}"),
                Line(f"  Flower      {scene.flower_url}"),
                Line(f"  logs        {shown(scene.folder)}"),
                Line("Try, in another terminal", "strong"),
                Line(f"  {said} status"),
                Line(f"  {said} explain"),
                Line(f"  {shown(Path(sys.executable))} -m worker.demo.traffic --url {url}"),
                *([Line(f"  {client}")] if client else []),
            ]
        )
        signal.pause()
