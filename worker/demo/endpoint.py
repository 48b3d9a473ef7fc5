"""The churn model behind HTTP as a SageMaker container serves it; a stand-in for an endpoint, not a product.

`POST /invocations` takes text/csv, one customer a line without a header, and answers one probability a line;
`GET /ping` says that it lives, `GET /stats` what it has done. Each call takes the latency that was asked for,
so that it costs what AWS measured, and then computes for real; so many calls run at once, the others wait.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from worker.demo.model import BadRowError, predict, shipped

MAX_BODY = 6 * 1024 * 1024  # SageMaker's limit for a real-time call
MAX_DRAIN = 64 * 1024 * 1024  # a larger body is not even read and thrown away
UNITS = {"ms": 0.001, "s": 1.0, "": 1.0}


class RequestError(Exception):
    """A request that is answered with an error status and a line that says why."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Stats:
    """What the endpoint has done, counted under a lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = {"calls": 0, "rows": 0, "errors": 0, "busy": 0, "waiting": 0}

    def add(self, **changes: int) -> None:
        """Adds to some of the counts."""
        with self._lock:
            for name, change in changes.items():
                self._counts[name] += change

    def read(self) -> dict[str, int]:
        """All counts at one moment."""
        with self._lock:
            return dict(self._counts)


class Endpoint(ThreadingHTTPServer):
    """The server: a thread a connection, `concurrency` calls at once, each of at least `latency` seconds."""

    daemon_threads = False  # so that server_close() waits for the calls under way
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], *, latency: float, concurrency: int) -> None:
        self.stats = Stats()
        self.latency = latency
        self.concurrency = concurrency
        self.stopping = False
        self._turn = threading.BoundedSemaphore(concurrency)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        shipped()
        super().__init__(address, Handler)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One of the places at the model; waits in line for it."""
        self.stats.add(waiting=1)
        with self._turn:
            self.stats.add(waiting=-1, busy=1)
            try:
                yield
            finally:
                self.stats.add(busy=-1)

    def opened(self, connection: socket.socket) -> None:
        """Remembers a connection, so that `stop` can end it."""
        with self._lock:
            self._open.add(connection)
        if self.stopping:
            self._end_input(connection)

    def closed(self, connection: socket.socket) -> None:
        """Forgets a connection."""
        with self._lock:
            self._open.discard(connection)

    def stop(self) -> None:
        """Takes no more calls: idle connections end now, calls under way are answered first."""
        self.stopping = True
        self.shutdown()
        with self._lock:
            for connection in self._open:
                self._end_input(connection)

    @staticmethod
    def _end_input(connection: socket.socket) -> None:
        try:
            connection.shutdown(socket.SHUT_RD)
        except OSError:
            return  # the client was faster


class Handler(BaseHTTPRequestHandler):
    """One connection, kept alive over many calls."""

    protocol_version = "HTTP/1.1"
    server_version = "churn-endpoint"
    disable_nagle_algorithm = (
        True  # or a kept-alive answer waits 40 ms for the client's delayed acknowledgement
    )
    server: Endpoint

    def setup(self) -> None:
        """Begins a connection."""
        super().setup()
        self.server.opened(self.connection)

    def finish(self) -> None:
        """Ends a connection."""
        self.server.closed(self.connection)
        super().finish()

    def do_GET(self) -> None:
        """Answers /ping and /stats."""
        if self.path == "/ping":
            self._answer(HTTPStatus.OK, "")
        elif self.path == "/stats":
            told = {**self.server.stats.read(), "concurrency": self.server.concurrency}
            told["latency_ms"] = round(self.server.latency * 1000)
            self._answer(HTTPStatus.OK, json.dumps(told) + "\n", "application/json")
        else:
            self._answer(HTTPStatus.NOT_FOUND, "there are /invocations, /ping and /stats\n")

    def do_POST(self) -> None:
        """Scores the rows of one call."""
        try:
            body = self._body()
            self._check()
            answers = self._score(body)
        except RequestError as exc:
            self.server.stats.add(errors=1)
            self._answer(exc.status, f"{exc}\n")
        else:
            self.server.stats.add(calls=1, rows=len(answers))
            self._answer(HTTPStatus.OK, "".join(f"{answer!r}\n" for answer in answers), "text/csv")

    def _check(self) -> None:
        if self.path != "/invocations":
            raise RequestError(HTTPStatus.NOT_FOUND, "rows are scored at /invocations")
        kind = self.headers.get_content_type()
        if kind != "text/csv":
            raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send text/csv, not {kind}")

    def _score(self, body: bytes) -> list[float]:
        with self.server.turn():
            time.sleep(self.server.latency)
            try:
                return predict(parse(body))
            except BadRowError as exc:
                raise RequestError(HTTPStatus.BAD_REQUEST, str(exc)) from exc

    def _body(self) -> bytes:
        """The whole body; one that is too long is read too: an answer before its end may never arrive."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self.close_connection = True
            raise RequestError(HTTPStatus.LENGTH_REQUIRED, "send Content-Length")
        if int(length) <= MAX_BODY:
            return self.rfile.read(int(length))
        self.close_connection = True
        left = min(int(length), MAX_DRAIN)
        while left > 0 and (part := self.rfile.read(min(left, 1 << 16))):
            left -= len(part)
        limit = f"{MAX_BODY} bytes are the most a call may have, not {length}"
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, limit)

    def _answer(self, status: HTTPStatus, text: str, kind: str = "text/plain") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection or self.server.stopping:
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: a line a call costs more than the model."""


def parse(body: bytes) -> list[list[str]]:
    """The rows of a body in CSV (RFC 4180, UTF-8, no header); the lengths of the rows are not looked at."""
    try:
        rows = list(csv.reader(io.StringIO(body.decode(), newline=""), strict=True))
    except UnicodeDecodeError as exc:
        raise RequestError(HTTPStatus.BAD_REQUEST, f"the body is not UTF-8: {exc.reason}") from exc
    except csv.Error as exc:
        raise RequestError(HTTPStatus.BAD_REQUEST, f"the body is not CSV: {exc}") from exc
    if not rows:
        raise RequestError(HTTPStatus.BAD_REQUEST, "the body has no rows")
    return rows


def duration(text: str) -> float:
    """Seconds, from "65ms", "0.065s" or "0.065"."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|)", text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 65ms")
    return float(found[1]) * UNITS[found[2]]


def options(words: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m worker.demo.endpoint", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument("--latency", type=duration, default="65ms", help="time that each call takes (65ms)")
    parser.add_argument("--concurrency", type=int, default=4, help="calls at once; more wait in line (4)")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    """Serves until SIGTERM or SIGINT."""
    chosen = options(words)
    endpoint = Endpoint((chosen.host, chosen.port), latency=chosen.latency, concurrency=chosen.concurrency)
    for number in (signal.SIGTERM, signal.SIGINT):
        # shutdown() waits for the loop that this very thread runs, so another thread must ask for it
        signal.signal(number, lambda *_: threading.Thread(target=endpoint.stop).start())
    sys.stdout.write(f"listening on http://{chosen.host}:{endpoint.server_port}\n")
    sys.stdout.flush()
    with endpoint:
        endpoint.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
