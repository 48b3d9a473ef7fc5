"""A server on loopback, and models that call it; each is closed before the server is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.support.endpoint import Server
from worker.kinds.http import HttpModel
from worker.models.http import HttpEndpoint

OUTPUTS = {"p": "double precision"}


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

    def open_endpoint(
        url: str, *, concurrency: int = 4, outputs: Mapping[str, str] | None = None, **settings: Any
    ) -> HttpEndpoint:
        settings = {"timeout": "5s"} | settings
        endpoint = HttpModel(http=url, **settings)
        models.append(HttpEndpoint(endpoint, outputs or OUTPUTS, concurrency=concurrency))
        return models[-1]

    yield open_endpoint
    for model in models:
        model.close()


@pytest.fixture
def model(server: Server, opened: Callable[..., HttpEndpoint]) -> HttpEndpoint:
    """Depends on the server, so it is closed first: idle connections would hold the server's threads."""
    return opened(server.url)
