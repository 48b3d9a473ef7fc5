"""What servers with data share: a private folder, an account that is not root, what a killed run left; no server.

Database servers refuse to run as root, so here root runs them as `nobody`, in a private temporary folder; an
ordinary user runs them in the folder that was named.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from worker.demo.loopback import Server
from worker.demo.process import Account, Process, ProcessError, popen_identity, stop_leftover

PREFIX = "rowscore-"  # of the temporary folder that root makes


class PrivateServer(Server):
    """A server whose data begin empty and are removed at the end, unless `keep` is true.

    With `keep` a later server of the same folder finds them. A subclass names itself, and its program in errors.
    """

    name: ClassVar[str]  # of its files
    title: ClassVar[str]  # of the program, for people
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    grace: ClassVar[float] = 20.0  # seconds for an orderly end, which writes a checkpoint
    environment: Mapping[str, str] = {"LC_ALL": "C", "TZ": "UTC"}  # English: logs are searched for words
    advice: ClassVar[str] = "Are the settings right, and is there disk space?"

    def __init__(self, folder: Path, *, keep: bool = False) -> None:
        super().__init__(folder)
        self.keep = keep
        self._account = Account.unprivileged() if os.geteuid() == 0 else None
        self._pointer = self.folder / f"{self.name}.home"

    @property
    def home(self) -> Path:
        """The folder that belongs to the server's account; it holds `data`."""
        if self._account is None:
            return self.folder / self.name
        with suppress(FileNotFoundError):
            known = Path(self._pointer.read_text())
            if known.name.startswith(PREFIX) and known.lstat().st_uid == self._account.uid:
                return known  # and nothing else is ever removed, whatever the file says
        home = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._reachable_folder()))
        os.chown(home, self._account.uid, self._account.gid)
        self._pointer.write_text(str(home))
        return home

    @property
    def data(self) -> Path:
        """The server's data directory."""
        return self.home / "data"

    def kill(self) -> None:
        """Ends it without warning, as a crash would; `start` starts it again over its data."""
        self.process.kill()

    def _launch(self, command: Sequence[str | Path], ready: Callable[[], bool]) -> None:
        """Starts the server's process as its account, and returns once it is ready."""
        self._process = Process(
            self.name,
            command,
            self.folder,
            env=self.environment,
            cwd=self.home,
            account=self._account,
            stop_signal=self.stop_signal,
            grace=self.grace,
            advice=self.advice,
        )
        self._process.start(ready, timeout=60)

    def _reachable_folder(self) -> str:
        candidates = (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  mkdtemp's name is private
        for candidate in candidates:
            if self._may_run(Path(candidate)):
                return candidate
        raise ProcessError(f"no temporary folder is open to other users: looked at {', '.join(candidates)}")

    def _may_run(self, path: Path) -> bool:
        """Whether the account can run a program or enter a folder; tried, since modes do not tell all."""
        try:
            asked = self._run("/bin/sh", "-c", 'test -x "$0"', path, cwd=Path("/"))
        except (OSError, subprocess.SubprocessError) as exc:
            raise ProcessError(
                f"{self.title} does not run as root, and root may not run it as another user here ({exc}): "
                "run this as an ordinary user"
            ) from exc
        return asked.returncode == 0

    def _run(self, *command: str | Path, cwd: Path, words: str = "") -> subprocess.CompletedProcess[str]:
        """Runs a command to its end as the server's account; `words` are its input."""
        return subprocess.run(  # type: ignore[call-overload,no-any-return]  # popen_identity's names are Popen's
            [str(word) for word in command],
            cwd=cwd,
            env={**os.environ, **self.environment},
            input=words,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            **popen_identity(self._account),
        )

    def _write(self, path: Path, lines: Sequence[str]) -> None:
        path.write_text("\n".join(lines) + "\n")
        self._hand_over(path)

    def _hand_over(self, folder: Path) -> None:
        """Gives a file, or a folder and all in it, to the server's account."""
        if self._account is None:
            return
        os.chown(folder, self._account.uid, self._account.gid)
        for where, folders, files in os.walk(folder):
            for name in (*folders, *files):
                os.chown(Path(where, name), self._account.uid, self._account.gid, follow_symlinks=False)

    def clear(self) -> None:
        """Ends what a killed run left, and removes its data."""
        stop_leftover(self.folder / f"{self.name}.pid", self.stop_signal, self.grace)
        if not self.keep:
            self._discard()

    def _discard(self) -> None:
        """Removes the data, and what a killed run left."""
        if self._account is None or self._pointer.exists():
            remove(self.home)
        self._pointer.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clear()
        try:
            return self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if not self.keep:
            self._discard()


def remove(folder: Path) -> None:
    """Removes a folder and all in it, if it is there."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
