"""A Redis for this process's tests, empty at the beginning of each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from worker.demo.servers import RedisServer
from worker.store import Store


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    store = Store(redis_server.url())
    store._ask(lambda client: client.flushall())
    store.close()
    return redis_server.url()


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    opened = Store(redis_url)
    yield opened
    opened.close()
