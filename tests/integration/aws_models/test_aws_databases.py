"""What services of AWS answer lands in the types that every database has: texts, numbers, JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.aws import REGION, Aws, embedding, entities, label, sentiment
from tests.support.predictions import applied, configuration, drain, opened

CONFORMANCE = True
NOTES = {1: "the café is good, says IBM", 2: None, 3: "bad 👎 day"}


def parsed(value: Any) -> Any:
    """MariaDB's JSON is a text."""
    return json.loads(value) if isinstance(value, str) else value


def test_findings_land_in_every_database(database_url: str, connect: Connect, aws: Aws) -> None:
    connection = connect()
    connection.execute("CREATE TABLE items (id bigint PRIMARY KEY, note text)")
    outputs = {"s": "varchar(10)", "c": "double precision", "e": "json"}
    model = {"comprehend": ["sentiment", "confidence", "entities"], "region": REGION}
    config = configuration(database_url, inputs=["note"], outputs=outputs, model=model)
    with opened(config) as engine:
        applied(engine)
        for number, note in NOTES.items():
            connection.execute("INSERT INTO items (id, note) VALUES (%s, %s)", [number, note])
        drain(engine)
    rows = connection.execute("SELECT id, s, c, e FROM items ORDER BY id").fetchall()
    assert [number for number, *_ in rows] == list(NOTES)
    for number, *found in rows:
        note = NOTES[number]
        if note is None:
            assert found == [None] * 3
            continue
        scores = sentiment(note)
        assert found[:2] == [label(scores), pytest.approx(max(scores.values()))]
        assert parsed(found[2]) == entities(note)
    assert set(aws.operations()) == {"BatchDetectSentiment", "BatchDetectEntities"}


def test_embeddings_land_in_every_database_as_json(database_url: str, connect: Connect, aws: Aws) -> None:
    connection = connect()
    connection.execute("CREATE TABLE items (id bigint PRIMARY KEY, note text)")
    model = {"bedrock": "cohere.embed-multilingual-v3", "region": REGION}
    with opened(configuration(database_url, inputs=["note"], outputs={"e": "json"}, model=model)) as engine:
        applied(engine)
        for number, note in NOTES.items():
            connection.execute("INSERT INTO items (id, note) VALUES (%s, %s)", [number, note])
        drain(engine)
    rows = connection.execute("SELECT note, e FROM items").fetchall()
    assert [parsed(found) for _, found in rows] == [
        None if note is None else embedding(note) for note, _ in rows
    ]
    assert aws.operations() == ["InvokeModel"]
