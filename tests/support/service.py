"""A model behind HTTP whose time is counted and not waited: what a call costs is a function of its rows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class Service:
    """Answers id,a,b with a + b.

    Attributes:
        cost: seconds of a call with so many rows.
        sizes: the rows of each call that was answered, or failed; those that were throttled are not among them.
        spent: seconds that its calls would have taken one after the other: a clock for what calls it.
        most: rows that it takes; more are answered with 413.
        throttle: requests that are still to be answered with 429.
        status: what every request is answered with, where that is not 200.
        poison: ids that fail every call which holds them.
        hangs: calls of more rows than this are never answered.
        delay: seconds that each call really takes, for a caller in another process.
        entered: set when a call has arrived.
    """

    def __init__(self, cost: Callable[[int], float] = lambda _: 0.01) -> None:
        self.cost = cost
        self.sizes: list[int] = []
        self.spent = 0.0
        self.most: int | None = None
        self.throttle = 0
        self.status = 200
        self.poison: set[int] = set()
        self.hangs: int | None = None
        self.delay = 0.0
        self.entered = threading.Event()
        self._open = threading.Event()
        self._open.set()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                status, text = service._answer([line.split(",") for line in body.splitlines()])
                answer = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/csv")
                if status == 429:
                    self.send_header("Retry-After", "0")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:  # the caller has given up
                    self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """Where rows are scored."""
        return f"http://127.0.0.1:{self._server.server_port}/invocations"

    def clock(self) -> float:
        """What its calls have cost by now."""
        return self.spent

    def hold(self) -> None:
        """From now on calls wait inside the model."""
        self.entered.clear()
        self._open.clear()

    def release(self) -> None:
        """Let the calls go on."""
        self._open.set()

    def _answer(self, rows: list[list[str]]) -> tuple[int, str]:
        with self._lock:
            if self.throttle:
                self.throttle -= 1
                return 429, "slow down"
            self.sizes.append(len(rows))
            self.spent += self.cost(len(rows))
        self.entered.set()
        assert self._open.wait(60), "the test never let the model go on"
        self._ended.wait(self.delay)
        if self.hangs is not None and len(rows) > self.hangs:
            self._ended.wait(60)
        if self.status != 200:
            return self.status, "no"
        if self.most is not None and len(rows) > self.most:
            return 413, f"at most {self.most} rows"
        if self.poison & {int(row[0]) for row in rows}:
            return 500, "poison"
        return 200, "".join(f"{float(a) + float(b)}\n" for _, a, b in rows)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
