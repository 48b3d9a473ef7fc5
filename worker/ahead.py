"""Takes the next window while the current one is scored and written; it scores and decides nothing.

Where the worker calls the model the window's rows are read as well: reading and writing keep the database busy,
scoring the worker, so one worker that did them in turn reached 0.33 of the one-statement UPDATE, and reading ahead 0.5.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from worker.leases import Idle, Lease
from worker.log import logger
from worker.reading import Reading

_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """A leased window, with its rows where they have been read already."""

    lease: Lease
    reading: Reading | None


class Ahead:
    """At most one window taken in advance, by a thread of its own.

    Args:
        take: takes a window of about so many rows.
        give_back: hands a window back that nobody is going to score.
        once: the run ends: what was found empty stays so, and a second walk over the table, which is rationed, would
            find the same.
    """

    def __init__(
        self, take: Callable[[int], Claim | Idle], give_back: Callable[[Claim], None], *, once: bool
    ) -> None:
        self._take = take
        self._give_back = give_back
        self._once = once
        self._pool: ThreadPoolExecutor | None = None
        self._taken: Future[Claim | Idle] | None = None

    def start(self, rows: int) -> None:
        """Begin to take the window after this one."""
        self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="rowscore-ahead")
        self._taken = self._pool.submit(self._take, rows)

    def next(self, rows: int) -> Claim | Idle:
        """The window that was taken in advance; one that is taken now, where there was none then.

        By the same thread in any case: each thread that reads rows keeps memory for them.
        """
        advanced = self._taken is not None
        taken = self._result(rows)
        if advanced and isinstance(taken, Idle) and not (taken.empty and self._once):
            taken = self._result(rows)
        return taken

    def _result(self, rows: int) -> Claim | Idle:
        if self._taken is None:
            self.start(rows)
        try:
            taken = self._taken.result()  # type: ignore[union-attr]
        except Exception:
            self._taken = None
            raise
        self._taken = None  # and not where Ctrl-C is pressed meanwhile: then `close` hands it back
        return taken

    def close(self) -> None:
        """Hand back what was taken in advance and is not going to be scored; an error there harms nobody."""
        if self._taken is not None:
            try:
                taken = self._taken.result()
                if not isinstance(taken, Idle):
                    self._give_back(taken)
            except Exception as error:
                _log.warning("a window read ahead was not handed back", error=str(error))
            self._taken = None
        if self._pool is not None:
            self._pool.shutdown()
