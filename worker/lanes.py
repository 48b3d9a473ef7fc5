"""Batches under way at once, settled in the order in which they began; it decides nothing.

While one batch is written the model is asked about the next one. Without that an endpoint of four places, 65 ms a call
and 2,048 rows a call stood idle for 0.63 of the time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from worker.batch import BatchResult

AT_ONCE = (
    3  # one is written, one is asked about, and the first calls of the next fill the places that get free
)


Work = Callable[[Callable[[], None]], BatchResult]
"""Scores a batch; it calls its argument once the model has answered, and what is left is to write."""


class Lanes:
    """At most `AT_ONCE` batches, each in a thread; one alone is scored by whoever begins it."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._begun: deque[Future[BatchResult]] = deque()
        self._answered = threading.Event()

    def __len__(self) -> int:
        return len(self._begun)

    def begin(self, work: Work, *, beside: bool) -> None:
        """Score a batch; `beside`: by a thread of its own, so that others can begin before it ends."""
        self._answered = answered = threading.Event()
        if beside or self._begun:
            self._pool = self._pool or ThreadPoolExecutor(AT_ONCE, thread_name_prefix="rowscore-lane")
            begun = self._pool.submit(work, answered.set)
            begun.add_done_callback(lambda _: answered.set())
            self._begun.append(begun)
            return
        done: Future[BatchResult] = Future()
        done.set_result(work(answered.set))
        self._begun.append(done)

    def wait(self) -> None:
        """Until the model has answered for the batch that began last, or the batch has ended."""
        self._answered.wait()

    def settle(self) -> BatchResult:
        """What became of the oldest batch, once it has ended.

        Raises:
            Exception: whatever scoring it raised.
        """
        done = self._begun[0]
        try:
            return done.result()
        finally:
            if done.done():  # and not where Ctrl-C is pressed meanwhile
                self._begun.popleft()

    def rest(self) -> Iterator[BatchResult]:
        """What becomes of those that are still under way; the first error is raised when all have ended."""
        error: Exception | None = None
        while self._begun:
            try:
                yield self.settle()
            except Exception as found:
                error = error or found
        if error is not None:
            raise error

    def close(self) -> None:
        """Let the threads go; nothing is under way any more."""
        if self._pool is not None:
            self._pool.shutdown()
