"""An embeddings endpoint for benchmarks, in the form of OpenAI's: each call takes its time, so many are served at once.

The numbers are made beforehand, so that its own share of the processors is small.
"""

from __future__ import annotations

import base64
import json
import multiprocessing
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any

import httpx
import numpy as np

from worker.demo.loopback import LOOPBACK


class Endpoint(ThreadingHTTPServer):
    """The server: `seconds` a call, `slots` calls at once, vectors of so many `dimensions`."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, seconds: float, slots: int, dimensions: int) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        vector = np.linspace(-0.5, 0.5, dimensions, dtype="<f4")
        self.seconds = seconds
        self.free = threading.Semaphore(slots)
        self.lock = threading.Lock()
        self.forms = {
            "float": json.dumps([round(float(value), 6) for value in vector]).encode(),
            "base64": json.dumps(base64.b64encode(vector.tobytes()).decode()).encode(),
        }
        self.clear()

    def clear(self) -> None:
        """Forget what was counted."""
        self.calls = self.rows = 0
        self.first: float | None = None
        self.last: float | None = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Endpoint

    def do_GET(self) -> None:
        server = self.server
        counted = {"calls": server.calls, "rows": server.rows, "first": server.first, "last": server.last}
        server.clear()
        self._answer(json.dumps(counted).encode())

    def do_POST(self) -> None:
        server = self.server
        with server.lock:
            server.first = server.first or time.monotonic()
        request: Any = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = request["input"]
        with server.free:
            time.sleep(server.seconds)
        form = server.forms[request.get("encoding_format") or "float"]
        items = b",".join(
            b'{"object":"embedding","index":%d,"embedding":%s}' % (place, form) for place in range(len(texts))
        )
        with server.lock:
            server.calls += 1
            server.rows += len(texts)
            server.last = time.monotonic()
        usage = json.dumps({"prompt_tokens": len(texts), "total_tokens": len(texts)}).encode()
        model = json.dumps(request["model"]).encode()
        self._answer(
            b'{"object":"list","data":[' + items + b'],"model":' + model + b',"usage":' + usage + b"}"
        )

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def served(seconds: float, slots: int, dimensions: int) -> Iterator[str]:
    """The endpoint in a process of its own; yields its base address (`.../v1`)."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(there, seconds, slots, dimensions), daemon=True
    )
    process.start()
    try:
        yield f"http://{LOOPBACK}:{here.recv()}/v1"
    finally:
        process.terminate()
        process.join()


def counted(address: str) -> dict[str, Any]:
    """What was asked since the last look: calls, rows, and when the first came and the last was answered."""
    found: dict[str, Any] = httpx.get(address, trust_env=False).json()
    return found


def _serve(pipe: Connection, seconds: float, slots: int, dimensions: int) -> None:
    with Endpoint(seconds, slots, dimensions) as server:
        pipe.send(server.server_port)
        server.serve_forever()
