"""How long the HTTP model waits, how much it reads and sends, and whom it shows what it knows."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.endpoint import BATCH, OK, OUTPUTS, Request, Rows, Server, status, well
from worker.errors import (
    ConfigurationError,
    ModelError,
    PayloadTooLargeError,
    RowFaultError,
    ServiceRefusedError,
    ServiceTimeoutError,
    ServiceUnavailableError,
)
from worker.models.http import HttpEndpoint
from worker.models.protocol import Batch
from worker.patience import Patience
from worker.scoring import score

SECRET = "sesame-open-1234"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="silence"),
        pytest.param(OK + b"X-Filler: " + b"x" * 1000, id="the header drips"),
        pytest.param(OK + b"Content-Length: 1000\r\n\r\n" + b"0.1\n" * 250, id="the body drips"),
    ],
)
def test_the_deadline_holds_for_the_whole_call(
    server: Server, opened: Callable[..., HttpEndpoint], content: bytes
) -> None:
    def behave(request: Request, _rows: Rows) -> None:
        if not content:
            server.over.wait(5)
        started = OK + b"Content-Length: 1000\r\n\r\n" if content.endswith(b"0.1\n") else b""
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
        request.wfile.write(OK + b"\r\n")
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
