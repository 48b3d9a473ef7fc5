"""A model behind an HTTP endpoint that takes and answers text/csv; one request a call, no retries, no
conversions.

Each way of failing becomes the error whose class says who is at fault (`worker.errors`). Where the endpoint
may have stumbled over one row, that is RowFaultError, and bisection tells it from a fault of the service.

Redirects are not followed: rows would go to an address that nobody configured. The environment's proxies and
.netrc are not used, for the same reason; SSL_CERT_FILE and SSL_CERT_DIR are, so that a private authority can
be trusted.
"""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NoReturn

import httpx

from worker.errors import (
    ConfigurationError,
    ConnectionDroppedError,
    PayloadTooLargeError,
    RowFaultError,
    RowRejectedError,
    ServiceRefusedError,
    ServiceTimeoutError,
    ServiceUnavailableError,
    ThrottledError,
)
from worker.kinds.http import HttpModel
from worker.models import csvformat
from worker.models.deadline import DeadlineTransport
from worker.models.protocol import Answer, Batch, Model, RowFailure
from worker.secret import resolve_secret

_CONNECT_SECONDS = 5.0
_LONGEST_MESSAGE = 300
_SHORTEST_SECRET = 6  # hiding shorter words would make messages unreadable
_ANSWER_FACTOR = 4  # an answer of more than so many times max_bytes is not read to its end
_TEXT_TYPES = {"", "text/csv", "text/plain", "application/csv", "application/octet-stream"}
_REFUSALS = {
    401: "the credentials are missing or wrong",
    403: "access is denied",
    404: "there is nothing at this address",
    405: "POST is not allowed there",
    415: "text/csv is not taken",
}
_UNAVAILABLE = (502, 503, 504)
_NO_PING = (404, 405, 501)

# At INFO httpx logs every request with its whole URL, keys in the query included.
logging.getLogger("httpx").setLevel(logging.WARNING)


class HttpEndpoint(Model):
    """The model that an `http` section of the configuration describes.

    Args:
        settings: the section; `$NAME` and `file:` in its address and headers are resolved here.
        concurrency: the most requests in flight at once.
        where: the section's name in messages.
    """

    def __init__(self, settings: HttpModel, *, concurrency: int, where: str = "model") -> None:
        self._seconds = settings.timeout.total_seconds()
        self._max_bytes = settings.max_bytes
        url = _url(resolve_secret(settings.http, f"{where}.http"), f"{where}.http")
        headers = {
            name: resolve_secret(value, f"{where}.headers.{name}") for name, value in settings.headers.items()
        }
        self._name = str(url.copy_with(username=None, password=None, query=None, fragment=None))
        self._secrets = _secrets(*headers.values(), url.password, url.query.decode("ascii"))
        self._url = url.copy_with(username=None, password=None, fragment=None)
        self._transport = DeadlineTransport(
            connections=concurrency, tls=httpx.create_ssl_context() if url.scheme == "https" else None
        )
        self._client = httpx.Client(
            transport=self._transport,
            trust_env=False,
            follow_redirects=False,
            auth=(url.username, url.password) if url.username else None,
            timeout=httpx.Timeout(self._seconds, connect=min(_CONNECT_SECONDS, self._seconds)),
            headers={"Accept": "text/csv", "Accept-Encoding": "identity", **_checked(headers, where)},
        )

    def call(self, batch: Batch) -> list[Answer | RowFailure]:
        """POST the rows as text/csv; the answer's lines as tuples of text."""
        body = csvformat.encode(batch)
        if len(body) > self._max_bytes:
            raise PayloadTooLargeError(
                f"{len(batch)} rows are {len(body)} bytes, more than max_bytes = {self._max_bytes}"
            )
        answer, content = self._send("POST", self._url, body)
        if answer.status_code // 100 != 2:
            self._refuse(answer, content)
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in _TEXT_TYPES:
            raise RowFaultError(f"{self._name} answered {kind} where text/csv belongs: {self._line(content)}")
        try:
            return list(csvformat.decode(content, len(batch), answer.charset_encoding))
        except RowFaultError as error:
            raise RowFaultError(f"{self._name}: {error}: {self._line(content)}") from None

    def check(self) -> str:
        """GET /ping beside the address (SageMaker's container contract), and say what answered."""
        path = self._url.path.removesuffix("/").rpartition("/")[0] + "/ping"
        ping = self._url.copy_with(path=path, query=None)
        started = time.perf_counter()
        answer, content = self._send("GET", ping, None)
        milliseconds = (time.perf_counter() - started) * 1000
        if answer.status_code in _NO_PING:
            return (
                f"the server of {self._name} answers, but GET {ping} gave status {answer.status_code}: "
                "it has no health check there, so the model itself was not tried"
            )
        if answer.status_code // 100 != 2:
            if answer.status_code >= 500:
                raise ServiceUnavailableError(self._status(answer, content, f"{ping}"))
            self._refuse(answer, content)
        return f"{ping} answered {answer.status_code} in {milliseconds:.0f} ms"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _send(self, method: str, url: httpx.URL, body: bytes | None) -> tuple[httpx.Response, bytes]:
        headers = {"Content-Type": csvformat.CONTENT_TYPE} if body is not None else {}
        try:
            with (
                self._transport.deadline(self._seconds),
                self._client.stream(method, url, content=body, headers=headers) as answer,
            ):
                return answer, self._read(answer)
        except (httpx.ConnectTimeout, httpx.PoolTimeout):
            raise ServiceUnavailableError(f"{self._name}: no connection in time") from None
        except httpx.TimeoutException:
            raise ServiceTimeoutError(f"{self._name} did not answer within {self._seconds:g} s") from None
        except httpx.DecodingError:
            raise RowFaultError(
                f"{self._name} answered with a content encoding that cannot be read"
            ) from None
        except httpx.ConnectError as error:
            raise ServiceUnavailableError(f"{self._name}: {self._line(str(error))}") from None
        except httpx.TransportError as error:
            raise ConnectionDroppedError(
                f"{self._name}: {self._line(str(error)) or 'connection lost'}"
            ) from None

    def _read(self, answer: httpx.Response) -> bytes:
        """The body, as far as the deadline and the largest size allow."""
        most = self._max_bytes * _ANSWER_FACTOR
        parts, size = [], 0
        for part in answer.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > most:
                raise RowFaultError(f"{self._name} answered more than {most} bytes; the rest was not read")
        return b"".join(parts)

    def _refuse(self, answer: httpx.Response, content: bytes) -> NoReturn:
        """Raise the error that a status other than 2xx stands for."""
        status = answer.status_code
        message = self._status(answer, content)
        retry_after = _retry_after(answer.headers)
        if status == 429 or (status == 400 and _is_throttling(content)):
            raise ThrottledError(message, retry_after=retry_after)
        if status in (400, 422):
            raise RowRejectedError(message)
        if status == 413:
            raise PayloadTooLargeError(message)
        if answer.is_redirect or status in _REFUSALS:
            raise ServiceRefusedError(message)
        if status == 503 and retry_after is not None:
            raise ThrottledError(message, retry_after=retry_after)
        if status in _UNAVAILABLE:
            raise ServiceUnavailableError(message)
        raise RowFaultError(message)

    def _status(self, answer: httpx.Response, content: bytes, name: str | None = None) -> str:
        """One line: the address, the status, what it means, and what the endpoint says."""
        said = self._line(content)
        if answer.is_redirect:
            said = f"it redirects to {_place(answer)}; put the final address in the configuration"
        meaning = _REFUSALS.get(answer.status_code)
        detail = ": ".join(text for text in (meaning, said) if text)
        message = f"{name or self._name} answered status {answer.status_code}"
        return f"{message}: {detail}" if detail else message

    def _line(self, content: bytes | str) -> str:
        """The beginning of a text on one line, without control characters and without our own secrets."""
        text = (
            content if isinstance(content, str) else content[: 4 * _LONGEST_MESSAGE].decode(errors="replace")
        )
        for secret in self._secrets:
            text = text.replace(secret, "***")
        printable = "".join(letter if letter.isprintable() else " " for letter in text)
        return " ".join(printable.split())[:_LONGEST_MESSAGE]


def _url(text: str, where: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError(f"{where}: expected an address such as http://host:8080/invocations")
    return url


def _secrets(*texts: str) -> list[str]:
    """What must not be shown, the longest first: the texts and their words, unless very short."""
    words = {word for text in texts for word in (text, *re.split(r"[\s&=]+", text))}
    return sorted((word for word in words if len(word) >= _SHORTEST_SECRET), key=len, reverse=True)


def _checked(headers: Mapping[str, str], where: str) -> Mapping[str, str]:
    """Headers that can be sent; a secret's value is never shown."""
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise ConfigurationError(f"{where}.headers.{name}: only printable ASCII characters can be sent")
    return headers


def _is_throttling(content: bytes) -> bool:
    """SageMaker's way of throttling: status 400 and a message that is null."""
    try:
        body = json.loads(content)
    except ValueError:
        return False
    return isinstance(body, dict) and "message" in body and body["message"] is None


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds from now, from a number or an HTTP date; None where it is missing or neither."""
    text = headers.get("retry-after", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _place(answer: httpx.Response) -> str:
    """Where a redirect leads, without what may be secret."""
    try:
        return str(httpx.URL(answer.headers["location"]).copy_with(username=None, password=None, query=None))
    except (KeyError, httpx.InvalidURL):
        return "an address that cannot be read"
