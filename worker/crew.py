"""Local processes that work on one backfill or rescore: started, watched and ended; each has an engine of its own.

The run in the database is all that they share. One that dies is replaced, and its window is taken over when its lease
ends; when the parent is gone, however it went, they finish their batch and end.
"""

from __future__ import annotations

import _thread
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from worker import backfill
from worker.backfill import BackfillRun
from worker.batch import BatchResult
from worker.config import Configuration
from worker.drain import Summary
from worker.engine import Engine
from worker.errors import RowscoreError
from worker.log import configure_log

MOST_DEATHS = 5  # in a row, without a batch between them
_LOOK = 0.5  # seconds between looks where nobody says anything
_spawn = multiprocessing.get_context("spawn")  # a fork would share sockets, and threads that are gone


@dataclass(slots=True)
class _Member:
    process: SpawnProcess
    told: Connection
    ended: bool = False


class Crew:
    """So many processes on one run.

    Args:
        configuration: what each opens its engine from.
        name: the prediction's name.
        stop: set when they shall end.
        tell: called with each batch's rows, or with None every half second.
        waits: told why one of them waits, or what became of it.
        level: of the processes' logs.
    """

    def __init__(
        self,
        configuration: Configuration,
        name: str,
        run: BackfillRun,
        workers: int,
        *,
        stop: threading.Event,
        tell: Callable[[int | None], None],
        waits: Callable[[str], None],
        level: str = "ERROR",
    ) -> None:
        self._arguments = configuration, name, run, level
        self._workers = workers
        self._stop = stop
        self._tell = tell
        self._waits = waits
        self._members: list[_Member] = []
        self._deaths = 0
        self._error: str | None = None
        self.total = Summary(name)

    def work(self) -> Summary:
        """Until all have ended, and what they did together.

        Raises:
            RowscoreError: one of them could not go on in a way that no waiting mends, or they keep dying.
        """
        started = time.monotonic()
        try:
            self._members = [self._start() for _ in range(self._workers)]
            asked = False
            while self._members:
                if (self._stop.is_set() or self._error) and not asked:
                    asked = True
                    for member in self._members:
                        member.process.terminate()
                self._look(replace=not asked)
        finally:
            for member in self._members:
                member.process.kill()
                member.process.join()
        self.total.seconds = time.monotonic() - started
        if self._error is not None:
            raise RowscoreError(self._error)
        return self.total

    def _start(self) -> _Member:
        told, teller = _spawn.Pipe(duplex=False)
        kind = self._arguments[2].kind.value
        process = _spawn.Process(target=_work, args=(*self._arguments, teller), name=f"rowscore-{kind}")
        process.start()
        teller.close()
        return _Member(process, told)

    def _look(self, *, replace: bool) -> None:
        """Hear what they say, and see who has gone."""
        heard: Any = wait([member.told for member in self._members], timeout=_LOOK)
        for member in list(self._members):
            if member.told not in heard:
                continue
            try:
                self._hear(member, *member.told.recv())
            except (EOFError, OSError):  # its end of the pipe is closed: it has gone
                member.process.join()
                member.told.close()
                self._members.remove(member)
                if not member.ended:
                    self._mourn(member, replace=replace)
        self._tell(None)

    def _hear(self, member: _Member, kind: str, said: Any) -> None:
        if kind == "batch":
            self._deaths = 0
            self._tell(said)
        elif kind == "waits":
            self._waits(said)
        elif kind == "ended":
            member.ended = True
            backfill.merge(self.total, Summary(**said))
        else:
            member.ended = True
            self._error = self._error or said

    def _mourn(self, member: _Member, *, replace: bool) -> None:
        self._deaths += 1
        code = member.process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        if self._deaths > MOST_DEATHS:
            self._error = (
                self._error or f"processes die one after the other; the last one {how}; see --verbose"
            )
        elif replace:
            self._waits(f"process {member.process.pid} {how}; another takes its place")
            self._members.append(self._start())


def _work(configuration: Configuration, name: str, run: BackfillRun, level: str, teller: Connection) -> None:
    """The process: Ctrl-C reaches it as well, but it is the parent who says when to end."""
    configure_log(level)
    engine = Engine(configuration)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Not in the handler: the main thread may be inside stop.wait() and hold the lock that set() takes.
    signal.signal(signal.SIGTERM, lambda *_: _thread.start_new_thread(engine.stop.set, ()))
    threading.Thread(target=_outlive, args=(engine.stop,), name="rowscore-parent", daemon=True).start()

    def tell(kind: str, said: Any) -> None:
        try:
            teller.send((kind, said))
        except OSError:  # the parent is gone
            engine.stop.set()

    def progress(_: Summary, result: BatchResult) -> None:
        tell("batch", result.taken)

    try:
        summary = backfill.work(engine, name, run, progress, lambda reason: tell("waits", reason))
        tell("ended", summary.as_dict())
    except RowscoreError as error:
        tell("failed", str(error))
    finally:
        engine.dispose()
        teller.close()


def _outlive(stop: threading.Event) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        stop.set()
