"""Answers as only PostgreSQL's functions give them: all outputs at once, as a composite or by OUT parameters."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.integration.test_outputs import SCORED, messages
from tests.support.predictions import (
    WAYS,
    add_items,
    applied,
    calls,
    configuration,
    double_of,
    drain,
    make_items,
    model_of,
    opened,
    states,
)
from tests.support.samples import MISFITS, POSTGRESQL, Sample, differences, prepare
from worker.models.protocol import Batch

MODES = ["update", "select"]
REFUSED = MISFITS["postgresql"]
COLUMNS = ", ".join(f'"{name}" {sample.type}' for name, sample in POSTGRESQL.items())


def make_function(connection: psycopg.Connection[Any], form: str) -> None:
    """predict(a, b) that answers with every sample at once: a composite type, OUT parameters or a table's row."""
    values = ", ".join(sample.literal for sample in POSTGRESQL.values())
    if form == "composite":
        connection.execute(f"CREATE TYPE answers AS ({COLUMNS})")
        result, signature = "answers", "a float8, b int"
    else:
        outs = ", ".join(f'OUT "{name}" {sample.type}' for name, sample in POSTGRESQL.items())
        result, signature = "record", f"a float8, b int, {outs}"
    connection.execute("DROP FUNCTION predict(float8, int)")
    connection.execute(
        f"""CREATE FUNCTION predict({signature}) RETURNS {result} LANGUAGE sql VOLATILE AS
        $f$ SELECT {values} FROM nextval('calls') $f$"""
    )


@pytest.mark.parametrize("there", ["new columns", "columns that were there"])
@pytest.mark.parametrize("form", ["composite", "out"])
@pytest.mark.parametrize("mode", MODES)
def test_every_type_is_written_exactly(
    database_url: str, connect: Connect, mode: str, form: str, there: str
) -> None:
    application = connect()
    prepare(application)
    make_items(application, 2)
    make_function(application, form)
    for name, sample in POSTGRESQL.items():
        if there != "new columns" or name == "domain":  # apply refuses to add it
            application.execute(f'ALTER TABLE items ADD COLUMN "{name}" {sample.type}')
    outputs = {name: sample.type for name, sample in POSTGRESQL.items()}
    with opened(configuration(database_url, model=model_of(mode), outputs=outputs)) as engine:
        applied(engine)
        add_items(application, 3)
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (3, 0), messages(application)
        assert calls(application) == 3, "all outputs of a row from one call"
    assert differences(application, {name: name for name in POSTGRESQL}) == []


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_that_does_not_fit_fails_its_row_with_the_databases_words(
    database_url: str, connect: Connect, mode: str
) -> None:
    application = connect()
    prepare(application)
    make_items(application)
    for case, misfit in REFUSED.items():
        application.execute(f'ALTER TABLE items ADD COLUMN "{case}" {misfit.type}')
    make_rejected(application, {case: fitting(misfit.type) for case, misfit in REFUSED.items()})
    outputs = {case: misfit.type for case, misfit in REFUSED.items()}
    with opened(configuration(database_url, model=model_of(mode), outputs=outputs)) as engine:
        applied(engine)
        add_items(application, len(REFUSED) + 20)
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (20, len(REFUSED)), summary.fault
    for (case, misfit), message in zip(REFUSED.items(), messages(application), strict=True):
        assert any(words in message for words in misfit.words), f"{case}: {message}"
    kept = " OR ".join(f'"{case}" IS NOT NULL' for case in REFUSED)
    assert application.execute(f"SELECT count(*) FROM items WHERE {kept}").fetchone() == (20,)


def fitting(sql_type: str) -> Sample:
    """A sample of that type."""
    return next(sample for sample in POSTGRESQL.values() if sample.type == sql_type)


def make_rejected(connection: psycopg.Connection[Any], good: dict[str, Sample]) -> None:
    """predict(a, b) whose answer number a does not fit; its fields are wide enough to hold what does not."""
    wide = {"varchar(5)": "text", "char(3)": "text", "smallint": "int", "numeric(10,2)": "numeric"}
    wide |= {"bit(3)": "varbit", "vector(3)": "vector", "score": "float8"}
    outs = ", ".join(f'OUT "{case}" {wide.get(misfit.type, misfit.type)}' for case, misfit in REFUSED.items())
    body = " ".join(
        f'IF a = {place} THEN "{case}" := {misfit.literal}; ELSE "{case}" := {good[case].literal}; END IF;'
        for place, (case, misfit) in enumerate(REFUSED.items(), 1)
    )
    connection.execute("DROP FUNCTION predict(float8, int)")
    connection.execute(
        f"CREATE FUNCTION predict(a float8, b int, {outs}) LANGUAGE plpgsql AS $f$ BEGIN {body} END $f$"
    )


@pytest.mark.parametrize("way", WAYS)
def test_outputs_are_matched_by_name_and_not_by_the_order_of_the_fields(
    database_url: str, connect: Connect, way: str
) -> None:
    application = connect()
    make_items(application)
    application.execute("DROP FUNCTION predict(float8, int)")
    application.execute(
        """CREATE FUNCTION predict(a float8, b int, OUT label text, OUT unused int, OUT p float8) LANGUAGE sql
        AS $$ SELECT 'l' || a, 7, a FROM nextval('calls') $$"""
    )

    def records(batch: Batch) -> list[tuple[Any, ...]]:
        return [(row[0], f"l{row[0]:g}") for row in batch.rows]

    config = configuration(
        database_url, model=model_of(way), outputs={"p": "double precision", "label": "text"}
    )
    with opened(config, double_of(way, records)) as engine:
        applied(engine)
        add_items(application, 4)
        assert drain(engine).scored == 4
    rows = application.execute("SELECT a, p, label FROM items ORDER BY id").fetchall()
    assert rows == [(float(i), float(i), f"l{i}") for i in range(1, 5)]
    if way != "worker":
        assert calls(application) == 4


@pytest.mark.parametrize("way", WAYS)
def test_a_composite_answer_that_is_null_as_a_whole_is_null_in_each_output(
    database_url: str, connect: Connect, way: str
) -> None:
    application = connect()
    make_items(application)
    application.execute("DROP FUNCTION predict(float8, int)")
    application.execute(
        """CREATE TYPE two AS (p float8, label text);
        CREATE FUNCTION predict(a float8, b int) RETURNS two LANGUAGE plpgsql AS $$ DECLARE r two; BEGIN
        PERFORM nextval('calls'); IF a = 1 THEN RETURN NULL; END IF; r.p := a; RETURN r; END $$"""
    )

    def nulls(batch: Batch) -> list[tuple[Any, ...]]:
        return [(None if row[0] == 1 else row[0], None) for row in batch.rows]

    config = configuration(
        database_url, model=model_of(way), outputs={"p": "double precision", "label": "text"}
    )
    with opened(config, double_of(way, nulls)) as engine:
        applied(engine)
        add_items(application, 2)
        assert drain(engine).scored == 2
        assert drain(engine).scored == 0
    assert application.execute("SELECT p, label FROM items ORDER BY id").fetchall() == [
        (None, None),
        (2.0, None),
    ]
    assert states(application) == {SCORED: 2}
