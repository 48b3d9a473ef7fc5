"""Vectors of pgvector's, which travel in its binary form: the numbers that its text would give, and its refusals."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Connect
from tests.integration.test_outputs import messages
from tests.support.predictions import (
    add_items,
    applied,
    configuration,
    double_of,
    drain,
    make_items,
    model_of,
    opened,
)
from worker.models.protocol import Batch

ROOMY = [0.1, -2.5, 3e10, 1e-45, -0.0, 16777217.0, 0.30000001192092896]
SMALL = [0.1, -2.5, 3e4, 1e-7, -0.0, 2049.0, 0.30000001192092896]
CASES = [
    ("vector(8)", True, ROOMY),
    ("vector(8)", False, ROOMY),
    ("halfvec(8)", True, SMALL),
    ("halfvec(8)", False, SMALL),
    ("domain", True, ROOMY),  # apply adds no column of a domain
]


@pytest.mark.parametrize("schema", ["public", "extensions"])
@pytest.mark.parametrize(("kind", "there", "numbers"), CASES)
def test_vectors_are_those_that_their_text_would_make(
    database_url: str, connect: Connect, kind: str, there: bool, numbers: list[float], schema: str
) -> None:
    application = connect()
    application.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    application.execute(f"CREATE EXTENSION vector SCHEMA {schema}")
    application.execute(f"CREATE DOMAIN embedding AS {schema}.vector(8)")
    sql_type = "embedding" if kind == "domain" else f"{schema}.{kind}"
    make_items(application)
    if there:
        application.execute(f"ALTER TABLE items ADD COLUMN e {sql_type}")

    def vectors(batch: Batch) -> list[Any]:
        """The numbers and the row's own; NULL for row 2, and what no such vector can hold for rows 3 to 5."""
        odd: dict[float, Any] = {2: None, 3: [*numbers, 1e39], 4: numbers, 5: []}
        return [(odd.get(row[0], [*numbers, row[0]]),) for row in batch.rows]

    config = configuration(database_url, model=model_of("worker"), outputs={"e": sql_type})
    with opened(config, double_of("worker", vectors)) as engine:
        applied(engine)
        add_items(application, 40)
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (37, 3), summary.fault
    written = application.execute(
        "SELECT a, CAST(e AS text) FROM items WHERE e IS NOT NULL ORDER BY a"
    ).fetchall()
    base = f"{schema}.{kind.replace('domain', 'vector(8)')}"
    texts = [str([*numbers, a]) for a, _ in written]
    expected = application.execute(
        f"SELECT CAST(CAST(t AS {base}) AS text) FROM unnest(%s::text[]) AS t", (texts,)
    ).fetchall()
    assert [text for _, text in written] == [text for (text,) in expected]
    assert len(written) == 36
    large, short, empty = messages(application)
    assert "out of range" in large or "infinite" in large
    assert "8" in short
    assert "expected" in empty
