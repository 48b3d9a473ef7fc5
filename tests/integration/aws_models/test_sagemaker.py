"""An endpoint of SageMaker gets rows in the format that its section names, and its answers are read in theirs."""

from __future__ import annotations

import json
import threading
from decimal import Decimal
from typing import Any

import pytest

from tests.integration.aws_models.conftest import Opened
from tests.support.aws import Aws
from worker.answers import OutputKind, OutputType
from worker.errors import RowFaultError
from worker.models.protocol import Batch, Weight
from worker.patience import Patience
from worker.scoring import score

BATCH = Batch(("state", "mins", "vip"), [("CA", Decimal("1.50"), True), ('say "hi"', None, None)])
FEATURES = [["CA", 1.5, True], ['say "hi"', None, None]]
OBJECTS = [{"state": "CA", "mins": 1.5, "vip": True}, {"state": 'say "hi"', "mins": None, "vip": None}]
TWO = {"label": "text", "score": "double precision"}


def answering(aws: Aws, kind: str, content: str) -> None:
    aws.container = lambda _body, _headers: (200, kind, content.encode())


def test_csv_is_the_usual_format(aws: Aws, opened: Opened) -> None:
    answering(aws, "text/csv; charset=utf-8", "0.5\n0.25\n")
    model = opened("sagemaker", "churn-endpoint", {"p": "real"}, BATCH.names)
    assert model.call(BATCH) == [("0.5",), ("0.25",)]
    assert model.weigh(BATCH) == Weight(1, 2)
    (call,) = aws.calls
    assert call.body == b'CA,1.50,1\n"say ""hi""",,\n'
    assert call.headers["content-type"] == call.headers["accept"] == "text/csv"


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({"content_type": "application/jsonlines"}, [{"features": row} for row in FEATURES]),
        ({"content_type": "application/jsonlines", "rows": "objects"}, OBJECTS),
        ({"content_type": "application/json"}, {"instances": [{"features": row} for row in FEATURES]}),
        ({"content_type": "application/json", "rows": "objects"}, {"instances": OBJECTS}),
        (
            {
                "request": '{"inputs": ["in {state}"], "top_k": 1}',
                "answer": {"label": "*.0.name", "score": "*.0.p"},
            },
            {"inputs": ["in CA", 'in say "hi"'], "top_k": 1},
        ),
    ],
)
def test_json_is_written_as_the_section_says(
    settings: dict[str, Any], sent: Any, aws: Aws, opened: Opened
) -> None:
    model = opened("sagemaker", "churn-endpoint", TWO, BATCH.names, **settings)
    answers = [{"label": "yes", "score": 0.75}, {"label": "no", "score": None}]
    if "request" in settings:
        answers = [[{"name": item["label"], "p": item["score"]}] for item in answers]  # type: ignore[misc]
    lines = settings.get("content_type", "").endswith("lines")
    content = "\n".join(map(json.dumps, answers)) if lines else json.dumps(answers)
    answering(aws, "application/jsonlines" if lines else "application/json", content)
    assert model.call(BATCH) == [("yes", 0.75), ("no", None)]
    body = aws.calls[0].body.decode()
    assert ([json.loads(line) for line in body.splitlines()] if lines else json.loads(body)) == sent


@pytest.mark.parametrize(
    ("settings", "kind", "content", "answers"),
    [
        ({}, "application/json", '{"predictions": [{"score": 0.5, "label": "a"}, {"score": 1, "label": "b"}]}',
         [("a", 0.5), ("b", 1)]),
        ({}, "application/json", '[["a", 0.5], ["b", 0.25]]', [("a", 0.5), ("b", 0.25)]),
        ({}, "text/csv", "a,0.5\nb,0.25\n", [("a", "0.5"), ("b", "0.25")]),
        ({"answer": {"score": "predictions.*.p", "label": "predictions.*.l"}}, "application/json",
         '{"predictions": [{"l": "a", "p": 0.5}, {"l": "b", "p": 0.25}]}', [("a", 0.5), ("b", 0.25)]),
    ],
)  # fmt: skip
def test_several_outputs(
    settings: dict[str, Any], kind: str, content: str, answers: list[Any], aws: Aws, opened: Opened
) -> None:
    answering(aws, kind, content)
    model = opened(
        "sagemaker", "churn-endpoint", TWO, BATCH.names, content_type="application/json", **settings
    )
    assert model.call(BATCH) == answers


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        ("text/csv", "0.5\n", "answered 1 lines where 2 rows were sent"),
        ("application/json", "[0.5]", "1 answers where 2 rows were sent"),
        ("application/json", '{"predictions": {}}', "no list"),
        ("application/jsonlines", "0.5\n0.25\n0.125\n", "3 answers where 2 rows were sent"),
        ("application/jsonlines", "0.5\n{\n", "not JSON"),
        ("text/html", "<p>a proxy</p>", "it answered text/html where text/csv belongs: <p>a proxy</p>"),
        ("text/csv; charset=latin-1", "0.5\n0.25\n", "charset latin-1"),
    ],
)
def test_answers_that_do_not_fit_the_rows(
    kind: str, content: str, said: str, aws: Aws, opened: Opened
) -> None:
    answering(aws, kind, content)
    with pytest.raises(RowFaultError, match=said) as caught:
        opened("sagemaker", "churn-endpoint", {"p": "real"}, BATCH.names).call(BATCH)
    assert "the SageMaker endpoint churn-endpoint" in str(caught.value)


def test_what_is_called_within_the_endpoint_is_named_in_headers(aws: Aws, opened: Opened) -> None:
    answering(aws, "text/csv", "1\n2\n")
    named = {
        "component": "small",
        "variant": "blue",
        "target_model": "churn-2.tar.gz",
        "attributes": "trace=on",
    }
    opened("sagemaker", "churn-endpoint", {"p": "real"}, BATCH.names, **named, accept="text/csv").call(BATCH)
    headers = {
        name: value for name, value in aws.calls[0].headers.items() if name.startswith("x-amzn-sagemaker")
    }
    assert headers == {
        "x-amzn-sagemaker-inference-component": "small",
        "x-amzn-sagemaker-target-variant": "blue",
        "x-amzn-sagemaker-target-model": "churn-2.tar.gz",
        "x-amzn-sagemaker-custom-attributes": "trace=on",
    }


def test_as_many_requests_are_in_flight_as_the_section_allows(aws: Aws, opened: Opened) -> None:
    together = threading.Barrier(4)

    def container(body: bytes, _headers: Any) -> tuple[int, str, bytes]:
        together.wait(30)  # until four are here
        return 200, "text/csv", body

    aws.container = container
    batch = Batch(("n",), [(number,) for number in range(64)])
    model = opened("sagemaker", "churn-endpoint", {"p": "real"}, batch.names)
    scores = score(model, batch, {"p": OutputType(OutputKind.FLOAT)}, rows_per_call=8, concurrency=4)
    assert scores.outcomes == [(float(number),) for number in range(64)]
    assert len({call.client for call in aws.calls}) == 4  # connections, which were kept


def test_rows_are_halved_until_they_fit(aws: Aws, opened: Opened) -> None:
    """Of 64 rows of 110 bytes at most nine fit into 1,000 bytes; nothing larger is ever sent."""
    batch = Batch(("note", "n"), [(f"{number:03}" + "x" * 103, 1) for number in range(64)])
    answered = []

    def container(body: bytes, _headers: Any) -> tuple[int, str, bytes]:
        lines = body.splitlines()
        answered.append(len(lines))
        return 200, "text/csv", b"".join(b"%d\n" % int(line[:3]) for line in lines)

    aws.container = container
    model = opened("sagemaker", "churn-endpoint", {"p": "real"}, batch.names, max_bytes=1000)
    scores = score(model, batch, {"p": OutputType(OutputKind.FLOAT)}, rows_per_call=64)
    assert scores.outcomes == [(float(number),) for number in range(64)]
    assert answered == [8] * 8
    assert scores.statistics.calls == 8


def test_a_poison_row_is_found_behind_the_container_s_error(aws: Aws, opened: Opened) -> None:
    def container(body: bytes, _headers: Any) -> tuple[int, str, bytes]:
        if b"poison" in body:
            return 500, "text/plain", b"ValueError: poison"
        return 200, "text/csv", b"1\n" * len(body.splitlines())

    aws.container = container
    batch = Batch(("note",), [("poison" if number == 5 else f"row {number}",) for number in range(8)])
    model = opened("sagemaker", "churn-endpoint", {"p": "real"})
    scores = score(
        model, batch, {"p": OutputType(OutputKind.FLOAT)}, rows_per_call=8, patience=Patience(attempts=1)
    )
    assert scores.fault is None
    failed = [number for number, outcome in enumerate(scores.outcomes) if not isinstance(outcome, tuple)]
    assert failed == [5]
    assert "the model answered status 500: ValueError: poison" in str(scores.outcomes[5])


def test_the_check_names_what_it_found(aws: Aws, opened: Opened) -> None:
    model = opened("sagemaker", "churn-endpoint", {"p": "real"})
    aws.container = lambda _body, _headers: (400, "text/plain", b"no rows")
    assert "churn-endpoint is there, and refuses an empty request as it should" in model.check()
    answering(aws, "text/csv", "")
    assert "churn-endpoint answered" in model.check()
