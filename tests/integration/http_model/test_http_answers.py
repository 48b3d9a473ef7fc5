"""What the HTTP model sends, and what it makes of each status and of each answer, right or wrong."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from tests.support.endpoint import BATCH, OK, Request, Rows, Server, body, raw, status, well
from worker.errors import (
    ConnectionDroppedError,
    ModelError,
    PayloadTooLargeError,
    RowFaultError,
    RowRejectedError,
    ServiceRefusedError,
    ServiceUnavailableError,
    ThrottledError,
)
from worker.models.http import HttpEndpoint


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
        (status(415), ServiceRefusedError, "content type is not taken"),
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
        (status(500, "x" * 200_000), RowFaultError, r"status 500: x{120} \.\.\. x{175}$"),
        (status(500, "Traceback\n" + " File x\n" * 99 + "KeyError: 'CA'"), RowFaultError, "KeyError: 'CA'$"),
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
            raw(OK + b"Content-Length: 60\r\n\r\n1\n2\n3\n"),
            ConnectionDroppedError,
            "127.0.0.1",
            id="truncated",
        ),
        pytest.param(
            raw(OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\n1\n2\n\r\n"),
            ConnectionDroppedError,
            "127.0.0.1",
            id="half chunks",
        ),
        pytest.param(
            raw(OK + b"Content-Length: many\r\n\r\n"),
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
        raw(OK + b"\r\n0.15\n0.2\n0.35\n"),
        raw(OK + b"Transfer-Encoding: chunked\r\n\r\n7\r\n0.15\n0.\r\n7\r\n2\n0.35\n\r\n0\r\n\r\n"),
    ],
)
def test_what_is_an_answer_in_spite_of_its_looks(server: Server, model: HttpEndpoint, behave: Any) -> None:
    server.behave = behave
    assert model.call(BATCH) == [("0.15",), ("0.2",), ("0.35",)]
