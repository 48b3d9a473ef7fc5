"""What embedded servers share: a folder, a port of the loopback interface, a process; no server itself."""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from worker.demo.process import Process, ProcessError

ATTEMPTS = 5  # ports to try: another program may take a free one before the server does
LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A loopback TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


class Server:
    """A server that runs from `start` to `stop`, or for as long as the `with` block lasts.

    A subclass says in `_start` how to start on a port, and sets `_process` there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.port: int | None = None
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        """The server's process; it must have been started once."""
        if self._process is None:
            raise ProcessError(f"the server in {self.folder} has not been started")
        return self._process

    @property
    def address(self) -> str:
        """Host and port as in a URL."""
        if self.port is None:
            raise ProcessError(f"the server in {self.folder} has not been started")
        return f"{LOOPBACK}:{self.port}"

    def start(self) -> Self:
        """Starts the server, on the port of last time if it can, and returns when it takes connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(ATTEMPTS):
            port = self.port if self.port and attempt == 0 else free_port()
            try:
                self._start(port)
            except ProcessError:
                if attempt == ATTEMPTS - 1 or not self._lost_the_port():
                    raise
            else:
                self.port = port
                break
        return self

    def stop(self) -> None:
        """Ends the server; what it stored stays until the `with` block ends."""
        if self._process is not None:
            self._process.stop()

    def _start(self, port: int) -> None:
        raise NotImplementedError

    def _lost_the_port(self) -> bool:
        return self._process is not None and "Address already in use" in self._process.output()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
