"""Where the server of MySQL's and MariaDB's tests comes from, and what is said on a machine that has none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.mysql import URL, MySQL
from worker.demo.installs import BESIDE_PATH, PROGRAMS
from worker.demo.packages import VARIABLE
from worker.demo.servers import python_path

REPOSITORY = Path(__file__).parents[2]
ONE_TEST = "tests/integration/test_time_limit.py::test_any_statement_of_the_block_is_ended_and_none_after_it"


def python(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Python on a machine without programs and downloads, as far as PATH and the cache tell."""
    environment = {"PATH": str(folder), "HOME": str(folder), VARIABLE: str(folder), **variables}
    return subprocess.run(
        [sys.executable, *words],
        cwd=REPOSITORY,
        env={**environment, **python_path()},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """An empty folder in place of PATH, home and cache; servers beside PATH would be found all the same."""
    names = [name for programs in PROGRAMS.values() for name in programs]
    if any(shutil.which(name, path=os.pathsep.join(BESIDE_PATH)) for name in names):
        pytest.skip(f"there is a server in one of {', '.join(BESIDE_PATH)}")
    return tmp_path


def test_on_a_machine_with_neither_server_nor_downloads_the_target_says_what_to_do(bare: Path) -> None:
    done = python(bare, "-m", "tests.support.mysql")
    assert done.returncode == 1
    assert done.stderr == (
        "Error: there is no MySQL server on this machine (mysql-server-core can not be downloaded here: there is no "
        f"apt-get): install your system's package mysql-server, or set {URL}\n"
    )


def test_the_ordinary_run_skips_there_and_says_so(bare: Path) -> None:
    words = ("-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-rs", ONE_TEST)
    done = python(bare, *words, ROWSCORE_TEST_DATABASES="mariadb")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 skipped" in done.stdout
    assert "there is no MariaDB server on this machine" in done.stdout
    assert f"or set {URL}" in done.stdout


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nonsense", "database: not a database URL; expected postgresql://"),
        ("mysql://root@127.0.0.1:1", "mysql://root@127.0.0.1:1/mysql: Can't connect to MySQL server"),
    ],
)
def test_a_server_that_was_given_and_is_none_is_an_error_in_one_line(
    tmp_path: Path, given: str, message: str
) -> None:
    done = python(tmp_path, "-m", "tests.support.mysql", **{URL: given})
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {URL}: {message}")
    assert done.stderr.count("\n") == 1


def test_a_mariadb_is_not_taken_for_mysql(tmp_path: Path, mariadb: MySQL) -> None:
    done = python(tmp_path, "-m", "tests.support.mysql", **{URL: mariadb.url()})
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {URL} names no MySQL; its version is ")
    assert "MariaDB" in done.stderr


def test_a_mysql_that_was_given_is_used(tmp_path: Path, mysql: MySQL) -> None:
    done = python(tmp_path, "-m", "tests.support.mysql", **{URL: mysql.url()})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The tests run against MySQL ")
    assert done.stdout.endswith(f", the one of {URL}\n")
