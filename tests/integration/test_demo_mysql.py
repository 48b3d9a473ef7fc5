"""The embedded MariaDB and MySQL: real programs, real signals. Those of MySQL run with ROWSCORE_TEST_MYSQL=1."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pymysql
import pytest
from sqlalchemy import create_engine, text

from tests.support.mysql import GivenServer, MySQL, provided, skip_unless_real
from worker.demo import installs, process
from worker.demo.installs import Install, mariadb_install, mysql_install
from worker.demo.mysql import FAST_SETTINGS, MySQLServer
from worker.demo.packages import VARIABLE
from worker.demo.servers import FolderInUseError, ProcessError, python_path

SMALL = {**FAST_SETTINGS, "innodb_buffer_pool_size": "16M", "max_connections": "10"}


@pytest.fixture(scope="module")
def install() -> Install:
    """MariaDB's programs."""
    return provided(mariadb_install)


def one(server: MySQLServer, query: str) -> object:
    """The first value that a query answers, if it answers any."""
    with pymysql.connect(host="127.0.0.1", port=server.port or 0, user="root", autocommit=True) as connection:
        cursor = connection.cursor()
        cursor.execute(query)
        row = cursor.fetchone()
    return row[0] if row else None


def account(pid: int) -> str:
    """The name of the account that a process runs as."""
    return pwd.getpwuid(psutil.Process(pid).uids().effective).pw_name


def test_mariadb_in_a_long_folder_with_its_settings(install: Install, tmp_path: Path) -> None:
    folder = tmp_path / ("a long folder's name " * 5).strip() / ("and one below it " * 5).strip()
    odd = "SET @odd = 'it''s \\\\ a \"word\" # and no comment'"
    with MySQLServer(folder, settings={**SMALL, "init_connect": odd}, install=install) as server:
        assert "MariaDB" in str(one(server, "SELECT version()"))
        assert one(server, "SELECT @@init_connect") == odd
        assert one(server, "SELECT @@max_connections") == 10
        assert one(server, "SELECT @@innodb_autoinc_lock_mode") == 2
        assert one(server, "SELECT @@character_set_server") == "utf8mb4"
        assert one(server, "SELECT current_user()") == "root@127.0.0.1"
        assert one(server, "SELECT @@log_bin") == 0
        with create_engine(server.url("mysql")).connect() as connection:
            assert connection.scalar(text("SELECT 'é'")) == "é"
        assert account(server.process.pid) == ("nobody" if os.geteuid() == 0 else account(os.getpid()))
        listening = {
            each.laddr[:2] for each in psutil.Process(server.process.pid).net_connections() if each.laddr
        }
        assert listening == {("127.0.0.1", server.port)}


def test_mariadb_keeps_data_and_port_over_a_restart_and_drops_them_at_the_end(
    install: Install, tmp_path: Path
) -> None:
    with MySQLServer(tmp_path, settings=SMALL, install=install) as server:
        one(server, "CREATE TABLE mysql.kept (i int)")
        before, home = server.address, server.home
        assert one(server, "SELECT @@log_bin") == 0
        server.stop()
        server.settings["log_bin"] = "binlog"
        server.start()
        assert server.address == before
        assert one(server, "SELECT count(*) FROM mysql.kept") == 0
        assert one(server, "SELECT @@log_bin") == 1
        assert one(server, "SELECT @@binlog_format") == "ROW"
        assert one(server, "SHOW BINARY LOGS") == "binlog.000001"
    assert not home.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["mysql.log"]


def test_mariadb_that_was_killed_starts_again_over_its_data_and_is_there_for_the_next_run(
    install: Install, tmp_path: Path
) -> None:
    with MySQLServer(tmp_path, settings=SMALL, install=install, keep=True) as server:
        one(server, "CREATE TABLE mysql.kept ENGINE=InnoDB AS SELECT 1 AS i")
        with pytest.raises(FolderInUseError):
            MySQLServer(tmp_path, settings=SMALL, install=install).__enter__()
        killed = server.process.pid
        server.kill()
        assert not psutil.pid_exists(killed)
        server.start()
        assert one(server, "SELECT count(*) FROM mysql.kept") == 1
    with MySQLServer(tmp_path, settings=SMALL, install=install, keep=True) as server:
        assert one(server, "SELECT count(*) FROM mysql.kept") == 1
        server.keep = False


def test_two_at_once_and_another_port_for_the_one_that_lost_its_own(install: Install, tmp_path: Path) -> None:
    with MySQLServer(tmp_path / "first", settings=SMALL, install=install) as first:
        second = MySQLServer(tmp_path / "second", settings=SMALL, install=install)
        second.port = first.port
        with second:
            assert second.port != first.port
            one(first, "CREATE DATABASE only_here")
            assert one(second, "SHOW DATABASES LIKE 'only_here'") is None


def test_a_silent_program_on_its_port_is_not_waited_for(install: Install, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as thief:
        server = MySQLServer(tmp_path, settings=SMALL, install=install)
        server.port = taken = thief.getsockname()[1]
        with server:
            assert server.port != taken


def test_a_second_run_ends_what_a_killed_one_left(install: Install, tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from worker.demo.mysql import MySQLServer
MySQLServer(Path({str(tmp_path)!r})).__enter__()
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, **python_path()}, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = process.Record.read(tmp_path / "mysql.pid")
    assert left is not None
    assert process.runs(left.pid, left.started)
    abandoned = MySQLServer(tmp_path, install=install).home
    with MySQLServer(tmp_path, settings=SMALL, install=install):
        assert not process.runs(left.pid, left.started)
    assert not abandoned.exists()


def test_mariadb_runs_from_an_install_that_only_its_owner_can_read(install: Install, tmp_path: Path) -> None:
    if install.root is None:
        pytest.skip("MariaDB is one of this machine's programs")
    (tmp_path / "closed").mkdir(mode=0o700)
    root = tmp_path / "closed" / "root"
    shutil.copytree(install.root, root, symlinks=True)
    with MySQLServer(tmp_path / "run", settings=SMALL, install=install.moved(root)) as server:
        assert one(server, "SELECT 1") == 1
    assert (root / "usr").stat().st_uid == os.geteuid()


def test_mariadb_with_a_wrong_setting_says_which(install: Install, tmp_path: Path) -> None:
    server = MySQLServer(tmp_path, settings={**SMALL, "no_such_setting": "1"}, install=install)
    with pytest.raises(ProcessError, match=r"(?s)made no data.*no_such_setting"):
        server.__enter__()
    assert list(tmp_path.iterdir()) == []


def test_mysql_starts_with_its_settings_and_again_when_it_was_killed(tmp_path: Path) -> None:
    skip_unless_real()
    install = provided(mysql_install)
    with MySQLServer(tmp_path, settings={**SMALL, "log_bin": "binlog"}, install=install) as server:
        assert str(one(server, "SELECT version()")).startswith(install.version)
        assert one(server, "SELECT current_user()") == "root@127.0.0.1"
        assert one(server, "SELECT @@log_bin") == 1
        assert one(server, "SELECT @@binlog_format") == "ROW"
        listening = {
            each.laddr[:2] for each in psutil.Process(server.process.pid).net_connections() if each.laddr
        }
        assert listening == {("127.0.0.1", server.port)}
        one(server, "CREATE TABLE mysql.kept AS SELECT 1 AS i")
        server.kill()
        server.start()
        assert one(server, "SELECT count(*) FROM mysql.kept") == 1
        home = server.home
        second = MySQLServer(tmp_path / "second", settings=SMALL, install=install)
        second.port = server.port
        with second:
            assert second.port != server.port
    assert not home.exists()


@pytest.mark.parametrize(
    ("name", "says", "title"),
    [
        ("mysqld", "mysqld  Ver 9.7.4 for Linux on x86_64 (MySQL Community Server - GPL)", "MySQL 9.7.4"),
        ("mysqld", "mysqld  Ver 10.5.29-MariaDB for Linux on x86_64 (MariaDB Server)", "MariaDB 10.5.29"),
        ("mariadbd", "mariadbd  Ver 12.1.2-MariaDB for osx10.20 on arm64 (Homebrew)", "MariaDB 12.1.2"),
    ],
)
def test_a_program_on_path_is_what_it_says_it_is(
    name: str, says: str, title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, messages = tmp_path / "bin" / name, tmp_path / "share/mysql/english/errmsg.sys"
    for path in (program, messages):
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(installs, "BESIDE_PATH", ())
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    right, wrong = (
        (mysql_install, mariadb_install) if title.startswith("MySQL") else (mariadb_install, mysql_install)
    )
    found = right()
    assert (found.title, found.command, found.share) == (title, (str(program),), messages.parents[1])
    with pytest.raises(
        ProcessError, match=r"there is no M\w+ server on this machine .*: install your system's"
    ):
        wrong()
    program.write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    with pytest.raises(ProcessError, match="has not been downloaded"):
        right(download=False)


@pytest.mark.parametrize("flavour", ["mariadb", "mysql"])
def test_the_fixtures_give_a_server(flavour: str, request: pytest.FixtureRequest) -> None:
    server: MySQL = request.getfixturevalue(flavour)
    engine = create_engine(server.url())
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    engine.dispose()


def test_a_server_that_was_given_keeps_its_password_and_gets_the_database() -> None:
    given = GivenServer("mysql+pymysql://me:secret@there:3307/old")
    assert given.url("new") == "mysql+pymysql://me:secret@there:3307/new"
