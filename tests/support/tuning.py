"""Tuning of the one prediction on the table items, by a model behind HTTP whose time is counted."""

from __future__ import annotations

from typing import Any

from tests.support.databases import Session, is_postgresql, own
from tests.support.predictions import (
    configuration,
)
from tests.support.service import Service
from worker.config import Configuration
from worker.engine import Engine
from worker.tune import Tuning, Wishes, tune

OWN = ("batch", "circuit", "failure", "learned", "lease", "prediction", "run")
ALONE = Wishes(calls=60, concurrencies=(1,))


def over_http(url: str, service: Service, **options: Any) -> Configuration:
    """Items are scored by the service, one call at a time."""
    model = {"http": service.url, **options.pop("model", {})}
    return configuration(url, **{"inputs": ["id", "a", "b"], "model": model, "concurrency": 1, **options})


def everything(connection: Session) -> list[Any]:
    """Each row of the table, with the version that any write or lock would change, and rowscore's own tables."""
    version = "xmin::text, xmax::text, ctid::text, " if is_postgresql(connection) else ""
    found: list[Any] = connection.execute(f"SELECT {version}items.* FROM items ORDER BY id").fetchall()
    for table in OWN:
        found.append(
            sorted(map(repr, connection.execute(f"SELECT * FROM {own(connection, table)}").fetchall()))
        )
    return found


def trying(engine: Engine, wishes: Wishes = ALONE, **options: Any) -> Tuning:
    """Tune the engine's only prediction."""
    return tune(engine, None, wishes, **options)


def point_of(tuning: Tuning) -> tuple[int, int]:
    """Size and concurrency of the knee."""
    assert tuning.choice is not None
    return tuning.choice.point.size, tuning.choice.point.concurrency
