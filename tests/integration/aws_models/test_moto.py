"""The same models against AWS's APIs as moto has written them: what it takes and answers, others have read from AWS.

It knows no Batch operation of Comprehend's and no Converse, answers Bedrock with an empty object, and always the same.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import moto
from tests.support.aws import REGION, ROLE
from worker.errors import RowFaultError, ServiceRefusedError
from worker.kinds import KINDS
from worker.models.protocol import Batch
from worker.models.registry import open_model

BATCH = Batch(("note", "n"), [("a", 1), ("b", 2)])
OUTPUTS = {"p": "double precision"}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with moto.serving(tmp_path_factory.mktemp("moto")) as address, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in moto.environment(address).items():
            patch.setenv(name, value)
        yield address


def call(kind: str, named: Any, batch: Batch, outputs: dict[str, str], **settings: Any) -> Any:
    section = KINDS[kind].model_validate({kind: named, "region": REGION, "timeout": "20s", **settings})
    model = open_model(section, outputs, 1, inputs=batch.names)
    try:
        return model.call(batch)
    finally:
        model.close()


def will_answer(address: str, body: str, kind: str) -> None:
    """What the next new request to an endpoint of SageMaker is answered."""
    result = {"Body": body, "ContentType": kind, "InvokedProductionVariant": "blue", "CustomAttributes": "x"}
    asked = {"region": REGION, "account_id": "123456789012", "results": [result]}
    url = f"{address}/moto-api/static/sagemaker/endpoint-results"
    request = urllib.request.Request(url, json.dumps(asked).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 201


def test_an_endpoint_of_sagemaker_answers_csv(address: str) -> None:
    will_answer(address, "0.25\n0.5\n", "text/csv")
    assert call("sagemaker", "churn-endpoint", BATCH, OUTPUTS) == [("0.25",), ("0.5",)]
    with pytest.raises(
        RowFaultError, match="1 lines where 2 rows were sent: body"
    ):  # as moto answers by itself
        call("sagemaker", "churn-endpoint", Batch(("n",), [(3,), (4,)]), OUTPUTS)


def test_a_role_is_assumed(address: str) -> None:
    will_answer(address, '{"predictions": [0.75, 0.5]}', "application/json")
    answers = call(
        "sagemaker",
        "churn-endpoint",
        BATCH,
        OUTPUTS,
        role=ROLE,
        content_type="application/json",
        rows="objects",
    )
    assert answers == [(0.75,), (0.5,)]


@pytest.mark.usefixtures("address")
def test_comprehend_finds_what_moto_always_finds() -> None:
    ((found,),) = call("comprehend", "pii", Batch(("note",), [("x" * 400,)]), {"i": "json"})
    assert [item["Type"] for item in json.loads(found)] == ["NAME", "EMAIL", "BANK_ACCOUNT_NUMBER"]


@pytest.mark.usefixtures("address")
def test_bedrock_answers_without_an_embedding() -> None:
    with pytest.raises(RowFaultError, match="the answer has no embedding"):
        call("bedrock", "amazon.titan-embed-text-v2:0", Batch(("note",), [("a",)]), {"e": "vector(4)"})


@pytest.mark.usefixtures("address")
def test_a_language_that_is_not_known_is_a_fault_of_the_section() -> None:
    with pytest.raises(ServiceRefusedError, match="languageCode"):
        call("comprehend", "pii", Batch(("note",), [("a",)]), {"i": "json"}, language="xx")
