"""How processes learn of the end: real forks, pipes and signals."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest

from worker.shutdown import Shutdown

WAIT = 20.0  # seconds at most for what takes none


def forked(child: Callable[[], int]) -> int:
    """The process number of a fork that runs the function and ends with its status."""
    pid = os.fork()
    if pid:
        return pid
    try:
        status = child()
    except SystemExit:
        status = 99
    finally:
        os._exit(status)


def ended(pid: int) -> int:
    """How it ended: its status, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def obedient(shutdown: Shutdown) -> Callable[[], int]:
    """A child that drains until it is told to stop."""

    def child() -> int:
        stop = threading.Event()
        shutdown.tell(stop)
        with shutdown.finishing(stop):
            return 7 if stop.wait(WAIT) else 1

    return child


def test_every_process_sees_the_end_one_that_was_forked_after_it_too() -> None:
    shutdown = Shutdown()
    early = forked(obedient(shutdown))
    assert not shutdown.announced
    shutdown.announce()
    late = forked(obedient(shutdown))
    assert shutdown.announced
    assert [ended(early), ended(late)] == [7, 7]


def test_announcing_without_end_does_not_block() -> None:
    shutdown = Shutdown()
    for _ in range(100_000):
        shutdown.announce()
    assert shutdown.announced


def test_a_drain_that_does_not_end_in_time_is_killed() -> None:
    shutdown = Shutdown(grace=0.1)

    def child() -> int:
        stop = threading.Event()
        shutdown.tell(stop)
        with shutdown.finishing(stop):
            shutdown.announce()
            threading.Event().wait(WAIT)
        return 1

    assert ended(forked(child)) == -signal.SIGKILL


def test_an_idle_process_is_not_killed() -> None:
    shutdown = Shutdown(grace=0.0)

    def child() -> int:
        stop = threading.Event()
        with shutdown.finishing(stop):
            pass
        shutdown.tell(stop)
        stop.wait(WAIT)
        return 7

    pid = forked(child)
    shutdown.announce()
    assert ended(pid) == 7


@pytest.mark.parametrize(("announced", "status"), [(True, 7), (False, 99)])
def test_sigterm_lets_the_batch_end_and_then_the_process_unless_the_worker_ends_anyway(
    announced: bool, status: int
) -> None:
    shutdown = Shutdown()

    def child() -> int:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(99))
        stop = threading.Event()
        with shutdown.finishing(stop):
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.wait(WAIT)
            if announced:
                shutdown.announce()
        return 7

    assert ended(forked(child)) == status


def test_outside_the_main_thread_no_signal_is_touched() -> None:
    shutdown = Shutdown()
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def drain() -> None:
        with shutdown.finishing(threading.Event()):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=drain)
    thread.start()
    thread.join()
    assert seen == [before]
