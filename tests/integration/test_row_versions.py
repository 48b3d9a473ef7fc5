"""PostgreSQL's row versions in place of fingerprints: where they are trusted, and what an unrelated change costs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import make_url

from tests.conftest import Connect
from tests.support.deadlines import eventually
from tests.support.predictions import (
    Barrier,
    add_items,
    add_up,
    applied,
    configuration,
    drain,
    make_items,
    opened,
    states,
)
from worker.states import RowState

PYTHON = {"model": {"python": "tests:none"}}
PENDING, SCORED = RowState.PENDING.value, RowState.SCORED.value


def versioned(url: str, **overrides: Any) -> bool:
    """Whether a worker with this configuration trusts the rows' versions."""
    with opened(configuration(url, **{**PYTHON, **overrides})) as engine:
        return engine.materialisation(engine.prediction()).versioned


@pytest.fixture
def reader(connect: Connect, database_url: str) -> Iterator[str]:
    """A role that may read the key and the inputs of items alone."""
    name = f"reader_{database_url.rpartition('_')[2]}"
    owner = connect()
    make_items(owner)
    owner.execute(f"CREATE ROLE {name} LOGIN; GRANT SELECT (id, a, b) ON items TO {name}")
    yield name
    owner.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_versions_are_trusted_where_the_worker_calls_the_model_over_plain_columns(
    database_url: str, connect: Connect
) -> None:
    make_items(connect())
    assert versioned(database_url)
    assert not versioned(database_url, model={"sql": "predict", "mode": "select"}), (
        "it has no inputs to compare"
    )
    assert not versioned(database_url, inputs=["a", {"name": "c", "sql": "b + 1"}]), (
        "may read more than the row"
    )
    assert not versioned(database_url, where="b > 0"), "may read more than the row"


def test_versions_are_not_trusted_in_partitions_and_below_children(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    application.execute("CREATE TABLE child () INHERITS (items)")
    assert not versioned(database_url)
    application.execute(
        "CREATE TABLE parted (id bigint PRIMARY KEY, a float8, b int) PARTITION BY RANGE (id);"
        "CREATE TABLE part PARTITION OF parted DEFAULT"
    )
    assert not versioned(database_url, table="parted")


def test_changes_of_other_columns_are_looked_through_and_those_of_inputs_are_not(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    model = Barrier()
    config = configuration(database_url, **PYTHON, on_input_change="ignore")
    with opened(config, model) as engine, ThreadPoolExecutor(1) as pool:
        applied(engine)
        add_items(application, 100)
        running = pool.submit(drain, engine, seconds=0.001)
        assert model.entered.wait(30)
        application.execute("UPDATE items SET note = 'once' WHERE id <= 50")
        application.execute("UPDATE items SET note = 'twice', b = b WHERE id <= 20")
        application.execute("UPDATE items SET a = -1 WHERE id = 7")
        application.execute("UPDATE items SET b = b + 1 WHERE id BETWEEN 90 AND 99")
        model.released.set()
        summary = running.result()
        assert (summary.scored, summary.lost, summary.call_rows) == (89, 11, 100)
        assert states(application) == {SCORED: 89, PENDING: 11}
        assert drain(engine).call_rows == 11
        wrong = "p IS DISTINCT FROM a + b"
        assert application.execute(f"SELECT count(*) FROM items WHERE {wrong}").fetchone() == (0,)


def test_a_change_that_is_under_way_when_the_answers_are_written_is_looked_through_too(
    database_url: str, connect: Connect
) -> None:
    application, holder = connect(), connect(autocommit=False)
    make_items(application)
    model = Barrier()
    with opened(configuration(database_url, **PYTHON), model) as engine, ThreadPoolExecutor(1) as pool:
        applied(engine)
        add_items(application, 10)
        running = pool.submit(drain, engine, seconds=0.001)
        assert model.entered.wait(30)
        holder.execute("UPDATE items SET note = 'held' WHERE id = 4")
        model.released.set()
        eventually(lambda: states(application).get(SCORED) == 9, "the write gives up on the row's lock alone")
        holder.commit()
        assert (running.result().scored, running.result().call_rows) == (10, 10)


def test_a_failure_is_recorded_though_another_column_changed(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application)
    model = Barrier(lambda batch: [("no number" if row[0] == 3 else row[0],) for row in batch.rows])
    with opened(configuration(database_url, **PYTHON), model) as engine, ThreadPoolExecutor(1) as pool:
        applied(engine)
        add_items(application, 20)
        running = pool.submit(drain, engine, seconds=0.001)
        assert model.entered.wait(30)
        application.execute("UPDATE items SET note = 'seen'")
        model.released.set()
        assert (running.result().scored, running.result().failed) == (19, 1)


def test_a_role_that_may_not_see_versions_uses_fingerprints(database_url: str, reader: str) -> None:
    assert versioned(database_url)
    restricted = make_url(database_url).set(username=reader).render_as_string(hide_password=False)
    assert not versioned(restricted)


def test_rows_that_somebody_once_locked_are_locked_to_see_whether_they_are_free(
    database_url: str, connect: Connect
) -> None:
    application, holder = connect(), connect(autocommit=False)
    make_items(application)
    with opened(configuration(database_url, **PYTHON), add_up) as engine:
        applied(engine)
        add_items(application, 50)
        holder.execute("UPDATE items SET note = 'undone' WHERE id <= 10")
        holder.rollback()
        holder.execute("SELECT id FROM items WHERE id BETWEEN 11 AND 20 FOR KEY SHARE")
        holder.commit()
        application.execute("SELECT id FROM items WHERE id BETWEEN 15 AND 25 FOR UPDATE")
        holder.execute("SELECT id FROM items WHERE id BETWEEN 6 AND 16 FOR KEY SHARE")
        holder.execute("UPDATE items SET note = 'held' WHERE id IN (1, 12, 30)")
        summary = drain(engine)
        assert (summary.scored, summary.call_rows) == (47, 47), "a foreign key's lock keeps nobody out"
        holder.commit()
        assert drain(engine).call_rows == 3
        assert states(application) == {SCORED: 50}
