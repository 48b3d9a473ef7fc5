"""The demo's processes and its configuration file: servers, endpoint, Celery, traffic; it measures nothing.

All of them end with the `with` block, whatever ends it, in the opposite order of their start; what an earlier
run that was killed left behind in the folder is ended first.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from worker.demo.churn import FEATURES, TABLE
from worker.demo.databases import DATABASES
from worker.demo.loopback import LOOPBACK, free_port
from worker.demo.process import FolderInUseError, Process, ProcessError, stop_leftover
from worker.demo.servers import EndpointServer, RedisServer, python_path

NAME = "churn"
VERSION = "2026-11-01"
WORKERS = 2
ROWS_PER_CALL = 2_000
OWN_SIGNALS = ("postgres", "mysql", "redis", "endpoint")  # servers end what is left of them as each needs it
GRACE = 10.0  # seconds for a batch in flight

CONFIGURATION = """\
# Written by `rowscore demo`; its servers are there for as long as the demo runs.
database = "{database}"
broker = "{broker}"

[predictions.{name}]
table = "{table}"
inputs = [
{inputs}
]
outputs = {{ churn_probability = "double precision" }}
model = {{ http = "{endpoint}", timeout = "5s" }}
version = {{ column = "churn_model", value = "{version}" }}
arrived_at = "created_at"      # from here to the prediction is what `rowscore status` calls freshness
every = "1s"                   # a tick of Celery beat; 30 s where nobody is in a hurry
max_rows_per_batch = {rows}      # rows in a model call, at most
concurrency = 4                # model calls in flight at once, of each worker
"""


class Scene:
    """What runs for the demo, in `folder`; servers have addresses once they were started.

    Raises:
        ProcessError: this machine has no server of the database.
    """

    def __init__(self, folder: Path, database: str = "postgresql") -> None:
        self.folder = folder.absolute()
        self.config = self.folder / "rowscore.toml"
        self.database = DATABASES[database](self.folder)
        self.redis = RedisServer(self.folder)
        self.endpoint = EndpointServer(self.folder)
        self.flower_url = ""
        self._stack = ExitStack()
        self._programs: list[Process] = []

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stack.enter_context(_alone(self.folder))
        for record in sorted(self.folder.glob("*.pid")):
            if record.stem not in OWN_SIGNALS:
                stop_leftover(record, signal.SIGTERM, GRACE)
        self.database.clear_others()
        for log in self.folder.glob("*.log"):
            log.unlink()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in self._programs:
            program.ask_to_end()
        self._stack.close()

    def start_servers(self) -> None:
        """The database, Redis and the endpoint, and the configuration that names them."""
        for server in (self.database.server, self.redis, self.endpoint):
            self._stack.enter_context(server)
        self.database.prepare()
        inputs = [
            ", ".join(f'"{name}"' for name in FEATURES[at : at + 5]) for at in range(0, len(FEATURES), 5)
        ]
        text = CONFIGURATION.format(
            database=self.database.url,
            broker=self.redis.url(),
            endpoint=self.endpoint.url,
            name=NAME,
            table=TABLE,
            inputs="\n".join(f"    {line}," for line in inputs),
            version=VERSION,
            rows=ROWS_PER_CALL,
        )
        self.config.write_text(text, encoding="utf-8")

    def start_celery(self) -> None:
        """Worker, beat and Flower, side by side; returns when all are ready."""
        port = free_port()
        self.flower_url = f"http://{LOOPBACK}:{port}"
        worker = self._celery("worker", "--concurrency", str(WORKERS), "--loglevel", "INFO")
        beat = self._celery("beat", "--loglevel", "INFO")
        flower = self._celery("flower", f"--address={LOOPBACK}", f"--port={port}")
        worker.await_ready(lambda: " ready" in worker.output(), timeout=60)
        beat.await_ready(lambda: "beat: Starting" in beat.output(), timeout=60)
        flower.await_ready(lambda: _listens(port), timeout=60)

    def rowscore(self, terminal: TextIO, *words: str) -> None:
        """A command of `rowscore` on this terminal; its name names its record.

        Raises:
            ProcessError: it failed; what it said stands above.
        """
        command = [sys.executable, "-m", "worker.cli", "--config", str(self.config), *words]
        process = Process(words[0], command, self.folder, env=python_path(), terminal=terminal, grace=GRACE)
        with process.start():
            status = process.wait()
        if status != 0:
            raise ProcessError(
                f"`rowscore {' '.join(words)}` ended with status {status}; its words are above"
            )

    def traffic(self, name: str, *, table: str, clients: int, seconds: float, rate: float) -> Process:
        """Clients that insert; the report is in `<name>.json` when the process has ended."""
        self.report(name).unlink(missing_ok=True)
        plan = {
            "url": self.database.url,
            "table": table,
            "clients": clients,
            "seconds": seconds,
            "rate": rate,
        }
        words = [f"--{option}={value}" for option, value in {**plan, "json": self.report(name)}.items()]
        command = [sys.executable, "-m", "worker.demo.traffic", *words]
        return self._run(Process(name, command, self.folder, env=python_path()))

    def report(self, name: str) -> Path:
        """Where a traffic run writes its figures."""
        return self.folder / f"{name}.json"

    def _celery(self, program: str, *words: str) -> Process:
        command = [sys.executable, "-m", "celery", "-A", "worker", program, *words]
        env: Mapping[str, str] = {**python_path(), "ROWSCORE_CONFIG": str(self.config)}
        return self._run(Process(program, command, self.folder, env=env, cwd=self.folder, grace=GRACE))

    def _run(self, process: Process) -> Process:
        process.start()
        self._stack.push(process)
        self._programs.append(process)
        return process


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps other demos out of the folder; the lock ends with this process, however that ends.

    Raises:
        FolderInUseError: another demo is in it.
    """
    with (folder / "demo.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise FolderInUseError(
                f"{folder} is in use by process {file.read().strip()}; stop it or name another --folder"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def finished(process: Process) -> None:
    """Checks that a process that has ended did so well.

    Raises:
        ProcessError: it failed; the message holds its last words.
    """
    status = process.wait()
    if status != 0:
        last = "".join(f"\n    {line}" for line in process.output().splitlines()[-12:])
        raise ProcessError(f"{process.name} ended with status {status}. The end of {process.log}:{last}")


def shown(path: Path) -> str:
    """A path as a person types it here."""
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def command() -> str:
    """What a person types for `rowscore` here."""
    if shutil.which("rowscore"):
        return "rowscore"
    script = Path(sys.executable).parent / "rowscore"
    if script.exists():
        return shown(script)
    return f"{shown(Path(sys.executable))} -m worker.cli"


def _listens(port: int) -> bool:
    with socket.create_connection((LOOPBACK, port), timeout=1):
        return True


def writable_folder() -> Path:
    """`.demo` here, or in a temporary folder where this one may not be written to."""
    if os.access(Path.cwd(), os.W_OK):
        return Path(".demo")
    return Path(tempfile.mkdtemp(prefix="rowscore-demo-"))
