"""Predictions on small real tables, applied as a user would apply them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from worker.apply import apply
from worker.config import Configuration, parse_configuration
from worker.drain import Drain, Summary
from worker.engine import Engine
from worker.models.protocol import Batch

CALLS = "calls"  # a sequence: nextval is not undone by a rollback, so it counts every call of the function


def configuration(url: str, **overrides: Any) -> Configuration:
    """One prediction named churn on the table items: inputs a and b, output p."""
    section: dict[str, Any] = {
        "table": "items",
        "inputs": ["a", "b"],
        "outputs": {"p": "double precision"},
        "model": {"sql": "predict"},
    }
    section.update(overrides)
    return parse_configuration(
        {"database": url, "broker": "redis://127.0.0.1:1/0", "predictions": {"churn": section}}
    )


def make_items(connection: psycopg.Connection[Any], rows: int = 0) -> None:
    """The table items with `rows` rows, and the function predict(a, b) = a + b that counts its calls."""
    connection.execute(
        "CREATE TABLE items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a float8, b int, note text)"
    )
    connection.execute(f"CREATE SEQUENCE {CALLS}")
    connection.execute(
        f"""CREATE FUNCTION predict(a float8, b int) RETURNS float8 LANGUAGE plpgsql AS
        $$ BEGIN PERFORM nextval('{CALLS}'); RETURN a + b; END $$"""
    )
    add_items(connection, rows)


def add_items(connection: psycopg.Connection[Any], rows: int) -> None:
    """Insert rows with a = 1, 2, ... and b = 10."""
    connection.execute("INSERT INTO items (a, b) SELECT i, 10 FROM generate_series(1, %s) AS i", [rows])


def calls(connection: psycopg.Connection[Any]) -> int:
    """How often the function has been called since the last time this was asked."""
    row = connection.execute(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {CALLS}").fetchone()
    connection.execute(f"ALTER SEQUENCE {CALLS} RESTART")
    return int(row[0]) if row else 0


def states(
    connection: psycopg.Connection[Any], table: str = "items", column: str = "churn_state"
) -> dict[int, int]:
    """How many rows are in each state."""
    rows = connection.execute(f'SELECT "{column}", count(*) FROM {table} GROUP BY 1').fetchall()
    return {int(state): int(count) for state, count in rows}


@contextmanager
def opened(config: Configuration, model: Callable[[Batch], Any] | None = None) -> Iterator[Engine]:
    """An engine; `model` scores in place of the configured one (a callable over a Batch, really called)."""
    engine = Engine(config)
    if model is not None:
        engine._models["churn"] = CallableModel(model)
    try:
        yield engine
    finally:
        engine.stop.set()
        engine.dispose()


def applied(engine: Engine) -> None:
    """Apply the engine's only prediction."""
    prediction = engine.prediction()
    apply(engine.database(prediction), engine.materialisation(prediction))


def drain(engine: Engine, **options: Any) -> Summary:
    """Drain until nothing waits."""
    return Drain(engine, **{"seconds": 60.0, **options}).run()


class CallableModel:
    """A model in this process that records the rows of each call."""

    def __init__(self, function: Callable[[Batch], Any]) -> None:
        self.function = function
        self.batches: list[Batch] = []

    def call(self, batch: Batch) -> Any:
        """Record the batch and answer with the function."""
        self.batches.append(batch)
        return self.function(batch)

    def check(self) -> str:
        """Always there."""
        return "in this process"

    def close(self) -> None:
        """Nothing to release."""


def add_up(batch: Batch) -> list[tuple[float]]:
    """The model of the items: a + b."""
    return [(row[0] + row[1],) for row in batch.rows]


class Barrier:
    """A model that waits in the middle of its call until the test lets it go on."""

    def __init__(self, answer: Callable[[Batch], Any] = add_up) -> None:
        self.entered = threading.Event()
        self.released = threading.Event()
        self.answer = answer

    def __call__(self, batch: Batch) -> Any:
        """Tell the test, wait for it, answer."""
        answers = self.answer(batch)
        self.entered.set()
        assert self.released.wait(30), "the test never let the model go on"
        return answers
