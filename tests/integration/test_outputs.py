"""Answers of every type land in their columns exactly, by each of the three ways that an answer takes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.databases import Session, dialect, each, is_postgresql, own, quote
from tests.support.predictions import (
    WAYS,
    add_items,
    applied,
    configuration,
    double_of,
    drain,
    make_items,
    model_of,
    opened,
    states,
)
from tests.support.routines import add_function
from tests.support.samples import MISFITS, MYSQL, POSTGRESQL, SAMPLES, differences, prepare
from worker.models.protocol import Batch
from worker.states import RowState

CONFORMANCE = True
SCORED, FAILED = RowState.SCORED.value, RowState.FAILED.value
ARGUMENTS = "a double precision, b int"


def messages(connection: Session) -> list[str]:
    """What quarantine says, in the order of the keys."""
    key = "(row_key ->> 0)::int" if is_postgresql(connection) else "JSON_VALUE(row_key, '$[0]') + 0"
    rows = connection.execute(f"SELECT message FROM {own(connection, 'failure')} ORDER BY {key}")
    return [row[0] for row in rows.fetchall()]


@pytest.mark.parametrize("there", ["new columns", "columns that were there"])
def test_every_type_is_written_exactly_by_a_worker(database_url: str, connect: Connect, there: str) -> None:
    application = connect()
    prepare(application)
    make_items(application, 2)
    samples = SAMPLES[dialect(application)]
    for name, sample in samples.items():
        # `apply` refuses to add a domain; MySQL's character sets are of columns that are there.
        if there != "new columns" or name == "domain" or sample.asked != sample.type:
            application.execute(f"ALTER TABLE items ADD COLUMN {quote(application, name)} {sample.type}")

    def answer_all(batch: Batch) -> list[tuple[Any, ...]]:
        return [tuple(sample.answer for sample in samples.values()) for _ in batch.rows]

    outputs = {name: sample.asked for name, sample in samples.items()}
    config = configuration(database_url, model=model_of("worker"), outputs=outputs)
    with opened(config, answer_all) as engine:
        applied(engine)
        add_items(application, 3)
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (3, 0), messages(application)
    assert differences(application, {name: name for name in samples}) == []


# PostgreSQL's functions answer all types at once in another test.
SCALARS = {
    "postgresql": [
        name for name in POSTGRESQL if name in {"third", "text", "raw_bytes", "jsonb", "matrix", "nothing"}
    ],
    "mysql": list(MYSQL),
}


@pytest.mark.parametrize("mode", ["update", "select"])
@each("name", SCALARS)
def test_a_functions_answer_is_written_exactly(
    database_url: str, connect: Connect, name: str, mode: str
) -> None:
    application = connect()
    prepare(application)
    make_items(application)
    sample = SAMPLES[dialect(application)][name]
    add_function(application, "predict", ARGUMENTS, sample.literal, returns=sample.returns or sample.type)
    if sample.asked != sample.type:
        application.execute(f"ALTER TABLE items ADD COLUMN p {sample.type}")
    config = configuration(database_url, model=model_of(mode), outputs={"p": sample.asked})
    with opened(config) as engine:
        applied(engine)
        add_items(application, 3)
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (3, 0), messages(application)
    assert differences(application, {name: "p"}) == []


def test_answers_of_a_worker_that_do_not_fit_fail_their_rows_with_the_databases_words(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    prepare(application)
    make_items(application)
    misfits = MISFITS[dialect(application)]
    good = {case: fitting(application, misfit.type)[0] for case, misfit in misfits.items()}
    for case, misfit in misfits.items():
        application.execute(f"ALTER TABLE items ADD COLUMN {quote(application, case)} {misfit.type}")

    def answer_wrongly(batch: Batch) -> list[tuple[Any, ...]]:
        return [
            tuple(
                misfit.answer if row[0] == place else good[case]
                for place, (case, misfit) in enumerate(misfits.items(), 1)
            )
            for row in batch.rows
        ]

    outputs = {case: misfit.type for case, misfit in misfits.items()}
    config = configuration(database_url, model=model_of("worker"), outputs=outputs)
    with opened(config, answer_wrongly) as engine:
        applied(engine)
        add_items(application, len(misfits) + 20)
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (20, len(misfits)), summary.fault
    for (case, misfit), message in zip(misfits.items(), messages(application), strict=True):
        assert any(words in message for words in misfit.words), f"{case}: {message}"
    kept = " OR ".join(f"{quote(application, case)} IS NOT NULL" for case in misfits)
    assert application.execute(f"SELECT count(*) FROM items WHERE {kept}").fetchone() == (20,)


def fitting(connection: Session, sql_type: str) -> tuple[Any, str]:
    """An answer that fits the type, and the same as SQL."""
    samples = SAMPLES[dialect(connection)].values()
    found = [(sample.answer, sample.literal) for sample in samples if sample.type == sql_type]
    others = {
        "varchar(5)": ("ok", "'ok'"),
        "int unsigned": (1, "1"),
        "json": ([1], "'[1]'"),
        "decimal(10,2)": (Decimal("1.5"), "1.5"),
        "enum('sad', 'happy')": ("sad", "'sad'"),
    }
    return others[sql_type] if sql_type in others else found[0]


@pytest.mark.parametrize("mode", ["update", "select"])
@each("case", {"postgresql": ["too long", "small", "too wide"], "mysql": list(MISFITS["mysql"])})
def test_an_answer_of_a_function_that_does_not_fit_fails_its_row(
    database_url: str, connect: Connect, case: str, mode: str
) -> None:
    """Five of six rows are scored; the sixth fails with a message, and nothing else is written to it."""
    application = connect()
    make_items(application)
    misfit = MISFITS[dialect(application)][case]
    wide = {"too long": "text", "small": "int", "too wide": "numeric"}
    answer = f"CASE WHEN a = 3 THEN {misfit.literal} ELSE {fitting(application, misfit.type)[1]} END"
    add_function(application, "predict", ARGUMENTS, answer, returns=misfit.returns or wide[case])
    config = configuration(database_url, model=model_of(mode), outputs={"p": misfit.type})
    with opened(config) as engine:
        applied(engine)
        add_items(application, 6)
        drain(engine)
    assert states(application) == {SCORED: 5, FAILED: 1}
    assert application.execute("SELECT p, churn_scored_at FROM items WHERE a = 3").fetchone() == (None, None)
    (message,) = messages(application)
    assert any(words in message for words in misfit.words), message


@pytest.mark.parametrize("way", WAYS)
def test_a_column_that_was_there_keeps_its_values_until_they_are_replaced(
    database_url: str, connect: Connect, way: str
) -> None:
    application = connect()
    make_items(application, 3)
    application.execute("ALTER TABLE items ADD COLUMN p numeric(6,1)")
    application.execute("UPDATE items SET p = 99.9")

    def add(batch: Batch) -> list[tuple[float]]:
        return [(row[0] + row[1] + 0.25,) for row in batch.rows]

    config = configuration(database_url, model=model_of(way))
    with opened(config, double_of(way, add)) as engine:
        applied(engine)
        application.execute("UPDATE items SET a = 5 WHERE id = 2")
        assert application.execute("SELECT p FROM items ORDER BY id").fetchall() == [(Decimal("99.9"),)] * 3
        assert drain(engine).scored == 1
    values = application.execute("SELECT p FROM items ORDER BY id").fetchall()
    new = Decimal("15.3") if way == "worker" else Decimal("15.0")
    assert values == [(Decimal("99.9"),), (new,), (Decimal("99.9"),)]
    view = "SELECT p, prediction_state FROM items_scored ORDER BY id"
    assert application.execute(view).fetchall() == [
        (Decimal("99.9"), "existing"), (new, "scored"), (Decimal("99.9"), "existing"),
    ]  # fmt: skip


def test_answers_are_matched_by_place_and_null_is_an_answer(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application)

    def records(batch: Batch) -> list[tuple[Any, ...]]:
        return [
            (None if row[0] == 1 else row[0], None if row[0] < 3 else f"l{row[0]:g}") for row in batch.rows
        ]

    outputs = {"p": "double precision", "label": "varchar(9)"}
    with opened(configuration(database_url, model=model_of("worker"), outputs=outputs), records) as engine:
        applied(engine)
        add_items(application, 4)
        assert drain(engine).scored == 4
        assert drain(engine).scored == 0
    rows = application.execute("SELECT p, label FROM items ORDER BY id").fetchall()
    assert rows == [(None, None), (2.0, None), (3.0, "l3"), (4.0, "l4")]
    assert states(application) == {SCORED: 4}
