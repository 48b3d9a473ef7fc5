"""A configured expression: `apply` makes the function that computes it, keeps it so, and takes it away."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.cli import Cli
from tests.support.databases import Session, is_postgresql
from tests.support.predictions import add_items, applied, configuration, drain, make_items, opened, states
from worker.apply import apply, drift, remove
from worker.doctor.examination import examine
from worker.doctor.findings import Level
from worker.errors import ConfigurationError, DatabaseError
from worker.explain import explain
from worker.states import RowState

CONFORMANCE = True
MODEL = {"sql": "score_items", "expression": "a / CASE WHEN b > 0 THEN b ELSE 1 END"}


@pytest.fixture
def owner(connect: Connect) -> Session:
    connection: Session = connect()
    make_items(connection)
    return connection


def functions(connection: Session) -> list[str]:
    """The functions named score_..., with what they compute."""
    if is_postgresql(connection):
        query = "SELECT prosrc FROM pg_proc WHERE proname LIKE 'score_%%'"
    else:
        query = (
            "SELECT routine_definition FROM information_schema.routines "
            "WHERE routine_schema = DATABASE() AND routine_name LIKE 'score_%%'"
        )
    return [str(row[0]) for row in connection.execute(query, []).fetchall()]


@pytest.mark.parametrize("mode", ["update", "select"])
def test_rows_are_scored_by_it_and_nothing_is_left_behind(
    database_url: str, owner: Session, mode: str
) -> None:
    with opened(configuration(database_url, model={**MODEL, "mode": mode}, live=True)) as engine:
        applied(engine)
        config, database = engine.prediction(), engine.database(engine.prediction())
        assert apply(database, engine.materialisation(config)) == [], "a second time it does nothing"
        add_items(owner, 3)
        shown = owner.execute("SELECT prediction_state, p FROM items_scored ORDER BY id").fetchall()
        assert [tuple(row) for row in shown] == [("pending", 0.1), ("pending", 0.2), ("pending", 0.3)]
        assert drain(engine).scored == 3
        found = explain(database, engine.materialisation(config))
        assert found.by_index
        assert "calls no service" in found.batching.reason
        assert found.leaks == ()
        looked = [item for item in examine(engine, [config]) if item.subject in ("function", "applied")]
        assert {item.level for item in looked} == {Level.OK}, looked
        remove(database, config)
    assert [row[0] for row in owner.execute("SELECT p FROM items ORDER BY id")] == [0.1, 0.2, 0.3]
    assert functions(owner) == []


def test_another_expression_takes_its_place(database_url: str, owner: Session) -> None:
    with opened(configuration(database_url, model=MODEL)) as engine:
        applied(engine)
    add_items(owner, 1)
    other = {**MODEL, "expression": "a + 100"}
    with opened(configuration(database_url, model=other)) as engine:
        config, database = engine.prediction(), engine.database(engine.prediction())
        with database.transaction() as transaction:
            assert any("score_items" in title for title in drift(transaction, engine.materialisation(config)))
        applied(engine)
        drain(engine)
    assert owner.execute("SELECT p FROM items").fetchall() == [(101.0,)]
    assert len(functions(owner)) == 1


def test_rows_on_which_it_fails_are_set_aside(database_url: str, owner: Session) -> None:
    expression = "1 / (a - 2)" if is_postgresql(owner) else "EXP(a * 400)"  # too large from the second row on
    model = {"sql": "score_items", "expression": expression}
    with opened(configuration(database_url, model=model)) as engine:
        applied(engine)
        add_items(owner, 2)
        drain(engine)
    assert states(owner) == {RowState.SCORED.value: 1, RowState.FAILED.value: 1}


def test_a_function_of_the_name_that_somebody_made_is_called_instead(
    database_url: str, owner: Session
) -> None:
    model = {"sql": "predict", "expression": "a * 1000"}
    with opened(configuration(database_url, model=model)) as engine:
        applied(engine)
        add_items(owner, 1)
        drain(engine)
    assert owner.execute("SELECT p FROM items").fetchall() == [(11.0,)]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_mistake_in_it_is_told_before_anything_is_made(database_url: str, owner: Session) -> None:
    model = {"sql": "score_items", "expression": "a + nothing"}
    with (
        opened(configuration(database_url, model=model)) as engine,
        pytest.raises(DatabaseError, match='column "nothing" does not exist'),
    ):
        applied(engine)
    assert functions(owner) == []


def test_the_whole_configuration_shows_it_where_it_is_set(tmp_path: Path, database_url: str) -> None:
    cli = Cli(tmp_path, database_url)
    assert "expression" not in cli.call("status", "--config").out
    cli.configure(model=MODEL)
    shown = tomllib.loads(cli.call("status", "--config").out)
    assert shown["predictions"]["churn"]["model"]["expression"] == MODEL["expression"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"model": {**MODEL, "aurora": {"sagemaker": "e"}}},
            "calls a service .* or computes an `expression`, not both",
        ),
        ({"outputs": {"p": "real", "q": "real"}}, "it gives one answer and 2 outputs are configured"),
        ({"model": {"sql": "f", "expression": ""}}, "model.expression"),
        (
            {"shadow": {"model": {**MODEL, "expression": "b"}}},
            "'score_items' is the live model's function; name another",
        ),
    ],
)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_what_cannot_be_is_refused_when_the_file_is_read(
    database_url: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        configuration(database_url, **{"model": MODEL, **options})
