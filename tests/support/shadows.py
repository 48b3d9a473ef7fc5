"""A prediction with a shadow on the small real table: one model adds, the other multiplies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.databases import Session, is_postgresql
from tests.support.predictions import configuration, drain, make_items, opened
from tests.support.routines import add_function
from worker import backfill
from worker.apply import apply
from worker.config import Configuration
from worker.engine import Engine

SECOND = {"sql": "predict_two"}
VERSIONED = {"version": {"column": "model", "value": "1"}, "shadow": {"model": SECOND, "version": "2"}}


def shadowed(url: str, **overrides: Any) -> Configuration:
    """The prediction churn (a + b) with a shadow (a * b)."""
    return configuration(url, **{"shadow": {"model": SECOND}, **overrides})


def turned(url: str, **overrides: Any) -> Configuration:
    """The same after the two models have changed places in the file."""
    return shadowed(url, **{"model": SECOND, "shadow": {"model": {"sql": "predict"}}, **overrides})


def make(connection: Session, rows: int = 0) -> None:
    """The table items and both models."""
    make_items(connection, rows)
    add_function(connection, "predict_two", "a double precision, b int", "a * b")


def apply_both(engine: Engine) -> None:
    """Apply the prediction and its shadow."""
    for prediction in engine.configuration.predictions.values():
        apply(engine.database(prediction), engine.materialisation(prediction))


def score_both(engine: Engine) -> None:
    """Score all rows with both models: those from before, and those that wait."""
    for name in engine.configuration.predictions:
        run = backfill.begin(engine, name)
        backfill.work(engine, name, run, lambda *_: None, lambda _: None)
        drain(engine, name=name)


@contextmanager
def tried(connection: Session, url: str, rows: int, **overrides: Any) -> Iterator[Engine]:
    """The table with so many rows that both have scored, and an engine over the file."""
    make(connection, rows)
    with opened(shadowed(url, **overrides)) as engine:
        apply_both(engine)
        score_both(engine)
        yield engine


def rows_of(connection: Session, columns: str, where: str = "") -> list[tuple[Any, ...]]:
    """Columns of the table, in the order of its key."""
    return connection.execute(f"SELECT {columns} FROM items {where} ORDER BY id").fetchall()


def indexes(connection: Session) -> list[str]:
    """The table's indexes as the server writes them."""
    if is_postgresql(connection):
        rows = connection.execute("SELECT indexdef FROM pg_indexes WHERE tablename LIKE 'items%' ORDER BY 1")
        return [row[0] for row in rows.fetchall()]
    (_, text) = connection.execute("SHOW CREATE TABLE items").fetchone() or ("", "")
    return sorted(line.strip().removesuffix(",") for line in text.splitlines() if "KEY" in line)
