"""An embedded MariaDB or MySQL for the demo and the tests; not for data that matters: a machine's crash loses them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pymysql

from worker.demo.installs import Install, mariadb_install
from worker.demo.loopback import LOOPBACK
from worker.demo.private import PrivateServer, remove
from worker.demo.process import ProcessError

FAST_SETTINGS: Mapping[str, str | None] = {
    "max_connections": "200",
    "innodb_buffer_pool_size": "128M",
    "innodb_flush_log_at_trx_commit": "0",
    "innodb_doublewrite": "OFF",
    "innodb_flush_method": "nosync",
    "sync_binlog": "0",
    "skip_log_bin": None,  # a later log_bin = "binlog" turns it on
}
"""Fast on a small machine, safe against killed processes, not against a crash of the machine."""

PATIENCE = 1.0  # seconds for an answer: the program that took the port first may be a silent one
ROOT = f"'root'@'{LOOPBACK}'"
MYSQL_ROOT = f"CREATE USER {ROOT}; GRANT ALL ON *.* TO {ROOT} WITH GRANT OPTION;"
MARIADB_TABLES = (
    "*_system_tables.sql",  # mysql_ in older versions, mariadb_ in newer ones
    "*_performance_tables.sql",
    "*_system_tables_data.sql",
    "maria_add_gis_sp_bootstrap.sql",
    "*_sys_schema.sql",
)


def option(name: str, value: str | None) -> str:
    """A line of the option file; a name without a value is a flag."""
    if value is None:
        return name
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name} = "{escaped}"'


class MySQLServer(PrivateServer):
    """A MariaDB or MySQL on a port of the loopback interface, until the `with` block ends; root has no password.

    Data begin empty and are removed at the end, unless `keep` is true: then a later server of the same folder
    finds them. `install` is what to run, MariaDB unless it says otherwise. `settings` are lines of its option file,
    None for a flag, in this order; they may be changed between `stop` and `start`. It has no socket but TCP's.
    """

    name = "mysql"
    title = "MariaDB or MySQL"
    advice = "Are the settings right, and is there disk space and memory (innodb_buffer_pool_size)?"

    def __init__(
        self,
        folder: Path,
        *,
        settings: Mapping[str, str | None] = FAST_SETTINGS,
        keep: bool = False,
        install: Install | None = None,
    ) -> None:
        super().__init__(folder, keep=keep)
        self.settings = dict(settings)
        self._chosen = install

    def url(self, database: str = "mysql", *, user: str = "root") -> str:
        """The URL of a database; any local program can connect with it."""
        return f"mysql+pymysql://{user}@{self.address}/{database}"

    @property
    def install(self) -> Install:
        """What runs."""
        self._chosen = self._chosen or mariadb_install()
        return self._chosen

    @property
    def options(self) -> Path:
        """The one option file that the server reads."""
        return self.home / "my.cnf"

    def _start(self, port: int) -> None:
        self.home.mkdir(mode=0o700, exist_ok=True)
        install = self._reachable(self.install)
        self._configure(install, port)
        command = [*install.command, f"--defaults-file={self.options}"]
        ready = self.home / "initialised"
        if not ready.exists():
            self._initialise(install, command)
            ready.touch()
        self._launch(command, lambda: self._is_ready(port))

    def _reachable(self, install: Install) -> Install:
        """The install, or a copy that the account can read."""
        if self._account is None or self._may_run(install.program):
            return install
        if install.root is None:
            raise ProcessError(f"{install.program} can not be run by other users than root")
        copy = self.home / "install"
        if not copy.exists():
            shutil.copytree(install.root, copy, symlinks=True, copy_function=link_or_copy)
        return install.moved(copy)

    def _configure(self, install: Install, port: int) -> None:
        fixed: dict[str, str | None] = {
            "datadir": str(self.data),
            "tmpdir": str(self.home),
            "lc_messages_dir": str(install.share),
            "character_sets_dir": str(install.share / "charsets"),
            "port": str(port),
            "bind_address": LOOPBACK,
            "socket": "",
            "pid_file": str(self.home / "pid"),
            "secure_file_priv": "",
            "skip_name_resolve": "ON",
            "character_set_server": "utf8mb4",
            "innodb_autoinc_lock_mode": "2",
            **({"binlog_format": "ROW"} if install.flavour == "mariadb" else {"mysqlx": "OFF"}),
        }
        if install.root is not None:  # else it looks where its package would have been installed
            fixed |= {"basedir": f"{install.root}/usr", "plugin_dir": f"{install.root}/usr/lib/mysql/plugin"}
        lines = [option(name, value) for name, value in {**fixed, **self.settings}.items()]
        self._write(self.options, ["[mysqld]", *lines])

    def _initialise(self, install: Install, command: Sequence[str]) -> None:
        remove(self.data)  # half of one, if a run was killed while it made it
        command, words = [*command, "--skip-log-bin"], ""
        if install.flavour == "mariadb":
            self.data.mkdir()
            self._hand_over(self.data)
            command, words = [*command, "--bootstrap"], mariadb_tables(install)
        else:
            accounts = self.home / "accounts.sql"
            self._write(accounts, [MYSQL_ROOT])
            command += ["--initialize-insecure", f"--init-file={accounts}"]
        done = self._run(*command, cwd=self.home, words=words)
        if done.returncode != 0:
            raise ProcessError(
                f"{install.title} made no data in {self.home}. It says:\n{done.stdout}{done.stderr}"
            )

    def _is_ready(self, port: int) -> bool:
        """Whether this server, and not another one that took the port first, takes connections."""
        try:
            with pymysql.connect(
                host=LOOPBACK, port=port, user="root", connect_timeout=PATIENCE, read_timeout=PATIENCE
            ) as connection:
                cursor = connection.cursor()
                cursor.execute("SELECT @@datadir")
                answer = cursor.fetchone()
        except pymysql.MySQLError:
            return False
        return answer is not None and self.data.samefile(answer[0])


def mariadb_tables(install: Install) -> str:
    """What mariadb-install-db sends to a server that begins: the system tables, and root without a password."""
    files = [path for pattern in MARIADB_TABLES for path in sorted(install.share.glob(pattern))]
    return "\n".join(["CREATE DATABASE mysql;", "USE mysql;", *(path.read_text() for path in files)])


def link_or_copy(source: str, target: str) -> str:
    """Makes a file appear a second time, at no cost where both folders are on one disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
