"""Sends requests to one HTTP service and reads its answers; it knows no rows, and repeats nothing.

Each way of failing becomes the error whose class says who is at fault (`worker.errors`). Where the service may have
stumbled over one row, that is RowFaultError, and bisection tells it from a fault of the service.

Redirects are not followed: rows would go to an address that nobody configured. The environment's proxies and .netrc
are not used, for the same reason; SSL_CERT_FILE and SSL_CERT_DIR are, and `ca`, so that a private authority can be
trusted.
"""

from __future__ import annotations

import logging
import re
import ssl
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import httpx

from worker.errors import (
    ConfigurationError,
    ConnectionDroppedError,
    RowFaultError,
    ServiceTimeoutError,
    ServiceUnavailableError,
)
from worker.kinds.base import ServiceModel
from worker.models.deadline import DeadlineTransport
from worker.secret import resolve_secret

_CONNECT_SECONDS = 5.0
_LONGEST_MESSAGE = 300
_BEGINNING = 120  # letters of a message that is longer, and the rest of them from its end
_LOOKED_AT = 65_536  # bytes at either end of an answer
_SHORTEST_SECRET = 6  # hiding shorter words would make messages unreadable
_ANSWER_FACTOR = 4  # an answer of more than so many times max_bytes is not read to its end

# At INFO httpx logs every request with its whole URL, keys in the query included.
logging.getLogger("httpx").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the service answered, read to its end and decoded.

    Attributes:
        kind: the content type in lower case without its parameters; empty where there is none.
        charset: the charset that the content type names, if any.
    """

    status: int
    headers: httpx.Headers
    content: bytes
    kind: str
    charset: str | None

    @property
    def succeeded(self) -> bool:
        """Whether the status is one of success."""
        return self.status // 100 == 2


class AnswerTooLongError(RowFaultError):
    """The service answered more bytes than are read."""


class Client:
    """Connections to one address, kept alive, for several threads at once.

    Args:
        address: where it is; `$NAME` and `file:` are resolved here, as in the headers.
        settings: how long a call takes at most, and how large a request is: the largest answer follows from it.
        headers: sent with every request, over the client's own.
        accept: the content type that is asked for.
        ca: a PEM file of authorities; certificates that they signed are taken then, and no others.
        concurrency: the most requests in flight at once.
        where: the model section's name in messages.
        key: the key of the section that the address stands under.

    Raises:
        ConfigurationError: it cannot be called as configured.
    """

    def __init__(
        self,
        address: str,
        settings: ServiceModel,
        *,
        headers: Mapping[str, str],
        accept: str,
        ca: Path | None,
        concurrency: int,
        where: str,
        key: str,
    ) -> None:
        self._seconds = settings.timeout.total_seconds()
        self._most = settings.max_bytes * _ANSWER_FACTOR
        url = _url(resolve_secret(address, f"{where}.{key}"), f"{where}.{key}")
        sent = {name: resolve_secret(value, f"{where}.headers.{name}") for name, value in headers.items()}
        self.name = str(url.copy_with(username=None, password=None, query=None, fragment=None))
        self.url = url.copy_with(username=None, password=None, fragment=None)
        self._secrets = _secrets(*sent.values(), url.password, url.query.decode("ascii"))
        tls = _tls(ca, f"{where}.ca") if url.scheme == "https" else None
        self._transport = DeadlineTransport(connections=concurrency, tls=tls)
        self._client = httpx.Client(
            transport=self._transport,
            trust_env=False,
            follow_redirects=False,
            auth=(url.username, url.password) if url.username else None,
            timeout=httpx.Timeout(self._seconds, connect=min(_CONNECT_SECONDS, self._seconds)),
            headers={"Accept": accept, "Accept-Encoding": "identity", **_checked(sent, where)},
        )

    def post(self, body: bytes, content_type: str) -> Reply:
        """The answer to a POST at the address, whatever its status.

        Raises:
            ModelError: there is none, or it cannot be read.
        """
        return self._send("POST", self.url, body, {"Content-Type": content_type})

    def get(self, url: httpx.URL) -> Reply:
        """The answer to a GET at an address of the same service, whatever its status.

        Raises:
            ModelError: there is none, or it cannot be read.
        """
        return self._send("GET", url, None, {})

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def line(self, content: bytes | str) -> str:
        """A text on one line, without control characters and without our own secrets.

        Of a long one the beginning and the end: a traceback says at its end what happened.
        """
        whole = content if isinstance(content, str) else _decoded_ends(content)
        for secret in self._secrets:
            whole = whole.replace(secret, "***")
        printable = "".join(letter if letter.isprintable() else " " for letter in whole)
        text = " ".join(printable.split())
        if len(text) <= _LONGEST_MESSAGE:
            return text
        return f"{text[:_BEGINNING]} ... {text[_BEGINNING + 5 - _LONGEST_MESSAGE :]}"

    def _send(self, method: str, url: httpx.URL, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        try:
            with (
                self._transport.deadline(self._seconds),
                self._client.stream(method, url, content=body, headers=headers) as answer,
            ):
                return self._reply(answer)
        except (httpx.ConnectTimeout, httpx.PoolTimeout):
            raise ServiceUnavailableError(f"{self.name}: no connection in time") from None
        except httpx.TimeoutException:
            raise ServiceTimeoutError(f"{self.name} did not answer within {self._seconds:g} s") from None
        except httpx.ConnectError as error:
            raise ServiceUnavailableError(f"{self.name}: {self.line(str(error))}") from None
        except httpx.TransportError as error:
            raise ConnectionDroppedError(
                f"{self.name}: {self.line(str(error)) or 'connection lost'}"
            ) from None

    def _reply(self, answer: httpx.Response) -> Reply:
        """The whole answer, as far as the deadline and the largest size allow."""
        coding = answer.headers.get("content-encoding", "identity").strip().lower()
        parts, size = [], 0
        for part in self._decoded(answer.iter_raw(), coding or "identity"):
            parts.append(part)
            size += len(part)
            if size > self._most:
                raise AnswerTooLongError(
                    f"{self.name} answered more than {self._most} bytes; the rest was not read"
                )
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        return Reply(answer.status_code, answer.headers, b"".join(parts), kind, answer.charset_encoding)

    def _decoded(self, parts: Iterator[bytes], coding: str) -> Iterator[bytes]:
        """The body's bytes, unpacked by the piece: nothing was asked for but identity, yet some servers pack.

        httpx unpacks each part whole, which for a bomb is a thousand times its size, and takes a stream that is cut
        short for a whole one: the last number would lack digits.
        """
        if coding == "identity":
            yield from parts
            return
        if coding not in ("gzip", "x-gzip", "deflate"):
            raise RowFaultError(
                f"{self.name} answered with the content encoding {self.line(coding)}, not identity"
            )
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, by the header
        try:
            for part in parts:
                rest = part
                while rest and not unpacker.eof:
                    yield unpacker.decompress(rest, self._most + 1)
                    rest = unpacker.unconsumed_tail
        except zlib.error:
            pass
        if not unpacker.eof or unpacker.unused_data:
            raise RowFaultError(f"{self.name} answered with a content encoding that cannot be read")


def _decoded_ends(content: bytes) -> str:
    if len(content) <= 2 * _LOOKED_AT:
        return content.decode(errors="replace")
    return f"{content[:_LOOKED_AT].decode(errors='replace')} {content[-_LOOKED_AT:].decode(errors='replace')}"


def _url(text: str, where: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError(f"{where}: expected an address such as http://host:8080/invocations")
    return url


def _tls(ca: Path | None, where: str) -> ssl.SSLContext:
    if ca is None:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise ConfigurationError(f"{where}: {ca} is no PEM file of certificates") from None
    except OSError as error:
        raise ConfigurationError(f"{where}: cannot read {ca}: {error.strerror}") from None


def _secrets(*texts: str) -> list[str]:
    """What must not be shown, the longest first: the texts, and their words as sent and as meant."""
    words = {word for text in texts for word in (text, *re.split(r"[\s&=]+", text))}
    words |= {unquote(word) for word in words}
    return sorted((word for word in words if len(word) >= _SHORTEST_SECRET), key=len, reverse=True)


def _checked(headers: Mapping[str, str], where: str) -> Mapping[str, str]:
    """Headers that can be sent; a secret's value is never shown."""
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise ConfigurationError(f"{where}.headers.{name}: only printable ASCII characters can be sent")
    return headers
