"""From a table through the engine to a service of AWS and back: every value lands in its row, whatever fails."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.aws import (
    REGION,
    ROLE,
    Aws,
    RefusalError,
    embedding,
    entities,
    label,
    phrases,
    pii,
    sentiment,
)
from tests.support.predictions import applied, configuration, drain, opened, states
from worker.engine import Engine
from worker.states import RowState

NOTES = ["the good day", None, "bad, bad IBM", "  ", "the one at me@mail.com", 'say "good", good\n']


def started(
    database_url: str, connect: Connect, model: dict[str, Any], outputs: dict[str, str], **more: Any
) -> Any:
    """The table, with a row for each note, and the engine for a prediction on it."""
    connection = connect()
    connection.execute(
        "CREATE TABLE items (id bigint PRIMARY KEY, note text, mins numeric(10, 2), vip boolean)"
    )
    usual = {"inputs": ["note"], "view": False, "outputs": outputs, "model": {"region": REGION, **model}}
    config = configuration(database_url, **{**usual, **more})

    def insert() -> None:
        for number, note in enumerate(NOTES):
            connection.execute(
                "INSERT INTO items VALUES (%s, %s, %s, %s)", [number, note, number, number % 2 == 0]
            )

    return connection, opened(config), insert


def drained(engine: Engine, insert: Any) -> None:
    applied(engine)
    insert()
    drain(engine)


def test_sagemaker(database_url: str, connect: Connect, aws: Aws) -> None:
    def container(body: bytes, _headers: Any) -> tuple[int, str, bytes]:
        rows = [json.loads(line)["features"] for line in body.splitlines()]
        lines = [json.dumps({"score": mins / 8, "label": f"{vip}/{note}"}) for note, mins, vip in rows]
        return 200, "application/jsonlines", "\n".join(lines).encode()

    aws.container = container
    model = {
        "sagemaker": "churn-endpoint", "content_type": "application/jsonlines", "role": ROLE,
        "answer": {"p": "*.score", "l": "*.label"}, "encoding": {"booleans": ["no", "yes"]},
    }  # fmt: skip
    outputs = {"p": "double precision", "l": "text"}
    connection, engine, insert = started(
        database_url, connect, model, outputs, inputs=["note", "mins", "vip"]
    )
    with engine as running:
        drained(running, insert)
    rows = connection.execute("SELECT id, note, p, l FROM items ORDER BY id").fetchall()
    assert [(p, said) for *_, p, said in rows] == [
        (number / 8, f"{'yes' if number % 2 == 0 else 'no'}/{note}") for number, note, *_ in rows
    ]
    assert aws.operations() == ["AssumeRole", "InvokeEndpoint"]


def test_comprehend(database_url: str, connect: Connect, aws: Aws) -> None:
    outputs = {"s": "text", "c": "real", "k": "text[]", "e": "jsonb", "i": "jsonb"}
    named = ["sentiment", "positive", "key_phrases", "entities", "pii"]
    connection, engine, insert = started(database_url, connect, {"comprehend": named}, outputs)
    with engine as running:
        applied(running)
        insert()
        aws.next.extend([None, RefusalError(400, "ThrottlingException", "Rate exceeded")])
        drain(running)
    for note, *found in connection.execute("SELECT note, s, c, k, e, i FROM items").fetchall():
        if not (note or "").strip():
            assert found == [None] * 5
            continue
        scores = sentiment(note)
        assert found == [
            label(scores), pytest.approx(scores["Positive"]), [item["Text"] for item in phrases(note)], entities(note),
            pii(note),
        ]  # fmt: skip
    assert states(connection) == {RowState.SCORED.value: len(NOTES)}
    assert (
        aws.operations().count("BatchDetectSentiment") == 1
    )  # what was throttled after it did not have it paid again


def test_a_document_that_comprehend_refuses_is_the_only_one_that_fails(
    database_url: str, connect: Connect, aws: Aws
) -> None:
    aws.poison["IBM"] = "InvalidRequestException"
    connection, engine, insert = started(database_url, connect, {"comprehend": "sentiment"}, {"s": "text"})
    with engine as running:
        drained(running, insert)
    assert states(connection) == {RowState.SCORED.value: len(NOTES) - 1, RowState.FAILED.value: 1}
    (message,) = connection.execute("SELECT message FROM rowscore.failure").fetchone() or ("",)
    assert message == "Comprehend: InvalidRequestException: it cannot be read: InvalidRequestException"


@pytest.mark.parametrize(
    ("named", "calls"), [("amazon.titan-embed-text-v2:0", 4), ("cohere.embed-multilingual-v3", 1)]
)
def test_bedrock_embeddings(named: str, calls: int, database_url: str, connect: Connect, aws: Aws) -> None:
    connection, engine, insert = started(
        database_url, connect, {"bedrock": named}, {"e": "double precision[]"}
    )
    with engine as running:
        drained(running, insert)
    rows = connection.execute("SELECT note, e FROM items").fetchall()
    assert [found for _, found in rows] == [
        embedding(note) if (note or "").strip() else None for note, _ in rows
    ]
    assert aws.operations() == ["InvokeModel"] * calls


def test_bedrock_texts(database_url: str, connect: Connect, aws: Aws) -> None:
    model = {"bedrock": "amazon.nova-lite-v1:0", "prompt": "Repeat: {note}", "max_tokens": 5}
    connection, engine, insert = started(database_url, connect, model, {"said": "text"})
    aws.next.append(RefusalError(503, "ServiceUnavailableException", "try again"))
    with engine as running:
        drained(running, insert)
    rows = connection.execute("SELECT note, said FROM items WHERE churn_state <> %s", [RowState.FAILED.value])
    assert {note: said for note, said in rows if note} == {
        "the good day": "REPEAT: THE GOOD DAY", "bad, bad IBM": "REPEAT: BAD, BAD IBM", "  ": None,
        "the one at me@mail.com": "REPEAT: THE ONE AT ME@MAIL.COM", 'say "good", good\n': 'REPEAT: SAY "GOOD", GOOD',
    }  # fmt: skip
    assert states(connection) == {RowState.SCORED.value: len(NOTES)}


def test_a_service_that_refuses_keeps_rows_waiting_and_charges_none(
    database_url: str, connect: Connect, aws: Aws
) -> None:
    connection, engine, insert = started(
        database_url, connect, {"sagemaker": "no-such-endpoint"}, {"p": "real"}
    )
    with engine as running:
        applied(running)
        insert()
        summary = drain(running)
        assert "Endpoint no-such-endpoint of account 123456789012 not found" in str(summary.fault)
    assert states(connection) == {RowState.PENDING.value: len(NOTES)}
    assert len(aws.calls) == 1
