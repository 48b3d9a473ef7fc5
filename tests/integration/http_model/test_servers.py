"""Models in real servers: MLflow's scoring server, MLServer, and sentence embeddings behind OpenAI's API."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support import modelservers
from tests.support.predictions import applied, configuration, drain, opened
from worker.config import Configuration
from worker.errors import ServiceRefusedError
from worker.kinds.openai import OpenAIModel
from worker.models.openai import open_openai
from worker.models.protocol import Batch

ORDERS = [(120.5, 1, "DE"), (80, 3, "FR"), (None, 2, "DE"), (500, 2, "Chile"), (310.25, 4, "PT")]
FAILED = 2
COUNTRY = "a country has two letters"


def risk(amount: float, items: int) -> float:
    return 1 / (1 + math.exp(items - amount / 100))


def orders(url: str, model: dict[str, Any], **more: Any) -> Configuration:
    outputs = {"score": "double precision", "label": "text"}
    inputs = ["amount", "items", "country"]
    return configuration(url, table="orders", inputs=inputs, outputs=outputs, model=model, **more)


def score_orders(connect: Connect, config: Configuration) -> tuple[Any, list[Any], list[str]]:
    """A drain of the orders: its summary, each row, and what is on record of those that failed."""
    connection = connect()
    connection.execute(
        "CREATE TABLE orders (id int PRIMARY KEY, amount numeric(10, 2), items int, country text, score float8, "
        "label text)"
    )
    with opened(config) as engine:
        applied(engine)
        for number, row in enumerate(ORDERS):
            connection.execute("INSERT INTO orders VALUES (%s, %s, %s, %s)", [number, *row])
        assert "200" in engine.model(engine.prediction()).check()
        summary = drain(engine)
    rows = connection.execute("SELECT score, label, churn_state FROM orders ORDER BY id").fetchall()
    errors = connection.execute("SELECT message FROM rowscore.failure ORDER BY row_key").fetchall()
    return summary, rows, [message for (message,) in errors]


def test_mlflow(connect: Connect, database_url: str) -> None:
    with modelservers.mlflow() as url:
        model = {"http": url, "protocol": "json", "timeout": "20s"}
        summary, rows, errors = score_orders(connect, orders(database_url, model))
    check(summary, rows, errors)
    assert "score: the model answered nan, which is not a finite number" in errors[0]


def test_mlserver(connect: Connect, database_url: str, tmp_path: Path) -> None:
    with modelservers.mlserver(tmp_path) as url:
        answer = {"score": "probability", "label": "label"}
        model = {"http": url, "protocol": "v2", "answer": answer, "timeout": "20s"}
        config = orders(database_url, model)
        summary, rows, errors = score_orders(connect, config)
    # MLServer writes NaN as null: the answer to the row without an amount is NULL.
    assert rows[2] == (None, "low", 1)
    check(summary, [*rows[:2], (None, None, FAILED), *rows[3:]], ["", *errors])


def check(summary: Any, rows: list[Any], errors: list[str]) -> None:
    for (amount, items, _), (score, label, state) in zip(ORDERS, rows, strict=True):
        if state == FAILED:
            assert (score, label) == (None, None)
        else:
            assert amount is not None
            assert score == pytest.approx(risk(amount, items), rel=1e-12)
            assert label == ("high" if score > 0.5 else "low")
    assert [state for *_, state in rows] == [1, 1, FAILED, FAILED, 1]
    assert COUNTRY in errors[1]
    assert summary.fault is None


TEXTS = [
    "The cat sat on the mat.",
    "A kitten lay on the rug.",
    "Bond yields rose after the central bank's decision.",
    None,
    "  ",
    "The cat sat on the mat.",
]


def test_embeddings_into_pgvector(
    connect: Connect, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", modelservers.KEY)
    connection = connect()
    connection.execute(
        "CREATE EXTENSION vector; CREATE TABLE notes (id int PRIMARY KEY, note text, embedding vector(256))"
    )
    with modelservers.embeddings() as url:
        model = {"openai": "l2-supercat-256", "url": url}
        config = configuration(
            database_url, table="notes", inputs=["note"], outputs={"embedding": "vector(256)"}, model=model
        )
        with opened(config) as engine:
            applied(engine)
            for number, text in enumerate(TEXTS):
                connection.execute("INSERT INTO notes VALUES (%s, %s)", [number, text])
            assert "/v1/models/l2-supercat-256 answered 200" in engine.model(engine.prediction()).check()
            summary = drain(engine)
        assert (summary.scored, summary.calls) == (len(TEXTS), 1)
        check_formats(url)
    found = connection.execute(
        "SELECT a.id, array_agg(b.id ORDER BY a.embedding <=> b.embedding, b.id) FROM notes a, notes b "
        "WHERE a.embedding IS NOT NULL AND b.embedding IS NOT NULL GROUP BY a.id ORDER BY a.id"
    ).fetchall()
    nearest = dict(found)
    assert (nearest[0], nearest[1], nearest[5]) == ([0, 5, 1, 2], [1, 0, 5, 2], [0, 5, 1, 2])
    assert nearest[2][0] == 2
    empty = connection.execute(
        "SELECT id, churn_state FROM notes WHERE embedding IS NULL ORDER BY id"
    ).fetchall()
    assert empty == [(3, 1), (4, 1)]


def check_formats(url: str) -> None:
    """Base64 and lists are the same numbers, as is what a model shortens; a key that is wrong is told."""
    batch = Batch(("note",), [(text,) for text in TEXTS])
    answers = []
    for options in ({}, {"encoding_format": "float"}, {"dimensions": 8}):
        settings = OpenAIModel(openai="l2-supercat-256", url=url, **options)  # type: ignore[arg-type]
        model = open_openai(settings, {"embedding": "real[]"}, concurrency=1)
        answers.append(model.call(batch))
        model.close()
    packed, listed, short = answers
    assert packed == listed
    assert [answer[0] and len(answer[0]) for answer in short] == [8, 8, 8, None, None, 8]
    wrong = open_openai(
        OpenAIModel(openai="l2-supercat-256", url=url, api_key="wrong-key"),
        {"embedding": "real[]"},
        concurrency=1,
    )
    with pytest.raises(ServiceRefusedError, match="invalid_api_key") as refusal:
        wrong.call(batch)
    assert "wrong-key" not in str(refusal.value)
    wrong.close()
