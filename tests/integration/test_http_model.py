"""The HTTP model against a real server on loopback: strict about what it is sent, wrong in thirty ways."""

from __future__ import annotations

import csv
import gzip
import io
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from worker import config
from worker.answers import OutputKind, OutputType
from worker.errors import (
    ConfigurationError,
    ConnectionDroppedError,
    ModelError,
    PayloadTooLargeError,
    RowFaultError,
    RowRejectedError,
    ServiceRefusedError,
    ServiceTimeoutError,
    ServiceUnavailableError,
    ThrottledError,
)
from worker.models.http import HttpEndpoint
from worker.models.protocol import Batch, RowFailure
from worker.patience import Patience
from worker.scoring import score

OUTPUTS = {"p": OutputType(OutputKind.FLOAT)}
BATCH = Batch(
    ("state", "mins", "note"), [("CA", 1.5, None), ("N,Y", 2.0, 'say "hi"'), ("TX", 3.5, "two\nlines")]
)
SECRET = "sesame-open-1234"

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


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def opened() -> Iterator[Callable[..., HttpEndpoint]]:
    """Opens models; the last one first they are closed before the server is."""
    models: list[HttpEndpoint] = []

    def open_endpoint(url: str, *, concurrency: int = 4, **settings: Any) -> HttpEndpoint:
        settings = {"timeout": "5s"} | settings
        models.append(HttpEndpoint(config.HttpModel(http=url, **settings), concurrency=concurrency))
        return models[-1]

    yield open_endpoint
    for model in models:
        model.close()


@pytest.fixture
def model(server: Server, opened: Callable[..., HttpEndpoint]) -> HttpEndpoint:
    """Depends on the server, so it is closed first: idle connections would hold the server's threads."""
    return opened(server.url)


def test_rows_go_out_and_answers_come_back(server: Server, model: HttpEndpoint) -> None:
    seen: list[Rows] = []

    def behave(request: Request, rows: Rows) -> None:
        seen.append(rows)
        well(request, rows)

    server.behave = behave
    assert model.call(BATCH) == [("0.15",), ("0.2",), ("0.35",)]
    assert seen == [[["CA", "1.5", ""], ["N,Y", "2.0", 'say "hi"'], ["TX", "3.5", "two\nlines"]]]
    assert server.requests == [("POST", "/invocations")]


def test_connections_are_kept(server: Server, model: HttpEndpoint) -> None:
    for _ in range(5):
        model.call(BATCH)
    assert len(server.clients) == 1


def status(code: int, body: str = "", **headers: str) -> Callable[[Request, Rows], None]:
    return lambda request, _rows: request.answer(body, code, "text/plain", **headers)


@pytest.mark.parametrize(
    ("behave", "error", "message"),
    [
        (status(400, "column 3:\n  not a number"), RowRejectedError, "status 400: column 3: not a number"),
        (status(400, '{"message": null}'), ThrottledError, "status 400"),
        (status(400, '{"message": "bad"}'), RowRejectedError, "bad"),
        (status(422), RowRejectedError, "status 422"),
        (status(401), ServiceRefusedError, "credentials"),
        (status(403, "no"), ServiceRefusedError, "access is denied: no"),
        (status(404), ServiceRefusedError, "nothing at this address"),
        (status(405), ServiceRefusedError, "POST is not allowed"),
        (status(415), ServiceRefusedError, "text/csv is not taken"),
        (
            status(302, Location="http://example.com/x?key=1"),
            ServiceRefusedError,
            "redirects to http://example.com/x;",
        ),
        (status(301), ServiceRefusedError, "redirects|status 301"),
        (status(413), PayloadTooLargeError, "status 413"),
        (status(429), ThrottledError, "status 429"),
        (status(500, "KeyError: 'CA'"), RowFaultError, "status 500: KeyError"),
        (status(418), RowFaultError, "status 418"),
        (status(424), RowFaultError, "status 424"),
        (status(502), ServiceUnavailableError, "status 502"),
        (status(503), ServiceUnavailableError, "status 503"),
        (status(503, Retry_After="7"), ThrottledError, "status 503"),
        (status(504), ServiceUnavailableError, "status 504"),
        (status(500, "x" * 100_000), RowFaultError, "x{300}$"),
    ],
)
def test_each_status_has_its_error(
    server: Server, model: HttpEndpoint, behave: Any, error: type[ModelError], message: str
) -> None:
    server.behave = behave
    with pytest.raises(error, match=message) as raised:
        model.call(BATCH)
    assert type(raised.value) is error
    assert "\n" not in str(raised.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("-1", 0.0), ("soon", None), ("nan", None), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0)],
)
def test_retry_after_is_read(server: Server, model: HttpEndpoint, header: str, seconds: float | None) -> None:
    server.behave = status(429, Retry_After=header)
    with pytest.raises(ThrottledError) as raised:
        model.call(BATCH)
    assert raised.value.retry_after == seconds


def body(
    content: bytes | str, kind: str | None = "text/csv", **headers: str
) -> Callable[[Request, Rows], None]:
    return lambda request, _rows: request.answer(content, 200, kind, **headers)


def raw(content: bytes) -> Callable[[Request, Rows], None]:
    return lambda request, _rows: request.raw(content)


_OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n"


@pytest.mark.parametrize(
    ("behave", "error", "message"),
    [
        pytest.param(body("1\n2\n"), RowFaultError, "answered 2 lines where 3 rows", id="too few rows"),
        pytest.param(body("1\n2\n3\n4\n"), RowFaultError, "answered 4 lines", id="too many rows"),
        pytest.param(body("p\n1\n2\n3\n"), RowFaultError, "answered 4 lines", id="a header line"),
        pytest.param(body("1,2,3"), RowFaultError, "answered 1 lines", id="all on one line"),
        pytest.param(body(""), RowFaultError, "answered 0 lines", id="nothing"),
        pytest.param(status(204), RowFaultError, "answered 0 lines", id="no content"),
        pytest.param(
            body("<html>oops", "text/html"), RowFaultError, "text/html where text/csv.*<html>", id="HTML"
        ),
        pytest.param(
            body("[1,2,3]", "application/json; charset=utf-8"), RowFaultError, "application/json", id="JSON"
        ),
        pytest.param(body("é\n2\n3\n".encode("latin-1")), RowFaultError, "not UTF-8", id="not UTF-8"),
        pytest.param(
            body("1\n2\n3\n", "text/csv; charset=utf-16"), RowFaultError, "charset utf-16", id="charset"
        ),
        pytest.param(body('"1\n2\n3\n'), RowFaultError, "not CSV", id="open quote"),
        pytest.param(body(b"\x00\x01\x02", "image/png"), RowFaultError, "image/png", id="binary"),
        pytest.param(
            body(b"no gzip", Content_Encoding="gzip"), RowFaultError, "content encoding", id="broken gzip"
        ),
        pytest.param(raw(b""), ConnectionDroppedError, "disconnected|lost", id="closed without an answer"),
        pytest.param(
            raw(b"HTTP/1.1 200 OK\r\nConte"), ConnectionDroppedError, "127.0.0.1", id="closed in the header"
        ),
        pytest.param(
            raw(_OK + b"Content-Length: 60\r\n\r\n1\n2\n3\n"),
            ConnectionDroppedError,
            "127.0.0.1",
            id="truncated",
        ),
        pytest.param(
            raw(_OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\n1\n2\n\r\n"),
            ConnectionDroppedError,
            "127.0.0.1",
            id="half chunks",
        ),
        pytest.param(
            raw(_OK + b"Content-Length: many\r\n\r\n"),
            ConnectionDroppedError,
            "127.0.0.1",
            id="broken length",
        ),
        pytest.param(raw(b"SSH-2.0-OpenSSH\r\n"), ConnectionDroppedError, "127.0.0.1", id="another protocol"),
    ],
)
def test_what_is_no_answer(
    server: Server, model: HttpEndpoint, behave: Any, error: type[ModelError], message: str
) -> None:
    server.behave = behave
    with pytest.raises(error, match=message) as raised:
        model.call(BATCH)
    assert type(raised.value) is error
    server.behave = well
    assert len(model.call(BATCH)) == 3, "the next call is not spoilt"


@pytest.mark.parametrize(
    "behave",
    [
        body("0.15\r\n0.2\r\n0.35"),
        body("0.15\n0.2\n0.35\n\n\n"),
        body("0.15\n0.2\n0.35\n", "text/csv; charset=UTF-8"),
        body("0.15\n0.2\n0.35\n", None),
        body("0.15\n0.2\n0.35\n", "text/plain"),
        body('"0.15"\n"0.2"\n"0.35"\n'),
        body(b"\xef\xbb\xbf0.15\n0.2\n0.35\n"),
        body(gzip.compress(b"0.15\n0.2\n0.35\n"), Content_Encoding="gzip"),
        raw(_OK + b"\r\n0.15\n0.2\n0.35\n"),
        raw(_OK + b"Transfer-Encoding: chunked\r\n\r\n7\r\n0.15\n0.\r\n7\r\n2\n0.35\n\r\n0\r\n\r\n"),
    ],
)
def test_what_is_an_answer_in_spite_of_its_looks(server: Server, model: HttpEndpoint, behave: Any) -> None:
    server.behave = behave
    assert model.call(BATCH) == [("0.15",), ("0.2",), ("0.35",)]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="silence"),
        pytest.param(_OK + b"X-Filler: " + b"x" * 1000, id="the header drips"),
        pytest.param(_OK + b"Content-Length: 1000\r\n\r\n" + b"0.1\n" * 250, id="the body drips"),
    ],
)
def test_the_deadline_holds_for_the_whole_call(
    server: Server, opened: Callable[..., HttpEndpoint], content: bytes
) -> None:
    def behave(request: Request, _rows: Rows) -> None:
        if not content:
            server.over.wait(5)
        started = _OK + b"Content-Length: 1000\r\n\r\n" if content.endswith(b"0.1\n") else b""
        request.wfile.write(started)
        request.drip(content.removeprefix(started))

    server.behave = behave
    model = opened(server.url, timeout="200ms")
    started = time.monotonic()
    with pytest.raises(ServiceTimeoutError, match=r"did not answer within 0\.2 s"):
        model.call(BATCH)
    assert time.monotonic() - started < 1.0
    server.over.set()


def test_a_server_that_does_not_read_is_left_in_time(opened: Callable[..., HttpEndpoint]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        model = opened(f"http://127.0.0.1:{deaf.getsockname()[1]}/", timeout="200ms", max_bytes=50_000_000)
        started = time.monotonic()
        with pytest.raises(ServiceTimeoutError):
            model.call(Batch(("x",), [("x" * 20_000_000,)]))
        assert time.monotonic() - started < 1.0


def test_an_endless_answer_is_not_read_to_its_end(
    server: Server, opened: Callable[..., HttpEndpoint]
) -> None:
    def behave(request: Request, _rows: Rows) -> None:
        request.close_connection = True
        request.wfile.write(_OK + b"\r\n")
        try:
            while not server.over.is_set():
                request.wfile.write(b"0.1\n" * 1000)
        except OSError:
            pass

    server.behave = behave
    with pytest.raises(RowFaultError, match="more than 40000 bytes"):
        opened(server.url, max_bytes=10_000).call(BATCH)


def test_a_payload_that_is_too_large_is_never_sent(
    server: Server, opened: Callable[..., HttpEndpoint]
) -> None:
    with pytest.raises(PayloadTooLargeError, match=r"3 rows are .* bytes, more than max_bytes = 40"):
        opened(server.url, max_bytes=40).call(BATCH)
    assert not server.requests


def test_nobody_listens(opened: Callable[..., HttpEndpoint]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    model = opened(f"http://127.0.0.1:{port}/invocations")
    with pytest.raises(ServiceUnavailableError, match="refused"):
        model.call(BATCH)
    with pytest.raises(ServiceUnavailableError):
        model.check()


def test_tls_is_asked_for_and_not_given(server: Server, opened: Callable[..., HttpEndpoint]) -> None:
    with pytest.raises(ServiceUnavailableError):
        opened(server.url.replace("http:", "https:")).call(BATCH)


def test_a_connection_that_died_while_idle_is_replaced(server: Server, model: HttpEndpoint) -> None:
    def behave(request: Request, rows: Rows) -> None:
        well(request, rows)
        request.close_connection = True  # without saying so

    server.behave = behave
    for _ in range(3):
        scores = score(model, BATCH, OUTPUTS, rows_per_call=10, patience=Patience(first_wait=0.01))
        assert scores.outcomes == [(0.15,), (0.2,), (0.35,)]


# --- secrets and addresses ----------------------------------------------------------------------------------


def test_secrets_are_sent_and_never_shown(
    server: Server, opened: Callable[..., HttpEndpoint], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = tmp_path / "key"
    key.write_text(f"Bearer {SECRET}\n")
    url = server.url.replace("http://", f"http://me:{SECRET}@") + f"?key={SECRET}"
    server.behave = lambda request, _rows: request.answer(
        f"{SECRET} {request.headers['X-Key']} is wrong at {request.path}", 500, "text/plain"
    )
    model = opened(url, headers={"X-Key": f"file:{key}"})
    with caplog.at_level(logging.DEBUG), pytest.raises(RowFaultError) as raised:
        model.call(BATCH)
    assert server.headers[0]["x-key"] == f"Bearer {SECRET}"
    assert server.headers[0]["authorization"].startswith("Basic ")
    assert server.requests == [("POST", f"/invocations?key={SECRET}")]
    assert SECRET not in str(raised.value)
    assert f"{server.url} answered status 500: *** *** is wrong" in str(raised.value)
    assert SECRET not in caplog.text
    with pytest.raises(RowFaultError), caplog.at_level(logging.DEBUG):
        model.call(BATCH)
    assert SECRET not in caplog.text


@pytest.mark.parametrize("url", ["$ROWSCORE_TEST_UNSET_URL"])
def test_an_address_that_is_not_set_names_the_key(opened: Callable[..., HttpEndpoint], url: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"model\.http: the environment variable ROWSCORE_TEST_UNSET_URL"
    ):
        opened(url)


def test_what_cannot_be_called_is_a_mistake_in_the_configuration(
    opened: Callable[..., HttpEndpoint], monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.setenv("ROWSCORE_TEST_URL", "ftp://host/x")
    with pytest.raises(ConfigurationError, match=r"model\.http: expected an address such as http"):
        opened("$ROWSCORE_TEST_URL")
    monkeypatch.setenv("ROWSCORE_TEST_URL", "new\nline")
    with pytest.raises(ConfigurationError, match=r"model\.headers\.X-Key: only printable") as refusal:
        opened(server.url, headers={"X-Key": "$ROWSCORE_TEST_URL"})
    assert "new" not in str(refusal.value)


def test_the_environments_proxies_get_no_rows(
    server: Server, opened: Callable[..., HttpEndpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert len(opened(server.url).call(BATCH)) == 3


# --- check --------------------------------------------------------------------------------------------------


def test_check_pings_beside_the_address(server: Server, opened: Callable[..., HttpEndpoint]) -> None:
    ping = server.url.replace("invocations", "ping")
    assert f"{ping} answered 200 in" in opened(server.url).check()
    opened(server.url.replace("/invocations", "/models/churn/invocations?x=1")).check()
    opened(server.url.replace("/invocations", "")).check()
    assert server.requests == [("GET", "/ping"), ("GET", "/models/churn/ping"), ("GET", "/ping")]


def test_check_says_what_was_tried_where_there_is_no_ping(server: Server, model: HttpEndpoint) -> None:
    server.behave = status(404)
    found = model.check()
    assert f"GET {server.url.replace('invocations', 'ping')} gave status 404" in found
    assert "was not tried" in found


@pytest.mark.parametrize(("code", "error"), [(500, ServiceUnavailableError), (403, ServiceRefusedError)])
def test_check_fails_with_the_reason(
    server: Server, model: HttpEndpoint, code: int, error: type[ModelError]
) -> None:
    server.behave = status(code, "warming up")
    with pytest.raises(error, match="warming up"):
        model.check()


# --- whole batches ------------------------------------------------------------------------------------------


def numbered(size: int) -> Batch:
    return Batch(("n", "x"), [(number, float(number)) for number in range(size)])


def test_one_poison_row_among_ten_thousand(server: Server, model: HttpEndpoint) -> None:
    def behave(request: Request, rows: Rows) -> None:
        if any(row[0] == "7531" for row in rows):
            request.answer("ValueError: could not convert", 500, "text/plain")
            return
        with server.lock:
            server.scored.update(row[0] for row in rows)
        well(request, rows)

    server.behave = behave
    scores = score(model, numbered(10_000), OUTPUTS, rows_per_call=2000, concurrency=4)
    failed = [row for row, outcome in enumerate(scores.outcomes) if isinstance(outcome, RowFailure)]
    assert failed == [7531]
    assert scores.fault is None
    assert None not in scores.outcomes
    assert scores.outcomes[9999] == (999.9,)
    assert set(server.scored.values()) == {1}
    assert len(server.scored) == 9999
    assert scores.statistics.calls == len(server.requests) <= 5 + 2 * 11
    assert len(server.clients) <= 4


def test_a_row_on_which_the_endpoint_drops_the_connection_stops_nobody(
    server: Server, model: HttpEndpoint
) -> None:
    def behave(request: Request, rows: Rows) -> None:
        if any(row[0] == "31" for row in rows):
            request.raw(b"")
        else:
            well(request, rows)

    server.behave = behave
    patience = Patience(first_wait=0.001, longest_wait=0.002)
    scores = score(model, numbered(64), OUTPUTS, rows_per_call=64, patience=patience)
    failed = [row for row, outcome in enumerate(scores.outcomes) if isinstance(outcome, RowFailure)]
    assert (failed, scores.fault) == ([31], None)
    assert scores.outcomes[63] == (6.3,)


def test_an_endpoint_that_drops_every_connection_charges_no_row(server: Server, model: HttpEndpoint) -> None:
    server.behave = raw(b"")
    patience = Patience(first_wait=0.001, longest_wait=0.002)
    scores = score(model, numbered(64), OUTPUTS, rows_per_call=64, patience=patience)
    assert isinstance(scores.fault, ServiceUnavailableError)
    assert set(scores.outcomes) == {None}


def test_a_nan_fails_its_row_alone(server: Server, model: HttpEndpoint) -> None:
    server.behave = lambda request, _rows: request.answer("0.5\nNaN\n\n")
    scores = score(model, numbered(3), OUTPUTS, rows_per_call=10)
    assert scores.outcomes[0] == (0.5,)
    assert isinstance(scores.outcomes[1], RowFailure)
    assert "p: the model answered 'NaN', which is not a finite number" in scores.outcomes[1].message
    assert scores.outcomes[2] == (None,)


@pytest.mark.parametrize("behave", [body("<html>maintenance", "text/html"), status(500, "out of memory")])
def test_an_endpoint_that_is_broken_blames_no_row(server: Server, model: HttpEndpoint, behave: Any) -> None:
    server.behave = behave
    scores = score(model, numbered(1000), OUTPUTS, rows_per_call=500, concurrency=2)
    assert isinstance(scores.fault, ServiceUnavailableError)
    assert scores.outcomes == [None] * 1000
    assert len(server.requests) < 25


def test_a_limit_of_the_server_is_learned(server: Server, model: HttpEndpoint) -> None:
    server.behave = lambda request, rows: (
        status(413)(request, rows) if len(rows) > 100 else well(request, rows)
    )
    scores = score(model, numbered(1000), OUTPUTS, rows_per_call=300, concurrency=2)
    assert scores.fault is None
    assert None not in scores.outcomes
    assert scores.rows_per_call == 75


def test_throttling_is_waited_out(server: Server, model: HttpEndpoint) -> None:
    left = [status(429, Retry_After="0"), status(400, '{"message": null}'), status(503)]

    def behave(request: Request, rows: Rows) -> None:
        (left.pop(0) if left else well)(request, rows)

    server.behave = behave
    patience = Patience(first_wait=0.01, throttle_wait=0.01)
    scores = score(model, numbered(10), OUTPUTS, rows_per_call=10, patience=patience)
    assert scores.fault is None
    assert (scores.statistics.throttled, scores.statistics.retries) == (2, 3)
