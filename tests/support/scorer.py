"""A model behind HTTP in the test's process: it adds up, notes what it was sent, and waits when told to."""

from __future__ import annotations

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

HELD_SECONDS = 60.0


class Scorer:
    """Answers id,a,b with a + b.

    Attributes:
        scored: how often each id was sent.
        entered: set when a call has arrived.
        poison: ids that fail every call which holds them.
        delay: seconds that each call takes.
        refusal: the status of a call that fails.
    """

    def __init__(self) -> None:
        self.scored: Counter[int] = Counter()
        self.entered = threading.Event()
        self.poison: set[int] = set()
        self.delay = 0.0
        self.refusal = 500
        self._open = threading.Event()
        self._open.set()
        scorer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                answer = scorer._answer(body).encode()
                self.send_response(200 if answer else scorer.refusal)
                self.send_header("Content-Type", "text/csv")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def handle(self) -> None:
                try:
                    super().handle()
                except ConnectionError:  # the worker was killed
                    self.close_connection = True

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """Where rows are scored."""
        return f"http://127.0.0.1:{self._server.server_port}/invocations"

    def hold(self) -> None:
        """From now on calls wait inside the model."""
        self.entered.clear()
        self._open.clear()

    def release(self) -> None:
        """Let the calls go on."""
        self._open.set()

    def _answer(self, body: str) -> str:
        """The answer's lines; nothing is an error of the server."""
        rows = [line.split(",") for line in body.splitlines()]
        self.scored.update(int(row[0]) for row in rows)
        self.entered.set()
        assert self._open.wait(HELD_SECONDS), "the test never let the model go on"
        threading.Event().wait(self.delay)
        if self.poison & {int(row[0]) for row in rows}:
            return ""
        return "".join(f"{float(a) + float(b)}\n" for _, a, b in rows)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
