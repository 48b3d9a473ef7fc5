"""Redis, as far as workers share things there that are no messages; it knows neither what they are nor whose.

The broker's Redis, opened at the first use: a process whose predictions have no `rate_limit` and no `remember` never
connects. Its failures come as one line.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from worker.config import Configuration
from worker.errors import ConfigurationError, StoreError

if TYPE_CHECKING:
    from redis import Redis

_Result = TypeVar("_Result")
_SCHEMES = ("redis://", "rediss://")
_SECONDS = 2.0  # for connecting and for each answer: calls wait for it
_SILENCE = 25  # seconds after which an idle connection is tried before it is used
_AT_ONCE = 1000  # keys in a command, so that no command keeps Redis from others for long


def broker_url(configuration: Configuration) -> str:
    """The broker's URL with its secrets resolved; never print it.

    Celery lets $CELERY_BROKER_URL, which `celery -b` sets, win over any setting, so results go there as well.

    Raises:
        ConfigurationError: it is not set, or not a URL of a Redis.
    """
    url = os.environ.get("CELERY_BROKER_URL") or configuration.broker_url()
    if not url.startswith(_SCHEMES):
        raise ConfigurationError(f"{configuration.path}: broker: expected redis:// or rediss://host:6379/0")
    return url


class Store:
    """One Redis and this process's connections to it; several threads may use it at once.

    Args:
        url: of the Redis, with its secrets.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._client: Redis | None = None
        self._scripts: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """Its address without user and password."""
        parts = urlsplit(self._url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[int]) -> Any:
        """What a Lua script returns; it runs as one, beside no other command.

        Raises:
            StoreError: Redis cannot be reached, or refuses.
        """
        return self._ask(lambda client: self._script(client, script)(keys=keys, args=arguments))

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of the keys, None where there is none.

        Raises:
            StoreError: Redis cannot be reached, or refuses.
        """

        def ask(client: Redis) -> list[bytes | None]:
            found: list[bytes | None] = []
            for start in range(0, len(keys), _AT_ONCE):
                found += client.mget(keys[start : start + _AT_ONCE])  # type: ignore[arg-type]
            return found

        return self._ask(ask)

    def put_many(self, values: Mapping[str, bytes], seconds: float) -> None:
        """Keep the values for so long.

        Raises:
            StoreError: Redis cannot be reached, or refuses.
        """
        items, milliseconds = list(values.items()), max(1, int(seconds * 1000))

        def ask(client: Redis) -> None:
            for start in range(0, len(items), _AT_ONCE):
                with client.pipeline(transaction=False) as pipeline:
                    for key, value in items[start : start + _AT_ONCE]:
                        pipeline.set(key, value, px=milliseconds)
                    pipeline.execute()

        self._ask(ask)

    def policy(self) -> str:
        """What it does when its memory is full, such as `noeviction`; empty where it does not say.

        Raises:
            StoreError: Redis cannot be reached, or refuses.
        """
        found: Any = self._ask(lambda client: client.info("memory"))
        return str(found.get("maxmemory_policy", ""))

    def close(self) -> None:
        """Close the connections; they open again at the next use."""
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = None
            self._scripts.clear()

    def _ask(self, ask: Callable[[Redis], _Result]) -> _Result:
        from redis.exceptions import RedisError

        try:
            return ask(self._opened())
        except (RedisError, OSError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise StoreError(f"Redis at {self.label} cannot be used: {reason}") from error

    def _opened(self) -> Redis:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        with self._lock:
            if self._client is None:
                self._client = Redis.from_url(
                    self._url,
                    socket_timeout=_SECONDS,
                    socket_connect_timeout=_SECONDS,
                    health_check_interval=_SILENCE,
                    retry=Retry(NoBackoff(), 1),  # a connection that a restarted Redis has closed
                )
            return self._client

    def _script(self, client: Redis, text: str) -> Any:
        with self._lock:
            if text not in self._scripts:
                self._scripts[text] = client.register_script(text)
            return self._scripts[text]
