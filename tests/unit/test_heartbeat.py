"""The file that a health check looks at: touched by a worker's heart and by a beat's messages, and else by nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import signals

from worker.heartbeat import VARIABLE, connect_heartbeat

SIGNALS = (signals.heartbeat_sent, signals.beat_init, signals.after_task_publish)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = [(signal, list(signal.receivers or ())) for signal in SIGNALS]
    yield
    for signal, receivers in before:
        signal.receivers = receivers
        signal.sender_receivers_cache.clear()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file, which signals touch from now on."""
    connect_heartbeat({VARIABLE: str(tmp_path / "heartbeat")})
    return tmp_path / "heartbeat"


def test_a_workers_heart_touches_it(file: Path) -> None:
    assert not file.exists()
    signals.heartbeat_sent.send(sender=None)
    assert file.exists()


def test_a_beats_message_touches_it(file: Path) -> None:
    signals.beat_init.send(sender=None)
    assert not file.exists()
    signals.after_task_publish.send(sender="rowscore.tick")
    assert file.exists()


def test_a_message_of_a_workers_task_does_not(file: Path) -> None:
    signals.after_task_publish.send(sender="rowscore.drain")
    assert not file.exists()


def test_a_file_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    connect_heartbeat({VARIABLE: str(tmp_path / "missing" / "heartbeat")})
    ((_, answer),) = signals.heartbeat_sent.send(sender=None)
    assert isinstance(answer, FileNotFoundError)


def test_without_the_variable_nothing_is_connected() -> None:
    before = [len(signal.receivers or ()) for signal in SIGNALS]
    connect_heartbeat({})
    assert [len(signal.receivers or ()) for signal in SIGNALS] == before
