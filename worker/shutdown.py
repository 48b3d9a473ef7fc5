"""How the processes of a worker learn that it shuts down, and how a batch in flight ends; it scores nothing.

Celery tells its parent process alone. The children of its prefork pool are only waited for; SIGTERM, which
an init system may send to all of them at once, raises SystemExit in a child wherever it stands, in a COMMIT
too: the outcome is then unknown, and answers that were paid for are lost. So the parent writes into a pipe
that every child inherits and nobody ever reads empty: a child that starts a drain late sees it as well, one
that is killed takes no lock with it, and a signal handler may write. While a drain runs, SIGTERM only asks it
to end.
"""

from __future__ import annotations

import _thread
import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from worker.log import logger

GRACE = 20.0  # seconds for the batch in flight: orchestrators kill after 30, and the parent has to notice

_log = logger(__name__)


class Shutdown:
    """The end of one worker, announced by its parent process and seen by all that were forked from it.

    Args:
        grace: seconds that a drain has to end after the announcement; then its process is killed, and its
            lease runs out.
    """

    def __init__(self, grace: float = GRACE) -> None:
        self.grace = grace
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._drains = 0
        self._lock = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()

    def announce(self) -> None:
        """Tell every process; may be called from a signal handler, and again."""
        with suppress(BlockingIOError):  # the pipe is full of announcements
            os.write(self._writer, b".")

    @property
    def announced(self) -> bool:
        """Whether the worker shuts down."""
        return self._readable(0)

    def tell(self, stop: threading.Event) -> None:
        """From now on a thread of this process waits for the announcement and sets `stop`."""
        threading.Thread(target=self._watch, args=(stop,), name="rowscore-shutdown", daemon=True).start()

    @contextmanager
    def finishing(self, stop: threading.Event) -> Iterator[None]:
        """A drain at work in this block: SIGTERM sets `stop` in place of ending the process in the middle.

        After the block a SIGTERM that was meant for this process alone (a revoked task) has its way.
        """
        received: list[int] = []
        try:
            with self._counted(), _sigterm_sets(stop, received):
                yield
        finally:
            if received and not self.announced:
                os.kill(os.getpid(), signal.SIGTERM)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._drains += 1
            self._idle.clear()
        try:
            yield
        finally:
            with self._lock:
                self._drains -= 1
                if not self._drains:
                    self._idle.set()

    def _watch(self, stop: threading.Event) -> None:
        self._readable(None)
        stop.set()
        if not self._idle.wait(self.grace):
            _log.error(
                "the batch did not end in time; its window is free when its lease ends", grace=self.grace
            )
            os.kill(os.getpid(), signal.SIGKILL)

    def _readable(self, timeout: float | None) -> bool:
        poller = select.poll()  # select() takes no descriptor above 1023
        poller.register(self._reader, select.POLLIN)
        return bool(poller.poll(timeout))


@contextmanager
def _sigterm_sets(stop: threading.Event, received: list[int]) -> Iterator[None]:
    """Note SIGTERM in the list and set `stop`; only the main thread may ask for signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, _frame: Any) -> None:
        received.append(number)
        # Not here: the main thread may be inside stop.wait() and hold the lock that set() takes.
        _thread.start_new_thread(stop.set, ())

    previous = signal.signal(signal.SIGTERM, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous or signal.SIG_DFL)
