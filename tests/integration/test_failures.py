"""Poison rows, models that answer wrongly or not at all: one bad row stops nobody, a bad service charges no row."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.databases import Session, ago, is_postgresql, own
from tests.support.predictions import (
    add_items,
    add_up,
    applied,
    calls,
    configuration,
    drain,
    fail_at,
    make_items,
    opened,
    states,
)
from tests.support.routines import add_function, refuse
from worker import errors
from worker.models.protocol import Batch
from worker.states import RowState
from worker.table import listed
from worker.upkeep import retry_failures as retry

CONFORMANCE = True
PYTHON = {"model": {"python": "tests.support.predictions:add_up"}}
PENDING, SCORED, FAILED = RowState.PENDING.value, RowState.SCORED.value, RowState.FAILED.value
ROWS = 10_000
BISECTION = 2 * math.ceil(math.log2(ROWS))


def poisoned(batch: Batch) -> list[tuple[float]]:
    """Refuses every batch that holds a = 7777, and says so."""
    if any(row[0] == 7777 for row in batch.rows):
        raise errors.RowFaultError("a = 7777 is more than the model can bear")
    return add_up(batch)


def messages(application: Session) -> list[str]:
    """The different errors on record."""
    found = application.execute(f"SELECT DISTINCT message FROM {own(application, 'failure')}")
    return [row[0] for row in found.fetchall()]


@pytest.mark.parametrize("mode", ["update", "select"])
def test_a_service_that_throttles_in_the_middle_of_a_bisection_undoes_no_conviction(
    database_url: str, connect: Connect, mode: str
) -> None:
    """What was scored and found out before it is paid for."""
    application = connect()
    make_items(application)
    trouble = refuse(application, "a = 2", "a = 2 is poison") + refuse(application, "a >= 6", "throttled")
    add_function(application, "predict", "a double precision, b int", "a + b", before=trouble)
    with opened(configuration(database_url, model={"sql": "predict", "mode": mode})) as engine:
        applied(engine)
        add_items(application, 8)
        summary = drain(engine)
        assert (summary.fault or "").startswith("throttled")
        assert (summary.scored, summary.failed) == (3, 1)
    assert states(application) == {SCORED: 3, FAILED: 1, PENDING: 4}
    assert [row[0] for row in application.execute("SELECT a FROM items WHERE churn_state = 2")] == [2.0]
    (message,) = messages(application)
    assert "a = 2 is poison" in message


def test_one_poison_row_among_ten_thousand_on_the_worker_side(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application)
    with opened(
        configuration(database_url, **PYTHON, max_rows_per_batch=ROWS, max_rows_per_claim=ROWS), poisoned
    ) as engine:
        applied(engine)
        application.execute(f"UPDATE {own(application, 'learned')} SET rows_per_claim = %s", [ROWS])
        add_items(application, ROWS)
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (ROWS - 1, 1)
        assert summary.calls - 1 <= BISECTION + 1
        check_quarantine(application, "a = 7777 is more than the model can bear")


@pytest.mark.parametrize("mode", ["update", "select"])
def test_one_poison_row_among_ten_thousand_in_the_database(
    database_url: str, connect: Connect, mode: str
) -> None:
    application = connect()
    make_items(application)
    fail_at(application, 7777)
    model = {"sql": "predict", "mode": mode}
    with opened(configuration(database_url, model=model, max_rows_per_claim=ROWS)) as engine:
        applied(engine)
        application.execute(f"UPDATE {own(application, 'learned')} SET rows_per_claim = %s", [ROWS])
        add_items(application, ROWS)
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (ROWS - 1, 1)
        assert summary.calls <= BISECTION + 3
        check_quarantine(application, "a = 7777 is poison")
        assert application.execute("SELECT count(*) FROM items WHERE p = a + b").fetchone() == (ROWS - 1,)


def check_quarantine(application: Session, message: str) -> None:
    assert states(application) == {SCORED: ROWS - 1, FAILED: 1}
    rows = application.execute(
        f"SELECT row_key, message, attempts, next_retry_at > now() FROM {own(application, 'failure')}"
    ).fetchall()
    assert [(listed(row[0]), *row[2:]) for row in rows] == [(["7777"], 1, True)]
    assert message in rows[0][1]


def test_a_failed_row_is_retried_when_it_is_due_and_its_error_forgotten_when_it_succeeds(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    with opened(configuration(database_url, **PYTHON), poisoned) as engine:
        applied(engine)
        application.execute("INSERT INTO items (a, b) VALUES (1, 1), (7777, 1), (3, 1)")
        assert drain(engine).failed == 1
        assert retry(engine, None) == 0, "not due yet"
        application.execute(f"UPDATE {own(application, 'failure')} SET next_retry_at = now()")
        assert retry(engine, None) == 1
        assert drain(engine).failed == 1
        assert application.execute(f"SELECT attempts FROM {own(application, 'failure')}").fetchone() == (2,)
        application.execute("UPDATE items SET a = 2 WHERE a = 7777")
        assert drain(engine).scored == 1
        assert application.execute(f"SELECT count(*) FROM {own(application, 'failure')}").fetchone() == (0,)
        assert states(application) == {SCORED: 3}


def test_after_the_last_attempt_a_row_is_not_retried_by_itself(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application)
    with opened(configuration(database_url, **PYTHON, max_attempts=1), poisoned) as engine:
        applied(engine)
        application.execute("INSERT INTO items (a, b) VALUES (1, 1), (7777, 1)")
        drain(engine)
        application.execute(f"UPDATE {own(application, 'failure')} SET next_retry_at = now()")
        retry(engine, None)
        drain(engine)
        assert application.execute(
            f"SELECT attempts, next_retry_at FROM {own(application, 'failure')}"
        ).fetchone() == (
            2,
            None,
        )
        assert retry(engine, None) == 0
        assert retry(engine, None, everything=True) == 1


def nothing(_batch: Batch) -> list[Any]:
    return []


def one_too_few(batch: Batch) -> list[tuple[float]]:
    return add_up(batch)[1:]


def one_too_many(batch: Batch) -> list[tuple[float]]:
    return [*add_up(batch), (0.0,)]


def text(batch: Batch) -> list[tuple[str]]:
    return [("n/a",) for _ in batch.rows]


def nan(batch: Batch) -> list[tuple[float]]:
    return [(float("nan"),) for _ in batch.rows]


def pairs(batch: Batch) -> list[tuple[float, float]]:
    return [(1.0, 2.0) for _ in batch.rows]


def down(_batch: Batch) -> list[tuple[float]]:
    raise errors.ServiceRefusedError("404 no such model")


@pytest.mark.parametrize("model", [nothing, one_too_few, one_too_many, text, nan, pairs, down])
def test_a_model_that_is_wrong_about_every_row_charges_none(
    database_url: str, connect: Connect, model: Callable[[Batch], Any]
) -> None:
    application = connect()
    make_items(application)
    with opened(configuration(database_url, **PYTHON), model) as engine:
        applied(engine)
        add_items(application, 100)
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (0, 0)
        assert summary.fault
        assert states(application) == {PENDING: 100}
        assert application.execute("SELECT count(p) FROM items").fetchone() == (0,)
        assert "circuit is open" in drain(engine).ended, "and it is left alone for a while"
        application.execute(f"UPDATE {own(application, 'circuit')} SET open_until = now()")
    with opened(configuration(database_url, **PYTHON), add_up) as engine:
        assert drain(engine).scored == 100
        assert application.execute(
            f"SELECT failures, open_until FROM {own(application, 'circuit')}"
        ).fetchone() == (
            0,
            None,
        )


def sometimes_nan(batch: Batch) -> list[tuple[float]]:
    return [(float("nan") if row[0] % 10 == 0 else row[0],) for row in batch.rows]


def test_single_wrong_answers_fail_their_rows_only(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application)
    with opened(configuration(database_url, **PYTHON), sometimes_nan) as engine:
        applied(engine)
        add_items(application, 100)
        summary = drain(engine)
        assert (summary.scored, summary.failed, summary.calls) == (90, 10, 1)
        (message,) = messages(application)
        assert message.startswith("p: the model answered nan")


def test_a_null_answer_does_not_come_back(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application)
    if is_postgresql(application):
        application.execute(
            """CREATE OR REPLACE FUNCTION predict(a float8, b int) RETURNS float8 LANGUAGE sql AS
            $$ SELECT NULL::float8 FROM nextval('calls') $$"""
        )
    else:
        application.execute(
            """DROP FUNCTION predict; CREATE FUNCTION predict(a double, b int) RETURNS double
            NOT DETERMINISTIC MODIFIES SQL DATA BEGIN UPDATE calls SET n = n + 1; RETURN NULL; END"""
        )
    with opened(configuration(database_url)) as engine:
        applied(engine)
        add_items(application, 50)
        assert drain(engine).scored == 50
        assert drain(engine).scored == 0
        assert calls(application) == 50
        assert states(application) == {SCORED: 50}


def test_an_answer_that_the_database_rejects_fails_its_row_without_another_call(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    single = "real" if is_postgresql(application) else "float"
    config = configuration(database_url, **PYTHON, outputs={"p": single})
    application.execute(f"ALTER TABLE items ADD p {single} CHECK (p < 90)")
    with opened(config, add_up) as engine:
        applied(engine)
        add_items(application, 100)
        application.execute("UPDATE items SET a = 1e300 WHERE id = 50")
        summary = drain(engine)
        assert (summary.scored, summary.failed, summary.calls) == (78, 22, 1)
        found = {message.lower() for message in messages(application)}
        assert any("out of range" in message for message in found)
        assert any("constraint" in message for message in found)


@pytest.mark.parametrize("model", [{"sql": "predict"}, {"sql": "predict", "mode": "select"}, PYTHON["model"]])
def test_an_expression_that_fails_on_a_row_fails_that_row(
    database_url: str, connect: Connect, model: dict[str, str]
) -> None:
    application = connect()
    make_items(application)
    share = {"name": "share", "sql": "exp(b)::int" if is_postgresql(application) else "exp(b)"}
    config = configuration(database_url, model=model, inputs=["a", share])
    with opened(config, add_up if "python" in model else None) as engine:
        applied(engine)
        add_items(application, 200)
        application.execute("UPDATE items SET b = 100000 WHERE id IN (1, 77, 200)")
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (197, 3)
        assert states(application) == {SCORED: 197, FAILED: 3}
        found = messages(application)  # MariaDB names the column with its database, or at times without it
        assert found
        assert all("out of range" in message for message in found)


def test_a_window_that_kills_its_workers_is_split_until_the_row_stands_alone(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    config = configuration(database_url, **PYTHON)

    def deadly(batch: Batch) -> list[tuple[float]]:
        if any(row[0] == 7 for row in batch.rows):
            raise KeyboardInterrupt  # the process dies: nothing is settled
        return add_up(batch)

    with opened(config, deadly) as engine:
        applied(engine)
        add_items(application, 16)
        deaths = 0
        while True:
            try:
                summary = drain(engine)
            except KeyboardInterrupt:
                deaths += 1
                assert deaths < 20
                expired = f"UPDATE {own(application, 'lease')} SET expires_at = {ago(application, 3600)}"
                application.execute(expired)
            else:
                break
        assert deaths <= 2 + 4 + 2, "two over the window, one a halving, two over the row alone"
        assert (summary.failed, states(application)) == (1, {SCORED: 15, FAILED: 1})
        (message,) = messages(application)
        assert "workers died" in message
