"""The demo's choice of a database: where its server comes from, and what an earlier demo on another one left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.mysql import provided
from worker.cli.demonstration import Shown
from worker.demo import installs, process
from worker.demo.databases import DATABASES, MariaDB, PostgreSQL
from worker.demo.installs import mariadb_install
from worker.demo.packages import VARIABLE
from worker.demo.process import ProcessError
from worker.demo.scene import Scene
from worker.demo.servers import python_path


def test_the_command_offers_the_databases_that_there_are() -> None:
    assert [choice.value for choice in Shown] == list(DATABASES)


@pytest.mark.parametrize(("database", "title"), [("mariadb", "MariaDB"), ("mysql", "MySQL")])
def test_without_a_server_on_the_machine_the_demo_says_how_to_get_one(
    database: str, title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installs, "BESIDE_PATH", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    said = rf"there is no {title} server on this machine .*: install your system's package {database}-server"
    with pytest.raises(ProcessError, match=said):
        Scene(tmp_path / "demo", database)
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    ("left", "name", "next_one"), [(PostgreSQL, "postgres", MariaDB), (MariaDB, "mysql", PostgreSQL)]
)
def test_the_server_of_a_killed_demo_on_another_database_is_ended(
    left: type[PostgreSQL | MariaDB], name: str, next_one: type[PostgreSQL | MariaDB], tmp_path: Path
) -> None:
    provided(mariadb_install)
    code = f"""
import os, signal
from pathlib import Path
from worker.demo.databases import {left.__name__}
{left.__name__}(Path({str(tmp_path)!r})).server.__enter__()
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, **python_path()}, check=False)
    assert killed.returncode == -signal.SIGKILL
    record = process.Record.read(tmp_path / f"{name}.pid")
    assert record is not None
    assert process.runs(record.pid, record.started)
    data = left(tmp_path).server.data
    assert data.exists()
    next_one(tmp_path).clear_others()
    assert not process.runs(record.pid, record.started)
    assert not data.exists()


def test_a_mariadb_of_the_demo_has_the_database_that_its_url_names(tmp_path: Path) -> None:
    provided(mariadb_install)
    database = MariaDB(tmp_path)
    with database.server:
        database.prepare()
        database.prepare()
        assert database.url.endswith("/mltest")
        assert database.title.startswith("MariaDB 1")
        assert database.client is None or str(database.server.port) in database.client
