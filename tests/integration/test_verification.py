"""Fingerprints that are kept, and `verify`: changes that no trigger noticed are found, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.applied import partition_items
from tests.support.databases import Session, each, is_postgresql, one, series
from tests.support.predictions import (
    WAYS,
    Barrier,
    add_items,
    add_up,
    applied,
    calls,
    configuration,
    double_of,
    drain,
    fail_at,
    in_the_model,
    make_items,
    model_of,
    opened,
    states,
)
from tests.support.routines import add_function, add_trigger, assign, refuse
from worker import verification
from worker.engine import Engine
from worker.errors import ConfigurationError
from worker.models.protocol import Batch
from worker.states import RowState
from worker.verification import verify

CONFORMANCE = True
PENDING, SCORED, FAILED, SKIPPED, EXISTING = (
    state.value
    for state in (RowState.PENDING, RowState.SCORED, RowState.FAILED, RowState.SKIPPED, RowState.EXISTING)
)
BOTH = {"fingerprint": "churn_inputs"}  # beside the trigger
ALONE = {"on_input_change": "fingerprint"}


def untrigger(connection: Session) -> None:
    """From now on no trigger notices a change."""
    connection.execute(
        "ALTER TABLE items DISABLE TRIGGER zzz_rowscore_churn"
        if is_postgresql(connection)
        else "DROP TRIGGER zzz_rowscore_churn"
    )


def found(engine: Engine, **options: Any) -> tuple[int, int, int, int, int]:
    """Rows changed, unknown, put back, held and failing."""
    done = verify(engine, **options)
    assert done.complete
    return done.changed, done.unknown, done.requeued, done.held, done.failing


def ids(connection: Session, state: int) -> list[int]:
    """The rows in one state."""
    rows = connection.execute("SELECT id FROM items WHERE churn_state = %s ORDER BY id", [state])
    return [number for (number,) in rows.fetchall()]


NOTHING = (0, 0, 0, 0, 0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kept", [BOTH, ALONE], ids=["both", "alone"])
def test_a_bulk_update_that_nobody_noticed_is_found_and_scored_again(
    database_url: str, connect: Connect, way: str, kept: dict[str, str]
) -> None:
    application = connect()
    make_items(application)
    with opened(configuration(database_url, model=model_of(way), **kept), double_of(way, add_some)) as engine:
        applied(engine)
        add_items(application, 50)
        application.execute("UPDATE items SET b = NULL WHERE id = 9")
        drain(engine)
        assert states(application) == {SCORED: 50}
        if kept is BOTH:
            application.execute("UPDATE items SET a = a + 100 WHERE id = 1")
            assert ids(application, PENDING) == [1], "the trigger is there as well"
            drain(engine)
            untrigger(application)
        assert found(engine) == NOTHING
        application.execute("UPDATE items SET note = 'other columns', a = a")
        assert found(engine) == NOTHING
        application.execute("UPDATE items SET a = a + 1 WHERE id BETWEEN 11 AND 20")
        application.execute("UPDATE items SET b = NULL WHERE id = 21")
        application.execute("UPDATE items SET b = 4 WHERE id = 9")
        changed = [9, *range(11, 22)]
        counted = verify(engine, dry_run=True)
        assert (counted.rows, counted.changed, counted.requeued) == (50, 12, 0)
        assert counted.examples == [(str(number),) for number in changed[: verification.EXAMPLES]]
        assert states(application) == {SCORED: 50}
        old = one(application, "SELECT p FROM items WHERE id = 11")
        assert found(engine) == (12, 0, 12, 0, 0)
        assert ids(application, PENDING) == changed
        assert application.execute(
            "SELECT prediction_state, p FROM items_scored WHERE id = 11"
        ).fetchone() == (
            "stale",
            old,
        )
        assert drain(engine).scored == 12
        assert found(engine) == NOTHING
    wrong = "CASE WHEN b IS NULL THEN p IS NOT NULL ELSE p IS NULL OR p <> a + b END"
    assert one(application, f"SELECT count(*) FROM items WHERE {wrong}") == 0
    assert "churn_" not in " ".join(
        name for name in columns(application, "items_scored") if name != "churn_scored_at"
    )


def columns(connection: Session, table: str) -> list[str]:
    rows = connection.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = %s", [table]
    )
    return [name for (name,) in rows.fetchall()]


def add_some(batch: Batch) -> list[tuple[float | None]]:
    """The model of the items, which takes NULL as SQL does."""
    return [(None if None in row[:2] else row[0] + row[1],) for row in batch.rows]


UNICODE_CI = "varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
TYPES = {
    "postgresql": [
        ("text", "'a'", "'a'", "'A'"),
        ("text", "'é'", "'é'", "'e'"),
        ("json", """'{"a": 1}'""", """'{"a": 1}'""", """'{"a":1}'"""),
        ("jsonb", """'{"a": 1}'""", """'{"a":1}'""", """'{"a": 2}'"""),
        ("text[]", "'{a,NULL}'", "'{a,null}'", "'{a}'"),
        ("mood", "'sad'", "'sad'", "'happy'"),
        ("mood[]", "'{sad,NULL}'", "'{sad,NULL}'", "'{NULL,sad}'"),
        ("document", """'{"a": 1}'""", """'{"a":1}'""", """'[]'"""),
        ("letter", "'ab'", "'ab'", "'ac'"),
        ("character(3)", "'ab'", "'ab '", "'abc'"),
        ("bit(3)", "B'101'", "B'101'", "B'100'"),
        ("interval", "'1 day'", "'1 day'", "'24 hours'"),
        ("tstzrange", "'[2024-01-01 00:00Z,)'", "'[2024-01-01 01:00+01,)'", "'[2024-01-01 00:00:01Z,)'"),
        ("double precision", "0.0", "-0.0", "0.1"),
        ("double precision", "'NaN'", "'NaN'", "NULL"),
        ("timestamptz", "'2024-01-01 00:00Z'", "'2024-01-01 01:00+01'", "'infinity'"),
        ("vector(2)", "'[1,2]'", "'[1,2]'", "'[1,3]'"),
    ],
    "mysql": [
        (UNICODE_CI, "'a'", "'a'", "'A'"),
        (UNICODE_CI, "'e'", "'e'", "'é'"),
        ("varchar(20)", "'e'", "'e'", "'e '"),
        ("longtext", "REPEAT('x', 100000)", "REPEAT('x', 100000)", "CONCAT(REPEAT('x', 99999), 'X')"),
        ("json", """'{"a": "x"}'""", """'{"a": "x"}'""", """'{"a": "X"}'"""),
        ("blob", "x'00'", "x'00'", "x'01'"),
        ("float", "16777215", "16777215", "16777216"),
        ("double", "1e0 / 3", "1e0 / 3", "1e0 / 3 + 1e-16"),
        ("decimal(30,10)", "1.0000000001", "1.0000000001", "NULL"),
        ("datetime(6)", "'2024-01-01'", "'2024-01-01 00:00:00'", "'2024-01-01 00:00:00.000001'"),
        ("enum('a','B')", "'a'", "'a'", "NULL"),
        ("set('a','b')", "'a,b'", "'b,a'", "'a'"),
        ("bit(5)", "b'101'", "5", "6"),
    ],
}
MADE_TYPES = """
    CREATE EXTENSION IF NOT EXISTS vector;
    CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN document AS jsonb; CREATE DOMAIN letter AS char(2)"""


@each("kind, old, same, other", TYPES)
def test_what_is_a_change_of_an_input(
    *, database_url: str, connect: Connect, kind: str, old: str, same: str, other: str
) -> None:
    application = connect()
    make_items(application)
    if is_postgresql(application):
        application.execute(MADE_TYPES)
    application.execute(f"ALTER TABLE items ADD COLUMN x {kind}")
    config = configuration(database_url, model=model_of("worker"), inputs=["x"], **ALONE)
    with opened(config, lambda batch: [(1.0,) for _ in batch.rows]) as engine:
        applied(engine)
        application.execute(f"INSERT INTO items (id, x) VALUES (1, {old}), (2, {old})")
        assert drain(engine).scored == 2
        assert found(engine) == NOTHING
        application.execute(f"UPDATE items SET x = {same} WHERE id = 1")
        assert found(engine) == NOTHING
        application.execute(f"UPDATE items SET x = {other} WHERE id = 1")
        assert found(engine) == (1, 0, 1, 0, 0)
        assert drain(engine).scored == 1
        assert found(engine) == NOTHING
        application.execute(f"UPDATE items SET x = {old} WHERE id = 1")
        assert found(engine) == (1, 0, 1, 0, 0)


def test_a_zero_that_turns_negative_is_paid_for_once_at_most(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application)
    config = configuration(database_url, model=model_of("worker"), inputs=["a", "note"], **ALONE)
    with opened(config, lambda batch: [(1.0,) for _ in batch.rows]) as engine:
        applied(engine)
        application.execute("INSERT INTO items (id, a) VALUES (1, 0e0)")
        drain(engine)
        application.execute("UPDATE items SET a = -0e0")
        verify(engine)
        drain(engine)
        assert found(engine) == NOTHING


@pytest.mark.parametrize("way", WAYS)
def test_expressions_defaults_and_where(database_url: str, connect: Connect, way: str) -> None:
    """A row that was skipped is looked at by `where` alone; one that no longer fits waits, and is skipped then."""
    application = connect()
    make_items(application)
    add_function(application, "predict", "x double precision, y int", "x + y")
    inputs = [{"name": "x", "sql": "a * 100 / b"}, {"column": "b", "default": 7}]
    config = configuration(database_url, model=model_of(way), inputs=inputs, where="b <> 0", **ALONE)
    with opened(config, double_of(way, add_some)) as engine:
        applied(engine)
        application.execute(
            "INSERT INTO items (id, a, b) VALUES (1, 1, 2), (2, 2, 0), (3, 3, 4), (4, 4, NULL)"
        )
        drain(engine)
        assert states(application) == {SCORED: 2, SKIPPED: 2}
        application.execute("UPDATE items SET a = a + 1, note = 'changed' WHERE id IN (2, 4)")
        assert found(engine) == NOTHING, "they are skipped still"
        application.execute("UPDATE items SET b = 5 WHERE id = 2")
        application.execute("UPDATE items SET b = 0 WHERE id = 3")
        application.execute("UPDATE items SET a = 2 WHERE id = 1")
        done = verify(engine)
        assert (done.changed, done.requeued, done.failing) == (3, 3, 0), (
            "inputs are not asked of what fits no more"
        )
        assert ids(application, PENDING) == [1, 2, 3]
        drain(engine)
    assert application.execute("SELECT p FROM items WHERE id IN (1, 2) ORDER BY id").fetchall() == [
        (102,),
        (65,),
    ]


def test_a_row_that_failed_is_tried_again_once_its_inputs_changed(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    fail_at(application, 3)
    with opened(configuration(database_url, max_attempts=1, **ALONE)) as engine:
        applied(engine)
        add_items(application, 20)
        drain(engine)
        assert states(application) == {SCORED: 19, FAILED: 1}
        assert found(engine) == NOTHING
        application.execute("UPDATE items SET a = 300 WHERE a = 3")
        assert found(engine) == (1, 0, 1, 0, 0)
        assert drain(engine).scored == 1
        assert found(engine) == NOTHING


@pytest.mark.parametrize("way", WAYS)
def test_rows_that_fail_on_the_worker_side_and_in_the_database_keep_their_fingerprint(
    database_url: str, connect: Connect, way: str
) -> None:
    application = connect()
    make_items(application)
    fail_at(application, 3, 7)

    def poisoned(batch: Batch) -> list[Any]:
        return [("no number" if row[0] in (3, 7) else row[0],) for row in batch.rows]

    config = configuration(database_url, model=model_of(way), **ALONE)
    with opened(config, double_of(way, poisoned)) as engine:
        applied(engine)
        add_items(application, 20)
        drain(engine)
        assert states(application) == {SCORED: 18, FAILED: 2}
        assert found(engine) == NOTHING
        application.execute("UPDATE items SET a = 70 WHERE a = 7")
        assert found(engine) == (1, 0, 1, 0, 0)


def test_rows_on_which_an_expression_fails_are_stepped_around(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application)
    add_function(application, "share_of", "x int", "100 / x")
    inputs = ["a", {"name": "x", "sql": "share_of(b)"}]
    config = configuration(database_url, model=model_of("worker"), inputs=inputs, **ALONE)
    with opened(config, add_some) as engine:
        applied(engine)
        add_items(application, 30)
        drain(engine)
        assert states(application) == {SCORED: 30}
        add_function(
            application, "share_of", "x int", "100 / x", before=refuse(application, "x = 0", "x is zero")
        )
        assert found(engine) == NOTHING
        application.execute("UPDATE items SET b = 0 WHERE id IN (5, 6, 30)")
        application.execute("UPDATE items SET b = 20 WHERE id IN (4, 7)")
        done = verify(engine)
        assert (done.rows, done.changed, done.requeued, done.failing, done.held) == (30, 2, 2, 3, 0)
        assert done.error is not None
        assert "key 5: " in done.error
        assert "x is zero" in done.error
        assert ids(application, PENDING) == [4, 7]


def test_rows_from_before_are_unknown_until_somebody_agrees_to_pay(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application, 5)
    with opened(configuration(database_url)) as engine:
        applied(engine)
        add_items(application, 20)
        drain(engine)
    with opened(configuration(database_url, **BOTH)) as engine:
        applied(engine)
        application.execute("UPDATE items SET a = a + 1 WHERE id = 10")
        drain(engine)
        calls(application)
        assert found(engine, dry_run=True) == (0, 19, 0, 0, 0)
        assert found(engine) == (0, 19, 0, 0, 0)
        assert drain(engine).scored == 0
        assert calls(application) == 0
        assert found(engine, unknown=True) == (0, 19, 19, 0, 0)
        assert states(application) == {EXISTING: 5, SCORED: 1, PENDING: 19}
        drain(engine)
        assert found(engine) == NOTHING


@pytest.mark.parametrize("change", [{"inputs": ["b", "a"]}, {"where": "a > 0"}], ids=["inputs", "where"])
def test_another_definition_makes_rows_unknown_and_none_of_them_changed(
    database_url: str, connect: Connect, change: dict[str, Any]
) -> None:
    application = connect()
    make_items(application)
    model = model_of("worker")
    with opened(configuration(database_url, model=model, **ALONE), add_up) as engine:
        applied(engine)
        add_items(application, 10)
        drain(engine)
    with opened(configuration(database_url, model=model, **ALONE, **change), add_up) as engine:
        applied(engine)
        assert found(engine) == (0, 10, 0, 0, 0)
        application.execute("UPDATE items SET churn_state = 0 WHERE id = 4")
        drain(engine)
        assert found(engine) == (0, 9, 0, 0, 0)
        application.execute("UPDATE items SET a = 44 WHERE id IN (4, 5)")
        assert found(engine) == (1, 9, 1, 0, 0)


def test_a_change_while_the_model_is_called_is_found_by_the_guard_and_not_kept(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    model = Barrier()
    with opened(configuration(database_url, model=model_of("worker"), **ALONE), model) as engine:
        applied(engine)
        add_items(application, 10)
        with in_the_model(engine, model, seconds=0.001) as running:
            application.execute("UPDATE items SET a = -5 WHERE id = 5")
            application.execute("UPDATE items SET note = 'seen' WHERE id = 6")
        assert running.result().scored == 9
        drain(engine)
        assert found(engine) == NOTHING
    assert one(application, "SELECT count(*) FROM items WHERE p = a + b") == 10


def test_partitions(database_url: str, connect: Connect) -> None:
    application = connect()
    partition_items(application)
    config = configuration(database_url, model=model_of("worker"), inputs=["a"], **BOTH)
    with opened(config, lambda batch: [(row[0],) for row in batch.rows]) as engine:
        applied(engine)
        application.execute(
            f"INSERT INTO items (id, a, b) SELECT i, i, i % 4 FROM {series(application, 1, 40)}"
        )
        application.execute("UPDATE items SET churn_state = 0")
        drain(engine)
        assert found(engine) == NOTHING
        untrigger(application)
        application.execute("UPDATE items SET a = a + 1 WHERE id IN (1, 99, 100, 149)")
        assert found(engine) == (4, 0, 4, 0, 0)
        assert ids(application, PENDING) == [1, 99, 100, 149]


def test_a_trigger_of_the_applications_that_changes_other_columns_is_no_change(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    add_trigger(application, "touch", "BEFORE UPDATE", assign(application, "note", "'touched'"))
    with opened(configuration(database_url, **ALONE)) as engine:
        applied(engine)
        add_items(application, 5)
        drain(engine)
        assert found(engine) == NOTHING


def test_without_a_fingerprint_it_says_what_to_configure(database_url: str, connect: Connect) -> None:
    make_items(connect())
    with opened(configuration(database_url)) as engine:
        applied(engine)
        with pytest.raises(
            ConfigurationError, match=r'keeps no fingerprints .* on_input_change = "fingerprint"'
        ):
            verify(engine)


def test_rows_from_before_may_be_trusted_for_nothing(database_url: str, connect: Connect) -> None:
    """After a trigger that watched them; a row that another holds is left, one whose expression fails is told."""
    application, holder = connect(), connect(autocommit=False)
    make_items(application)
    model = model_of("worker")
    with opened(configuration(database_url, model=model), add_up) as engine:
        applied(engine)
        add_items(application, 30)
        drain(engine)
    add_function(application, "part_of", "x int", "100 / x", before=refuse(application, "x = 0", "x is zero"))
    inputs = ["a", {"name": "x", "sql": "part_of(b)"}]
    untrigger(application)
    application.execute("UPDATE items SET b = 0 WHERE id = 5")
    with opened(configuration(database_url, model=model, inputs=inputs, **ALONE)) as engine:
        applied(engine)
        holder.execute("SELECT id FROM items WHERE id = 20 FOR UPDATE")
        assert verify(engine, accept=True, dry_run=True).accepted == 0
        done = verify(engine, accept=True)
        assert (done.unknown, done.accepted, done.held, done.failing, done.requeued) == (30, 28, 1, 1, 0)
        assert done.error is not None
        assert "key 5: " in done.error
        holder.rollback()
        application.execute("UPDATE items SET a = -1 WHERE id = 8")
        assert found(engine) == (1, 2, 1, 0, 0)
    assert states(application) == {SCORED: 29, PENDING: 1}
