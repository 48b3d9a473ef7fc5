"""`rowscore demo` as a person runs it: real servers, Celery and traffic, real signals; small, to be quick."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.mysql import provided
from worker.demo.installs import mariadb_install
from worker.demo.servers import python_path

MARK = "ROWSCORE_TEST_MARK"  # an environment variable that every process of the demo inherits
SMALL = ("--rows", "4000", "--clients", "10", "--seconds", "3")
PATIENCE = 100.0


class Demo:
    """One run of the demo as a process in a process group of its own, as a shell starts it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.mark = str(folder)
        words = [sys.executable, "-m", "worker.cli", "demo", "--folder", str(folder), *SMALL, *options]
        self.process = subprocess.Popen(
            words,
            env={**os.environ, **python_path(), MARK: self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.said = ""

    def read_until(self, text: str) -> str:
        """Reads its words to the line that holds the text; that line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if text in line:
                return line
        raise AssertionError(f"it ended without saying {text!r}:\n{self.said}")

    def end(self) -> int:
        """Reads its words to the end; its exit status."""
        assert self.process.stdout is not None
        self.said += self.process.stdout.read()
        return self.process.wait(PATIENCE)

    def left(self) -> list[str]:
        """The processes of this run, or of another one in the same folder, that are still there."""
        found = []
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
                if process.environ().get(MARK) == self.mark or any(self.mark in word for word in words):
                    found.append(" ".join(words[:6]))
            except psutil.Error:
                continue
        return found


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[Demo]:
    """A demo that is killed at the end, should it still run."""
    run = Demo(folder, *options)
    try:
        yield run
    finally:
        run.process.kill()
        run.process.communicate()


def document(said: str) -> dict[str, Any]:
    """The JSON at the end of the words."""
    found: dict[str, Any] = json.loads(said[said.index("\n{\n") :])
    return found


@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
def test_a_small_run_scores_everything_and_leaves_nothing(tmp_path: Path, database: str) -> None:
    if database == "mariadb":
        provided(mariadb_install)
    with demo(tmp_path / "a folder", "--json", "--database", database) as run:
        assert run.end() == 0, run.said
        assert run.left() == []
    figures = document(run.said)
    inserts = figures["inserts"]
    assert figures["passed"] is True
    assert figures["database"].lower().startswith(database)
    assert len(figures["facts"]) == 5
    assert all(fact["holds"] for fact in figures["facts"])
    assert 0 < inserts["inserts"] <= 300
    assert inserts["errors"] == 0
    assert sum(second["arrived"] for second in figures["by_second"]) == inserts["inserts"]
    assert sum(second["scored"] for second in figures["by_second"]) == inserts["inserts"]
    assert figures["calls"]["backfill"]["rows"] >= 3_900  # equal rows are sent once
    assert figures["calls"]["backfill"]["size"]["most"] <= 2_000
    assert figures["calls"]["backfill"]["seconds"]["least"] >= 0.065
    assert figures["trigger"]["p50"] >= 65
    assert inserts["p50"] < figures["trigger"]["p50"] / 2
    assert figures["freshness"]["p50"] <= figures["freshness"]["p99"] <= figures["freshness"]["most"]
    assert figures["outage"]["seconds"] >= 0.5
    assert "Traceback" not in run.said
    assert "Warning" not in run.said
    assert (tmp_path / "a folder" / "rowscore.toml").exists()


def to_the_group(run: Demo) -> None:
    """Ctrl-C at a terminal reaches every process of the foreground group."""
    os.killpg(run.process.pid, signal.SIGINT)


def to_the_process(run: Demo) -> None:
    run.process.send_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("moment", "interrupt"),
    [("1. Servers", to_the_group), ("4. Celery", to_the_process), ("model killed", to_the_group)],
)
def test_ctrl_c_stops_everything(tmp_path: Path, moment: str, interrupt: Callable[[Demo], None]) -> None:
    with demo(tmp_path) as run:
        run.read_until(moment)
        interrupt(run)
        assert run.end() == 130, run.said
        assert run.left() == []
    assert run.said.endswith("\nStopped before its end.\nrowscore: interrupted\n")
    assert "Traceback" not in run.said


def test_sigterm_stops_everything(tmp_path: Path) -> None:
    with demo(tmp_path) as run:
        run.read_until("3. rowscore apply")
        run.process.terminate()
        assert run.end() == 128 + signal.SIGTERM, run.said
        assert run.left() == []


def test_after_a_crash_a_second_run_is_clean_and_keeps_everything_up_when_asked(tmp_path: Path) -> None:
    with demo(tmp_path) as run:
        run.read_until("6. 10 clients")
        run.process.kill()
        run.process.wait()
        assert any("celery" in words for words in run.left())
    with demo(tmp_path, "--keep") as run:
        run.read_until("Everything is up until Ctrl-C")
        flower = re.search(r"http://\S+", run.read_until("Flower"))
        assert flower is not None
        with urllib.request.urlopen(f"{flower[0]}/healthcheck", timeout=10) as answer:
            assert answer.status == 200
        run.read_until("psql")
        to_the_process(run)
        assert run.end() == 0, run.said
        assert run.left() == []


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    with demo(tmp_path) as run:
        run.read_until("1. Servers")
        with demo(tmp_path) as other:
            assert other.end() == 1
        assert f"in use by process {run.process.pid}" in other.said
        to_the_process(run)
        assert run.end() == 130
