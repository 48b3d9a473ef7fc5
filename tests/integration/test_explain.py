"""The real statements' plans on real servers: by index whatever the statistics; nothing is run."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.databases import Session, analyse, is_postgresql, own
from tests.support.predictions import (
    add_items,
    applied,
    calls,
    configuration,
    make_items,
    opened,
    series,
    states,
)
from worker.engine import Engine
from worker.errors import NotAppliedError
from worker.explain import Explanation, explain

CONFORMANCE = True
ROWS = 20_000
MODELS = {
    "worker": ({"python": "math:fsum"}, ["probe_window", "read_rows", "write_rows"]),
    "update": ({"sql": "predict"}, ["probe_window", "score_rows"]),
    "select": ({"sql": "predict", "mode": "select"}, ["probe_window", "answer_rows", "write_rows"]),
}


@pytest.fixture
def owner(connect: Connect) -> Session:
    connection = connect()
    make_items(connection)
    return connection


def explained(engine: Engine) -> Explanation:
    prediction = engine.prediction()
    return explain(engine.database(prediction), engine.materialisation(prediction))


@pytest.mark.parametrize("analysed", [True, False], ids=["analysed", "stale statistics"])
@pytest.mark.parametrize("kind", MODELS)
def test_no_statement_reads_the_whole_table(
    database_url: str, owner: Session, kind: str, analysed: bool
) -> None:
    model, names = MODELS[kind]
    with opened(configuration(database_url, model=model)) as engine:
        applied(engine)
        if not analysed:
            analyse(owner)  # while it is empty: the planner believes in one row
        add_items(owner, ROWS)
        if analysed:
            analyse(owner)
        found = explained(engine)
    planned = [statement.name for statement in found.statements]
    assert [name for name in planned if name not in ("claim_rows", "score_rows_in_place")] == names
    assert found.by_index, found.statements
    assert found.waiting == found.rows == 1000
    for statement in found.statements:
        assert statement.facts.index_names
        assert f"no sequential scan or hash join over {found.table}" in statement.verdict(found.table)


@pytest.mark.parametrize("kind", ["update", "select"])
def test_explaining_calls_no_model_and_changes_nothing(database_url: str, owner: Session, kind: str) -> None:
    with opened(configuration(database_url, model=MODELS[kind][0])) as engine:
        applied(engine)
        add_items(owner, 100)
        before = states(owner)
        explained(engine)
    assert calls(owner) == 0
    assert states(owner) == before


def test_rows_that_the_application_holds_do_not_stop_it(
    database_url: str, owner: Session, connect: Connect
) -> None:
    with opened(configuration(database_url)) as engine:
        applied(engine)
        add_items(owner, 10)
        with connect(autocommit=False) as held:
            held.execute("SELECT * FROM items FOR UPDATE")
            assert explained(engine).waiting == 10


def test_where_nothing_waits_it_plans_for_rows_that_are_there(database_url: str, owner: Session) -> None:
    add_items(owner, 50)
    with opened(configuration(database_url)) as engine:
        applied(engine)
        found = explained(engine)
    assert (found.waiting, found.rows) == (0, 50)
    assert found.by_index


@pytest.mark.usefixtures("owner")
def test_an_empty_table_has_nothing_to_plan(database_url: str) -> None:
    with opened(configuration(database_url)) as engine:
        applied(engine)
        found = explained(engine)
    assert (found.rows, found.statements, found.by_index) == (0, (), True)


@pytest.mark.usefixtures("owner")
def test_before_apply_there_is_nothing_to_explain(database_url: str) -> None:
    with (
        opened(configuration(database_url)) as engine,
        pytest.raises(NotAppliedError, match="rowscore apply churn"),
    ):
        explained(engine)


def test_a_worker_side_model_tells_rows_calls_and_bytes(database_url: str, owner: Session) -> None:
    model = {"http": "http://127.0.0.1:1/invocations", "max_bytes": 5000}
    with opened(configuration(database_url, model=model, max_rows_per_batch=250)) as engine:
        applied(engine)
        assert explained(engine).batching.reason == (
            "up to 250 rows a call, 4 at once, for 1,000 rows a batch, at most 5,000 bytes a request"
        )
        owner.execute(f"UPDATE {own(owner, 'learned')} SET rows_per_claim = 100, rows_per_call = 50")
        assert explained(engine).batching.reason == (
            "up to 50 rows a call, 2 at once, for 100 rows a batch, at most 5,000 bytes a request (learned)"
        )


def test_a_function_that_calls_no_service_has_no_batches(database_url: str, owner: Session) -> None:
    add_items(owner, 1)
    with opened(configuration(database_url)) as engine:
        applied(engine)
        found = explained(engine)
    assert not found.batching.batched
    assert "calls no service" in found.batching.reason
    assert found.service_calls == {}


def test_a_composite_key_odd_names_and_a_version_are_planned(database_url: str, owner: Session) -> None:
    quoted = '"It""ems"' if is_postgresql(owner) else '`It"ems`'
    owner.execute(f"CREATE TABLE {quoted} (region varchar(20), n int, a float, PRIMARY KEY (region, n))")
    shape: dict[str, Any] = {
        "table": '"It""ems"',
        "inputs": [{"name": "x", "sql": "floor(a) * 7"}],
        "outputs": {"label": "varchar(10)", "share": "numeric(10,3)"},
        "model": {"python": "math:fsum"},
        "version": {"column": "model", "value": "v1"},
        "where": "a > 0",
    }
    with opened(configuration(database_url, **shape)) as engine:
        applied(engine)
        rows = f"SELECT CONCAT('r', i % 3), i, i FROM {series(owner, 1, 3000)}"
        owner.execute(f"INSERT INTO {quoted} (region, n, a) {rows}")
        found = explained(engine)
    assert found.by_index, found.statements
    assert found.waiting == 1000
