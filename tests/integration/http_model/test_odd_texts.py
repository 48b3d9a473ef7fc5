"""Texts and documents that JSON can hold and a database cannot: their rows fail, and no others."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Connect
from tests.support.predictions import applied, configuration, drain, opened
from tests.support.standin import Asked, http, standing
from worker.states import RowState

CONFORMANCE = True


@pytest.mark.parametrize("kind", ["text", "json"])
def test_a_null_character_fails_its_row(connect: Connect, database_url: str, kind: str) -> None:
    postgresql = database_url.startswith("postgresql")
    if kind == "text" and not postgresql:
        pytest.skip("MySQL's texts hold it")

    def behave(asked: Asked) -> bytes:
        values = [f"a{chr(0) if n == 2 else 'é'}b" for n in asked.numbers]
        answers = values if kind == "text" else [{"k": [value]} for value in values]
        return http(json.dumps({"predictions": answers}))

    connection = connect()
    connection.execute("CREATE TABLE items (id bigint PRIMARY KEY, n int, a double precision)")
    with standing() as server:
        server.behave = behave
        model = {"http": f"{server.url}/json", "protocol": "json"}
        config = configuration(
            database_url,
            model=model,
            inputs=["n", "a"],
            outputs={"p": "jsonb" if kind == "json" and postgresql else kind},
        )
        with opened(config) as engine:
            applied(engine)
            connection.execute("INSERT INTO items (id, n, a) VALUES (1, 1, 0.5), (2, 2, 0.5), (3, 3, 0.5)")
            summary = drain(engine)
    rows = connection.execute("SELECT churn_state, p IS NULL FROM items ORDER BY id").fetchall()
    middle = (RowState.FAILED, 1) if postgresql else (RowState.SCORED, 0)
    assert list(map(tuple, rows)) == [(RowState.SCORED, 0), middle, (RowState.SCORED, 0)]
    assert summary.fault is None
