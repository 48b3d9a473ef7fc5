"""The databases that `rowscore demo` can show: an embedded server of each, and the words in which they differ."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from worker.demo.churn import SCHEMA
from worker.demo.connections import connect
from worker.demo.installs import Install, mariadb_install, mysql_install
from worker.demo.loopback import LOOPBACK
from worker.demo.mysql import FAST_SETTINGS, MySQLServer
from worker.demo.postgres import PostgresServer
from worker.demo.private import PrivateServer

MYSQL_SETTINGS = {**FAST_SETTINGS, "max_connections": "300", "innodb_buffer_pool_size": "256M"}
SERVERS: tuple[type[PrivateServer], ...] = (PostgresServer, MySQLServer)


class DemoDatabase(ABC):
    """A database of the demo: its server, which the caller starts, and what to call it.

    Attributes:
        label: its name for people.
        sleep: what stands for the model call in the simulated trigger.
    """

    label: ClassVar[str]
    sleep: ClassVar[str]
    server: PrivateServer

    @property
    @abstractmethod
    def title(self) -> str:
        """Its name and version."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where rowscore and the application connect; the server must have been started."""

    @abstractmethod
    def prepare(self) -> None:
        """Makes what the URL names, once the server has started."""

    @property
    @abstractmethod
    def client(self) -> str | None:
        """The command of a person's own session with it, if there is a program for that."""

    def clear_others(self) -> None:
        """Ends the server of an earlier run that was killed, if it was another kind of database."""
        for kind in SERVERS:
            if not isinstance(self.server, kind):
                kind(self.server.folder).clear()


class PostgreSQL(DemoDatabase):
    """PostgreSQL from its wheel."""

    label = "PostgreSQL"
    sleep = "pg_sleep"
    title = "PostgreSQL 18"

    def __init__(self, folder: Path) -> None:
        self.server: PostgresServer = PostgresServer(folder)

    @property
    def url(self) -> str:
        """The database that initdb made."""
        return self.server.url()

    def prepare(self) -> None:
        """Nothing: it is there."""

    @property
    def client(self) -> str | None:
        """The wheel's psql."""
        return f"{self.server.programs}/psql {self.url}"


class MariaDB(DemoDatabase):
    """MariaDB, where its server is on the machine or has been downloaded.

    Raises:
        ProcessError: there is none; the message says how to get one.
    """

    label = "MariaDB"
    sleep = "SLEEP"
    install: ClassVar[Callable[..., Install]] = staticmethod(mariadb_install)
    clients: ClassVar[tuple[str, ...]] = ("mariadb", "mysql")

    def __init__(self, folder: Path) -> None:
        self._install = self.install(download=False)
        self.server: MySQLServer = MySQLServer(folder, settings=MYSQL_SETTINGS, install=self._install)

    @property
    def title(self) -> str:
        """As the program says it."""
        return self._install.title

    @property
    def url(self) -> str:
        """The database that is AWS's schema."""
        return self.server.url(SCHEMA)

    def prepare(self) -> None:
        """Makes the database that is AWS's schema."""
        with connect(self.server.url()) as connection:
            connection.execute(f"CREATE DATABASE IF NOT EXISTS {SCHEMA}")

    @property
    def client(self) -> str | None:
        """A client on PATH."""
        found = next(filter(None, map(shutil.which, self.clients)), None)
        return found and f"{found} -h {LOOPBACK} -P {self.server.port} -u root {SCHEMA}"


class MySQL(MariaDB):
    """MySQL, likewise."""

    label = "MySQL"
    install = staticmethod(mysql_install)
    clients = ("mysql", "mariadb")


DATABASES: Mapping[str, Callable[[Path], DemoDatabase]] = {
    "postgresql": PostgreSQL,
    "mariadb": MariaDB,
    "mysql": MySQL,
}
