"""A folder with a rowscore.toml, and the real Celery processes that a user would start in it."""

from __future__ import annotations

import json
import re
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support.deadlines import eventually
from worker.app import Application, create_app
from worker.config import Configuration, read_configuration
from worker.demo.servers import Process, python_path

FILE = "rowscore.toml"


class Fleet:
    """Workers, beats and Flowers on one configuration; all are stopped when the stack closes.

    Args:
        folder: where they run.
        database: the database's URL.
        broker: the broker's URL.
        model: the URL of the HTTP model that gets id, a and b of the table items.
    """

    def __init__(self, stack: ExitStack, folder: Path, database: str, broker: str, model: str) -> None:
        self.folder = folder
        self._stack = stack
        self._database = database
        self._broker = broker
        self._model = model
        self._started = 0

    def configure(self, **options: Any) -> Configuration:
        """Write the file: the prediction churn, with these options over the usual ones."""
        section = {"table": "items", "inputs": ["id", "a", "b"], "every": "500ms", "view": False, **options}
        lines = [f"database = {json.dumps(self._database)}", f"broker = {json.dumps(self._broker)}"]
        lines += ["[predictions.churn]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())]
        lines += [f"model = {{ http = {json.dumps(self._model)} }}", 'outputs = { p = "double precision" }']
        (self.folder / FILE).write_text("\n".join(lines))
        return read_configuration(self.folder / FILE)

    @property
    def app(self) -> Application:
        """The application that sends messages from the test."""
        return create_app(read_configuration(self.folder / FILE))

    def worker(self, concurrency: int = 2, queue: str | None = None) -> Process:
        """A worker that takes messages, of the queue that is named or of the usual one."""
        options = ["-l", "INFO", "-c", str(concurrency), "-n", f"w{self._started}@%h", "--without-mingle"]
        options += ["-Q", queue] if queue else []
        process = self._start("worker", *options)
        eventually(lambda: " ready." in process.output(), f"a worker that is ready: {process.output()}")
        return process

    def beat(self) -> Process:
        """A beat that sends ticks."""
        return self._start("beat", "-l", "INFO")

    def flower(self, port: int) -> Flower:
        """A Flower that answers."""
        self._start("flower", f"--port={port}", "--address=127.0.0.1")
        flower = Flower(port)
        eventually(lambda: flower.get("tasks") is not None, "a Flower that answers")
        return flower

    def _start(self, program: str, *options: str) -> Process:
        words = [sys.executable, "-m", "celery", "-A", "worker", program, *options]
        temporary = (
            self.folder / "logs" / "tmp"
        )  # what is killed leaves its own behind, which goes with the test's
        temporary.mkdir(parents=True, exist_ok=True)
        env = {
            **python_path(),
            "FLOWER_UNAUTHENTICATED_API": "true",
            "CELERY_BROKER_URL": self._broker,
            "TMPDIR": str(temporary),
        }
        name = f"{program}-{self._started}"
        self._started += 1
        process = Process(name, words, self.folder / "logs", env=env, cwd=self.folder, grace=40.0)
        self._stack.callback(process.kill)  # nothing is left to be finished
        return process.start()


class Flower:
    """Flower's HTTP API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/"

    def get(self, path: str) -> Any:
        """What it answers, or None where it does not."""
        try:
            answer = httpx.get(self._url + path, timeout=10, trust_env=False)
        except httpx.TransportError:
            return None
        return answer.json() if answer.status_code == 200 else None

    def task(self, identity: str, state: str) -> Any:
        """The task as Flower knows it, or None unless it is in that state."""
        task = self.get(f"task/info/{identity}")
        return task if task and task["state"] == state else None


def children(process: Process) -> list[int]:
    """The process numbers of a worker's pool, once it is there."""

    def found() -> list[int]:
        return [child.pid for child in psutil.Process(process.pid).children()]

    return eventually(found, "the worker's pool")


def events(process: Process, pattern: str) -> list[str]:
    """The messages in a process's log that match."""
    lines = [json.loads(line) for line in process.output().splitlines() if line.startswith("{")]
    return [line["event"] for line in lines if re.search(pattern, line["event"])]
