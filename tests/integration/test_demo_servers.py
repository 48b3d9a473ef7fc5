"""The embedded servers and the processes of the demo: real programs, real signals."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from worker.demo import process
from worker.demo.loopback import Server
from worker.demo.postgres import wheel_install
from worker.demo.servers import (
    FolderInUseError,
    PostgresServer,
    Process,
    ProcessError,
    RedisServer,
    python_path,
)

SMALL = {"shared_buffers": "8MB", "max_connections": "10", "fsync": "off"}
TALKER = "import sys, time; print('up', flush=True); time.sleep(60)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {TALKER}"


def talk(folder: Path, code: str = TALKER, **options: float) -> Process:
    """A process that says `up` and stays."""
    child = Process("talker", [sys.executable, "-c", code], folder, **options)  # type: ignore[arg-type]
    return child.start(lambda: "up" in child.output())


def one(server: PostgresServer, query: str, database: str = "postgres", **login: str) -> object:
    """The one value that a query answers."""
    with psycopg.connect(server.url(database), **login, autocommit=True) as connection:  # type: ignore[arg-type]
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def test_a_process_is_ready_then_ends_on_sigterm_and_leaves_no_record(tmp_path: Path) -> None:
    with talk(tmp_path) as child:
        assert child.alive
        assert os.getsid(child.pid) == child.pid != os.getsid(0)
        assert child.record.exists()
    assert child.stop() == -signal.SIGTERM
    assert not child.record.exists()


def test_a_process_that_does_not_listen_is_killed_with_its_group(tmp_path: Path) -> None:
    child = talk(tmp_path, DEAF, grace=0.2)
    assert child.stop() == -signal.SIGKILL


def test_a_process_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    child = Process("broken", [sys.executable, "-c", "print('out of paper'); raise SystemExit(3)"], tmp_path)
    with pytest.raises(
        ProcessError, match=r"(?s)broken did not start: it ended with status 3.*out of paper.*Read"
    ):
        child.start(lambda: False)


def test_a_process_that_never_gets_ready_is_stopped(tmp_path: Path) -> None:
    child = Process("slow", [sys.executable, "-c", TALKER], tmp_path)
    with pytest.raises(ProcessError, match=r"not ready after 0\.1 seconds"):
        child.start(lambda: False, timeout=0.1)
    assert not child.alive


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="no-such-program"):
        Process("missing", ["no-such-program"], tmp_path).start()


def test_a_second_run_refuses_a_folder_in_use(tmp_path: Path) -> None:
    with talk(tmp_path), pytest.raises(FolderInUseError, match=f"in use by process {os.getpid()}"):
        talk(tmp_path)


def test_a_second_run_stops_what_a_killed_parent_left(tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
from pathlib import Path
from worker.demo.servers import Process
child = Process("talker", [sys.executable, "-c", {TALKER!r}], Path({str(tmp_path)!r}))
child.start(lambda: "up" in child.output())
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, **python_path()}, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = process.Record.read(tmp_path / "talker.pid")
    assert left is not None
    assert process.runs(left.pid, left.started)
    with talk(tmp_path):
        assert not process.runs(left.pid, left.started)


def test_a_record_of_another_process_with_the_same_number_harms_nobody(tmp_path: Path) -> None:
    with talk(tmp_path / "other") as other:
        process.Record(other.pid, 1.0, os.getpid(), 1.0).write(tmp_path / "talker.pid")
        with talk(tmp_path):
            assert other.alive


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"pid": 1}'])
def test_half_a_record_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.pid").write_text(text)
    assert process.Record.read(tmp_path / "x.pid") is None


def test_postgres_in_a_long_folder_with_spaces_and_quotes(tmp_path: Path) -> None:
    folder = tmp_path / ("a long folder's name " * 5).strip() / ("and one below it " * 5).strip()
    with PostgresServer(folder, settings={**SMALL, "application_name": "it's \\ odd"}) as server:
        assert str(one(server, "SHOW server_version")).startswith("18.")
        assert one(server, "SHOW fsync") == "off"
        assert server.url("x").startswith("postgresql://postgres@127.0.0.1:")
        psql = [str(server.programs / "psql"), server.url(), "-Atc", "SELECT upper('é')"]
        assert subprocess.run(psql, capture_output=True, check=True, timeout=30).stdout.decode() == "É\n"


def test_postgres_keeps_data_and_port_over_a_restart_and_drops_them_at_the_end(tmp_path: Path) -> None:
    with PostgresServer(tmp_path, settings=SMALL) as server:
        one(server, "SELECT 1 FROM (SELECT set_config('a.b', '1', false)) AS x")
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (i int)")
        before, home = server.address, server.home
        server.stop()
        server.settings["work_mem"] = "5MB"
        server.start()
        assert server.address == before
        assert one(server, "SELECT count(*) FROM kept") == 0
        assert one(server, "SHOW work_mem") == "5MB"
    assert not home.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["postgres.log"]


def test_postgres_keeps_data_for_the_next_run_when_asked(tmp_path: Path) -> None:
    with PostgresServer(tmp_path, settings=SMALL, keep=True) as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE TABLE kept (i int)")
        with pytest.raises(FolderInUseError):
            PostgresServer(tmp_path, settings=SMALL).__enter__()
        server.process.kill()
        server.start()  # over a stale postmaster.pid
        assert one(server, "SELECT count(*) FROM kept") == 0
    with PostgresServer(tmp_path, settings=SMALL, keep=True) as server:
        assert one(server, "SELECT count(*) FROM kept") == 0
        server.keep = False


def test_postgres_asks_a_role_for_its_password(tmp_path: Path) -> None:
    line = "host all limited 127.0.0.1/32 scram-sha-256"
    with PostgresServer(tmp_path, settings=SMALL, hba_lines=[line]) as server:
        one(server, "SELECT 1")
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE ROLE limited LOGIN PASSWORD 'right'")
        assert one(server, "SELECT current_user::text", user="limited", password="right") == "limited"
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            one(server, "SELECT 1", user="limited", password="wrong")


def test_postgres_runs_from_an_install_that_only_its_owner_can_read(tmp_path: Path) -> None:
    wheel = wheel_install()
    install = tmp_path / "site" / wheel.parent.name / wheel.name
    shutil.copytree(wheel, install, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    libraries = wheel.parent.with_name(f"{wheel.parent.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, tmp_path / "site" / libraries.name)
    (tmp_path / "site").chmod(0o700)
    with PostgresServer(tmp_path / "run", settings=SMALL, install=install) as server:
        assert one(server, "SELECT 1") == 1


def test_postgres_with_a_wrong_setting_says_which(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path, settings={"shared_buffers": "a lot"})
    with pytest.raises(ProcessError, match=r'(?s)shared_buffers": "a lot".*Are the settings right'):
        server.__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["postgres.log"]


@pytest.mark.parametrize("kind", [RedisServer, lambda folder: PostgresServer(folder, settings=SMALL)])
def test_a_server_takes_another_port_when_it_lost_the_one_it_chose(
    tmp_path: Path, kind: Callable[[Path], Server]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as thief:
        server = kind(tmp_path)
        server.port = taken = thief.getsockname()[1]
        with server:
            assert server.port != taken


def test_redis_answers_and_keeps_nothing(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "with a space") as server:
        assert server.url(2) == f"redis://{server.address}/2"
        with socket.create_connection(("127.0.0.1", server.port or 0)) as client:
            client.sendall(b"CONFIG GET save\r\nCONFIG GET appendonly\r\nQUIT\r\n")
            with client.makefile("rb") as answer:
                assert b"appendonly\r\n$2\r\nno" in answer.read()
    assert [path.name for path in server.folder.iterdir()] == ["redis.log"]


def test_a_server_that_was_never_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="has not been started"):
        RedisServer(tmp_path).url()
