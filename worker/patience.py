"""How often a request is repeated before its failure counts, and the waits between; it sends nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential_jitter

from worker.errors import ServiceTimeoutError, ServiceUnavailableError, ThrottledError

_Result = TypeVar("_Result")


class Repeating(Retrying):
    """Tenacity's loop without the cycle of references that it leaves behind.

    It keeps the last call's steps, which keep it, and with them the call's arguments: a batch's rows lay in memory
    until the garbage collector came, which took 0.6 µs a row.
    """

    def __call__(self, fn: Callable[..., _Result], *args: Any, **kwargs: Any) -> _Result:
        """See tenacity."""
        try:
            return super().__call__(fn, *args, **kwargs)
        finally:
            self.iter_state.reset()


class StoppedError(Exception):
    """The process is asked to stop, so a wait ended before its time."""


@dataclass(frozen=True, slots=True)
class Patience:
    """The bounds of repeating one request.

    Attributes:
        attempts: how often a request that fails for the service's temporary fault is sent, the first
            included.
        first_wait: seconds before the second attempt; doubled for each further one, with jitter of the same
            size.
        longest_wait: seconds at most between two attempts; a service that asks for more is not asked again.
        throttle_waits: how often a throttled request waits, over and above the attempts.
        throttle_wait: seconds of the first such wait where the service names none.
        throttle_seconds: all such waits together.
    """

    attempts: int = 3
    first_wait: float = 0.2
    longest_wait: float = 2.0
    throttle_waits: int = 2
    throttle_wait: float = 1.0
    throttle_seconds: float = 10.0

    def call(
        self, call: Callable[[], _Result], stop: threading.Event, note: Callable[[bool, bool], object]
    ) -> _Result:
        """What `call` returns, after as many attempts as its errors deserve; the last error is raised.

        Timeouts are not repeated: the same rows would time out again.

        Args:
            call: sends the request.
            stop: ends a wait at once when set.
            note: told of each repeatable failure whether it was throttling and whether the request is sent
                again.

        Raises:
            StoppedError: `stop` was set while waiting.
        """
        course = _Course(self, stop, note)
        return Repeating(
            retry=retry_if_exception(_is_repeatable),
            wait=course.wait,
            stop=course.is_over,
            sleep=course.sleep,
            reraise=True,
        )(call)


DEFAULT_PATIENCE = Patience()


def _is_repeatable(error: BaseException) -> bool:
    return isinstance(error, (ServiceUnavailableError, ThrottledError)) and not isinstance(
        error, ServiceTimeoutError
    )


class _Course:
    """The failures of one request so far."""

    def __init__(
        self, patience: Patience, stop: threading.Event, note: Callable[[bool, bool], object]
    ) -> None:
        self._patience = patience
        self._stop = stop
        self._note = note
        self._failures = 0
        self._throttles = 0
        self._throttled_for = 0.0
        self._backoff = _doubling(patience.first_wait, patience.longest_wait)
        self._throttle_backoff = _doubling(patience.throttle_wait, patience.throttle_seconds)

    def wait(self, state: RetryCallState) -> float:
        error = _error_of(state)
        if error.retry_after is not None:
            return error.retry_after
        return (self._throttle_backoff if isinstance(error, ThrottledError) else self._backoff)(state)

    def is_over(self, state: RetryCallState) -> bool:
        throttled = isinstance(_error_of(state), ThrottledError)
        if throttled:
            self._throttles += 1
            self._throttled_for += state.upcoming_sleep
            over = self._throttles > self._patience.throttle_waits
            over = over or self._throttled_for > self._patience.throttle_seconds
        else:
            self._failures += 1
            over = (
                self._failures >= self._patience.attempts
                or state.upcoming_sleep > self._patience.longest_wait
            )
        self._note(throttled, not over)
        return over

    def sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise StoppedError


def _doubling(first: float, longest: float) -> wait_exponential_jitter:
    return wait_exponential_jitter(multiplier=first, max=longest, jitter=first)


def _error_of(state: RetryCallState) -> ServiceUnavailableError | ThrottledError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, (ServiceUnavailableError, ThrottledError))  # noqa: S101 - `retry` asks for these alone
    return error
