"""The broker: how Celery talks to it, and its failures in one line; it sends no message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.app.utils import sanitize_url
from celery.exceptions import BackendError
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from worker.errors import BrokerError

BROKER_FAILURES = (OperationalError, BackendError, RedisError, ConnectionError, TimeoutError)
_CONNECT_SECONDS = 5.0
_SILENCE = 25.0  # seconds after which an idle connection is tried before it is used
_RETRY = {"max_retries": 3, "interval_start": 0.0, "interval_step": 0.2, "interval_max": 0.5}


def broker_options(url: str) -> dict[str, Any]:
    """Celery's settings for a broker, and for results in the same Redis.

    A worker waits for its broker as long as it takes; whoever sends gives up after about a second, for
    messages are hints.
    """
    options: dict[str, Any] = {
        "broker_url": url,
        "result_backend": url,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": _CONNECT_SECONDS,
        "broker_transport_options": {
            "socket_connect_timeout": _CONNECT_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": _SILENCE,
        },
        "task_publish_retry_policy": _RETRY,
        "result_backend_transport_options": {"retry_policy": _RETRY},
        "redis_socket_connect_timeout": _CONNECT_SECONDS,
        "redis_socket_timeout": _SILENCE,
        "redis_socket_keepalive": True,
        "redis_backend_health_check_interval": _SILENCE,
    }
    if url.startswith("rediss://") and "ssl_cert_reqs" not in url:
        options["redis_backend_use_ssl"] = options["broker_use_ssl"] = {"ssl_cert_reqs": "required"}
    return options


@contextmanager
def broker_errors(url: str) -> Iterator[None]:
    """Turn the ways in which a broker fails into one line.

    Raises:
        BrokerError: it names the broker, without its password.
    """
    try:
        yield
    except BROKER_FAILURES as error:
        reason = " ".join(str(error).split())
        raise BrokerError(f"the broker {sanitize_url(url)} cannot be reached: {reason}") from error
