"""An HTTP transport with a deadline for the whole call; httpx's own timeouts start anew with every byte."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

_CHUNK = 262_144  # bytes written between two looks at the clock


class DeadlineTransport(httpx.HTTPTransport):
    """httpx's transport over connections that look at the calling thread's deadline before each read and
    write.

    Args:
        connections: how many are open at most, all of them kept alive.
        tls: the TLS settings; None where no https address is called.
    """

    def __init__(self, *, connections: int, tls: ssl.SSLContext | None) -> None:
        self._clock = _Clock()
        # httpx has no parameter for the network backend; its pool is the one thing that is replaced.
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls,
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=30.0,
            network_backend=_Backend(self._clock),
        )

    @contextmanager
    def deadline(self, seconds: float) -> Iterator[None]:
        """This thread's connects, reads and writes inside the block end within so many seconds from now."""
        self._clock.ends_at = time.monotonic() + seconds
        try:
            yield
        finally:
            self._clock.ends_at = None


class _Clock(threading.local):
    ends_at: float | None = None

    def left(self, timeout: float | None, error: type[Exception]) -> float | None:
        """The timeout, cut to what is left until the deadline."""
        if self.ends_at is None:
            return timeout
        left = self.ends_at - time.monotonic()
        if left <= 0:
            raise error("the call's time is up")
        return left if timeout is None else min(timeout, left)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, clock: _Clock) -> None:
        self._clock = clock
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = self._clock.left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.connect_tcp(host, port, left, local_address, socket_options), self._clock)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, clock: _Clock) -> None:
        self._inner = inner
        self._clock = clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._clock.left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _CHUNK):
            left = self._clock.left(timeout, httpcore.WriteTimeout)
            self._inner.write(buffer[start : start + _CHUNK], left)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._clock.left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
