"""`where`: rows that are skipped, that come back, that are excluded in the middle of a call, on which it fails."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.databases import is_postgresql, one, series
from tests.support.predictions import (
    WAYS,
    Barrier,
    add_items,
    applied,
    configuration,
    double_of,
    drain,
    in_the_model,
    make_items,
    model_of,
    opened,
    states,
)
from worker.states import RowState

CONFORMANCE = True
PENDING, SCORED, FAILED = RowState.PENDING.value, RowState.SCORED.value, RowState.FAILED.value
SKIPPED = RowState.SKIPPED.value


@pytest.mark.parametrize("way", WAYS)
def test_where_on_a_column_that_is_no_input(database_url: str, connect: Connect, way: str) -> None:
    application = connect()
    make_items(application)
    config = configuration(database_url, model=model_of(way), where="length(note) > 2", max_rows_per_claim=3)
    with opened(config, double_of(way)) as engine:
        applied(engine)
        notes = "CASE i % 3 WHEN 0 THEN 'long' WHEN 1 THEN 'no' END"
        application.execute(
            f"INSERT INTO items (id, a, b, note) SELECT i + 1, i, 1, {notes} FROM {series(application, 0, 11)}"
        )
        summary = drain(engine)
        assert (summary.scored, summary.skipped) == (4, 8)
        assert states(application) == {SCORED: 4, SKIPPED: 8}
        application.execute("UPDATE items SET note = 'long enough' WHERE note IS NULL")
        application.execute("UPDATE items SET b = 2 WHERE note = 'no'")
        assert states(application) == {SCORED: 4, PENDING: 8}
        summary = drain(engine)
        assert (summary.scored, summary.skipped) == (4, 4)
        application.execute("UPDATE items SET note = NULL WHERE note = 'long'")
        summary = drain(engine)
        assert (summary.scored, summary.skipped) == (0, 4)
    assert one(application, "SELECT count(*) FROM items WHERE p = a + b") == 8


def test_a_row_that_where_excludes_while_the_model_is_called_is_not_written(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    barrier = Barrier()
    config = configuration(
        database_url, model=model_of("worker"), where="note IS NULL", on_input_change="ignore"
    )
    with opened(config, barrier) as engine:
        applied(engine)
        add_items(application, 4)
        with in_the_model(engine, barrier) as running:
            application.execute("UPDATE items SET note = 'out' WHERE id = 2")
        summary = running.result()
        assert (summary.scored, summary.skipped) == (3, 1)
    assert application.execute("SELECT p, churn_state FROM items WHERE id = 2").fetchone() == (None, SKIPPED)


@pytest.mark.parametrize("way", WAYS)
def test_where_that_fails_on_a_row_stops_nobody(database_url: str, connect: Connect, way: str) -> None:
    """In PostgreSQL that row fails; in MySQL what a SELECT makes of it is NULL, and the row is skipped."""
    application = connect()
    make_items(application)
    config = configuration(database_url, model=model_of(way), where="100 / b > 1.5")
    with opened(config, double_of(way)) as engine:
        applied(engine)
        add_items(application, 20)
        application.execute("UPDATE items SET b = CASE id WHEN 7 THEN 0 ELSE 99 END WHERE id IN (7, 9)")
        summary = drain(engine)
        failed = 1 if is_postgresql(application) else 0
        assert (summary.scored, summary.failed) == (18, failed)
    assert states(application) == (
        {SCORED: 18, FAILED: 1, SKIPPED: 1} if failed else {SCORED: 18, SKIPPED: 2}
    )
    assert application.execute("SELECT id, p FROM items WHERE id IN (7, 9) ORDER BY id").fetchall() == [
        (7, None),
        (9, None),
    ]


@pytest.mark.parametrize("way", WAYS)
def test_a_text_that_is_no_number_in_where_stops_nobody(
    database_url: str, connect: Connect, way: str
) -> None:
    """PostgreSQL fails it; MySQL's SELECT takes it for 0, and an UPDATE fails it where 0 would do."""
    application = connect()
    make_items(application)
    config = configuration(database_url, model=model_of(way), where="CAST(note AS DECIMAL(9,2)) < 5")
    with opened(config, double_of(way)) as engine:
        applied(engine)
        add_items(application, 6)
        notes = "CASE id WHEN 2 THEN 'words' WHEN 3 THEN '7' WHEN 4 THEN '8 of them' ELSE '1' END"
        application.execute(f"UPDATE items SET note = {notes}")
        drain(engine)
        assert drain(engine).scored == 0
    found = states(application)
    assert PENDING not in found
    assert found[SCORED] >= 3
    assert one(application, "SELECT churn_state FROM items WHERE id = 3") == SKIPPED
