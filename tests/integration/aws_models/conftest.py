"""A stand-in for AWS's services, and models that call it; each is closed before the server is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.support.aws import REGION, Aws, serving
from worker.kinds import KINDS
from worker.models.protocol import Model
from worker.models.registry import open_model

Opened = Callable[..., Model]


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """The services, and the variables that lead there and let one in."""
    for name in (
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_SESSION_TOKEN",
        "AWS_BEARER_TOKEN_BEDROCK",
    ):
        monkeypatch.delenv(name, raising=False)
    with serving() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def opened(aws: Aws) -> Iterator[Opened]:  # noqa: ARG001 - they are closed before the server is
    """Opens models of a kind: `opened("comprehend", "sentiment", {"s": "text"}, ...)`."""
    models: list[Model] = []

    def open_one(
        kind: str,
        named: Any,
        outputs: Mapping[str, str],
        inputs: tuple[str, ...] = ("note",),
        **settings: Any,
    ) -> Model:
        section = KINDS[kind].model_validate({kind: named, "region": REGION, "timeout": "5s", **settings})
        section.check(inputs, outputs)
        models.append(open_model(section, outputs, 4, inputs=inputs))
        return models[-1]

    yield open_one
    for model in models:
        model.close()
