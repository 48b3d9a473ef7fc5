"""Child processes of the demo and the tests: start, wait until ready, stop; it knows no particular server.

Each process has a session of its own, so that the terminal's Ctrl-C reaches only the parent, which then stops
its children in order. A record in the folder names the process and its parent, so that what a killed parent
left behind is found and stopped by the next run.
"""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psutil

from worker.errors import RowscoreError

POLL = 0.02  # seconds between two looks at a process that starts or stops
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # what asks a process to end
SAME_BIRTH = 5.0  # seconds by which the clock may have been set between two readings of a process's start


class ProcessError(RowscoreError):
    """A process of the demo did not start."""


class FolderInUseError(RowscoreError):
    """Another run uses this folder."""


@dataclass(frozen=True, slots=True)
class Account:
    """The operating system's account that a process runs as."""

    uid: int
    gid: int

    @classmethod
    def unprivileged(cls) -> Account:
        """The account without rights that every Unix has: PostgreSQL refuses to run as root."""
        for name in ("nobody", "daemon"):
            with suppress(KeyError):
                entry = pwd.getpwnam(name)
                return cls(entry.pw_uid, entry.pw_gid)
        return cls(65534, 65534)


def popen_identity(account: Account | None) -> dict[str, object]:
    """The arguments that make `subprocess` run a command as the account; None is the caller's own."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


@dataclass(frozen=True, slots=True)
class Record:
    """Which process runs and who started it; a start time tells it from a later one of the same number."""

    pid: int
    started: float
    parent: int
    parent_started: float

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """The record in a file, or None where there is none or half of one."""
        try:
            return cls(**json.loads(path.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Replaces the file in one step."""
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(path)


def born(pid: int) -> float | None:
    """When the process started (epoch seconds), or None if it does not run."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return None


def runs(pid: int, started: float) -> bool:
    """Whether the process with this number is still the one that started then."""
    birth = born(pid)
    return birth is not None and abs(birth - started) < SAME_BIRTH


def stop_leftover(path: Path, stop_signal: signal.Signals, grace: float) -> None:
    """Stops the process of an earlier run whose parent died, as recorded in `path`.

    Raises FolderInUseError if the parent is alive: then it is not a leftover.
    """
    record = Record.read(path)
    if record is not None and runs(record.pid, record.started):
        if runs(record.parent, record.parent_started):
            raise FolderInUseError(
                f"{path.parent} is in use by process {record.parent}; stop that one or name another folder"
            )
        with suppress(ProcessLookupError):
            os.kill(record.pid, stop_signal)
        deadline = time.monotonic() + grace
        while runs(record.pid, record.started) and time.monotonic() < deadline:
            time.sleep(POLL)
        kill_group(record.pid, leader_runs=runs(record.pid, record.started))
    path.unlink(missing_ok=True)


def kill_group(pid: int, *, leader_runs: bool) -> None:
    """Kills what is left of a process group, unless its number is another process's by now."""
    if not leader_runs and born(pid) is not None:
        return
    with suppress(ProcessLookupError, PermissionError):  # macOS says PermissionError of a group of zombies
        os.killpg(pid, signal.SIGKILL)


@contextmanager
def _signals_later() -> Iterator[None]:
    """Keeps the signals that raise exceptions for the end of the block.

    An exception between the fork and the record would leave a process behind that nobody knows of. The
    signals are not blocked, for the new process would inherit that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    handlers = {number: signal.getsignal(number) for number in ENDING if callable(signal.getsignal(number))}
    for ending in handlers:
        signal.signal(ending, lambda number, _frame: caught.append(number))
    try:
        yield
    finally:
        for ending, handler in handlers.items():
            signal.signal(ending, handler)
        for number in caught:
            signal.raise_signal(number)


class Process:
    """One child process with a log file and a record in `folder`, both named after it.

    `start` may be called again after `stop`; the log grows, `output` and errors show the newest run only.
    With `terminal` the process writes to that stream instead, and its log stays empty.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        folder: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        account: Account | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace: float = 10.0,
        terminal: IO[str] | None = None,
        advice: str = "Read the log, mend the cause and start again.",
    ) -> None:
        self.name = name
        self.command = [str(word) for word in command]
        self.folder = folder
        self.log = folder / f"{name}.log"
        self.record = folder / f"{name}.pid"
        self.grace = grace
        self._env = env
        self._cwd = cwd
        self._account = account
        self._signal = stop_signal
        self._terminal = terminal
        self._advice = advice
        self._offset = 0
        self._asked = False
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's number; it must have been started."""
        if self._popen is None:
            raise ProcessError(f"{self.name} has not been started")
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether it runs now."""
        return self._popen is not None and self._popen.poll() is None

    def output(self) -> str:
        """What it has written, to stdout and stderr, since it was started last."""
        with self.log.open("rb") as log:
            log.seek(self._offset)
            return log.read().decode(errors="replace")

    def start(self, ready: Callable[[], bool] = lambda: True, *, timeout: float = 30.0) -> Self:
        """Starts it and returns once `ready()` is true; an OSError from `ready` means not yet.

        Raises ProcessError with the end of the log if it exits first or takes longer than `timeout` seconds.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        stop_leftover(self.record, self._signal, self.grace)
        try:
            with _signals_later():
                self._spawn()
            self.await_ready(ready, timeout=timeout)
        except BaseException:
            self.stop()
            raise
        return self

    def wait(self) -> int:
        """Waits until it ends by itself; its exit status."""
        if self._popen is None:
            raise ProcessError(f"{self.name} has not been started")
        status = self._popen.wait()
        self.record.unlink(missing_ok=True)
        return status

    def ask_to_end(self) -> None:
        """Sends it its signal, once, and does not wait: several processes end side by side."""
        if self._popen is not None and self.alive and not self._asked:
            self._asked = True
            self._popen.send_signal(self._signal)

    def stop(self) -> int | None:
        """Asks it to end and kills it after `grace` seconds; the exit status, None if never started."""
        if self._popen is None:
            return None
        self.ask_to_end()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(self.grace)
        kill_group(self._popen.pid, leader_runs=self.alive)
        status = self._popen.wait()
        self.record.unlink(missing_ok=True)
        return status

    def kill(self) -> None:
        """Ends it and its group without warning, as a crash would."""
        kill_group(self.pid, leader_runs=self.alive)
        self.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self._offset = log.tell()
            self._asked = False
            try:
                self._popen = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=self._terminal or log,
                    stderr=None if self._terminal else subprocess.STDOUT,
                    env=None if self._env is None else {**os.environ, **self._env},
                    cwd=self._cwd,
                    start_new_session=True,
                    **popen_identity(self._account),  # type: ignore[call-overload]  # its names are Popen's own
                )
            except OSError as exc:
                raise ProcessError(f"{self.name} did not start: {exc}. {self._advice}") from exc
        me = os.getpid()
        Record(self.pid, born(self.pid) or time.time(), me, born(me) or 0.0).write(self.record)

    def await_ready(self, ready: Callable[[], bool], *, timeout: float = 30.0) -> None:
        """Returns once `ready()` is true, as `start` does, which it may follow."""
        if self._popen is None:
            raise ProcessError(f"{self.name} has not been started")
        deadline = time.monotonic() + timeout
        while not self._is_ready(ready):
            with suppress(subprocess.TimeoutExpired):
                raise self._failure(f"it ended with status {self._popen.wait(POLL)}")
            if time.monotonic() > deadline:
                raise self._failure(f"it was not ready after {timeout:g} seconds")

    @staticmethod
    def _is_ready(ready: Callable[[], bool]) -> bool:
        try:
            return ready()
        except OSError:
            return False

    def _failure(self, reason: str) -> ProcessError:
        last = "".join(f"\n    {line}" for line in self.output().splitlines()[-12:])
        reason = f"{self.name} did not start: {reason}. The end of {self.log}:"
        return ProcessError(f"{reason}{last}\n{self._advice}")
