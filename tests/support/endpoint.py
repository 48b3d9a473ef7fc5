"""A model behind HTTP that is strict about what it is sent, and behaves as the test says."""

from __future__ import annotations

import csv
import io
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from worker.answers import OutputKind, OutputType
from worker.models.protocol import Batch

OUTPUTS = {"p": OutputType(OutputKind.FLOAT)}
BATCH = Batch(
    ("state", "mins", "note"), [("CA", 1.5, None), ("N,Y", 2.0, 'say "hi"'), ("TX", 3.5, "two\nlines")]
)
Rows = list[list[str]]


class Request(BaseHTTPRequestHandler):
    """One request: parsed strictly, then answered by the test's own function."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert "chunked" not in self.headers.get("Transfer-Encoding", "")
        rows = list(csv.reader(io.StringIO(body.decode("utf-8"), newline=""), strict=True))
        assert len(set(map(len, rows))) == 1
        self.server.record(self, rows)
        self.server.behave(self, rows)

    def do_GET(self) -> None:
        self.server.record(self, [])
        self.server.behave(self, [])

    def answer(
        self, body: bytes | str, status: int = 200, kind: str | None = "text/csv", **headers: str
    ) -> None:
        content = body if isinstance(body, bytes) else body.encode()
        self.send_response(status)
        if kind is not None:
            self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def raw(self, content: bytes) -> None:
        """Bytes as they are, and the connection closed."""
        self.wfile.write(content)
        self.close_connection = True

    def drip(self, content: bytes) -> None:
        """A byte every 20 ms, until the client is gone or the test is over."""
        self.close_connection = True
        for byte in content:
            if self.server.over.wait(0.02):
                return
            try:
                self.wfile.write(bytes([byte]))
            except OSError:
                return

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    """A model server that behaves as the test says."""

    daemon_threads = False  # every request has ended when the fixture has

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.over = threading.Event()
        self.behave: Callable[[Request, Rows], object] = well
        self.lock = threading.Lock()
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.scored: Counter[str] = Counter()
        self.clients: set[Any] = set()

    def record(self, request: Request, _rows: Rows) -> None:
        with self.lock:
            self.requests.append((request.command, request.path))
            self.headers.append({name.lower(): value for name, value in request.headers.items()})
            self.clients.add(request.client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no error of the server."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/invocations"


def answers(rows: Rows) -> str:
    return "".join(f"{float(row[1]) / 10}\n" for row in rows)


def well(request: Request, rows: Rows) -> None:
    request.answer(answers(rows))


# --- how it may behave --------------------------------------------------------------------------------------


def status(code: int, body: str = "", **headers: str) -> Callable[[Request, Rows], None]:
    return lambda request, _rows: request.answer(body, code, "text/plain", **headers)


def body(
    content: bytes | str, kind: str | None = "text/csv", **headers: str
) -> Callable[[Request, Rows], None]:
    return lambda request, _rows: request.answer(content, 200, kind, **headers)


def raw(content: bytes) -> Callable[[Request, Rows], None]:
    return lambda request, _rows: request.raw(content)


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n"
