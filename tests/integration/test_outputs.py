"""Answers of every type land in their columns exactly, by each of the three ways that an answer takes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.predictions import add_items, applied, calls, configuration, drain, make_items, opened
from tests.support.predictions import states as states_of
from worker.models.protocol import Batch
from worker.states import RowState

SCORED, FAILED = RowState.SCORED.value, RowState.FAILED.value
WAYS = ["update", "select", "worker"]
ODD_TEXT = "a,b \"q\" 'x' \\ {NULL} %s :n\n\té €"
MOMENT = datetime(2024, 2, 29, 23, 59, 59, 999999)
IDENTITY = UUID("12345678-1234-5678-1234-567812345678")


@dataclass(frozen=True)
class Sample:
    """One type: what a Python model answers, and the same value as a literal for a function and for the check."""

    type: str
    answer: Any
    literal: str


def text(literal: str) -> str:
    """A text literal."""
    return "'" + literal.replace("'", "''") + "'"


SAMPLES = {
    "smallint": Sample("smallint", -32768, "-32768"),
    "int": Sample("integer", 2147483647, "2147483647"),
    "bigint": Sample("bigint", -(2**63), "-9223372036854775808"),
    "real": Sample("real", 0.1, "0.1::real"),
    "double": Sample("double precision", 5e-324, "5e-324::float8"),
    "third": Sample("double precision", 1 / 3, "1::float8 / 3"),
    "numeric": Sample("numeric(10,2)", Decimal("12345678.905"), "12345678.905"),
    "wide_numeric": Sample(
        "numeric", Decimal("123456789012345678901234567890.12345"), "123456789012345678901234567890.12345"
    ),
    "yes": Sample("boolean", True, "true"),
    "text": Sample("text", ODD_TEXT, text(ODD_TEXT)),
    "empty": Sample("text", "", "''"),
    "varchar": Sample("varchar(5)", "héllo", "'héllo'"),
    "char": Sample("char(3)", "ab", "'ab'"),
    "bytes": Sample("bytea", "\\x00ff5c", r"'\x00ff5c'::bytea"),
    "raw_bytes": Sample("bytea", b"\x00\xff\\", r"'\x00ff5c'::bytea"),
    "no_bytes": Sample("bytea", b"", "''::bytea"),
    "list_of_bytes": Sample("bytea[]", [b"\x00\xff\\", None], r"ARRAY['\x00ff5c'::bytea, NULL]"),
    "date": Sample("date", date(2024, 2, 29), "'2024-02-29'::date"),
    "timestamp": Sample("timestamp", MOMENT, f"'{MOMENT}'::timestamp"),
    "timestamptz": Sample("timestamptz", MOMENT.replace(tzinfo=UTC), f"'{MOMENT}+00'::timestamptz"),
    "endless": Sample("timestamptz", "infinity", "'infinity'::timestamptz"),
    "time": Sample("time", time(23, 59, 59, 1), "'23:59:59.000001'::time"),
    "interval": Sample("interval", timedelta(days=-3, seconds=1), "'-3 days 1 s'::interval"),
    "months": Sample("interval", "1 year 2 mons -3 days", "'1 year 2 mons -3 days'::interval"),
    "uuid": Sample("uuid", IDENTITY, f"'{IDENTITY}'::uuid"),
    "json": Sample("json", {"a": [1, None, "é"]}, """'{"a": [1, null, "\\u00e9"]}'::json"""),
    "jsonb": Sample("jsonb", {"b": 1.5, "t": ODD_TEXT}, f"jsonb_build_object('b', 1.5, 't', {text(ODD_TEXT)})"),
    "inet": Sample("inet", "10.1.0.0/16", "'10.1.0.0/16'::inet"),
    "enum": Sample("mood", "so so", "'so so'::mood"),
    "domain": Sample("score", 0.25, "0.25::float8"),
    "bits": Sample("bit(3)", "101", "B'101'"),
    "range": Sample("int4range", "[1,5)", "int4range(1, 5)"),
    "floats": Sample("double precision[]", [0.1, None, -1e300], "ARRAY[0.1, NULL, -1e300]::float8[]"),
    "matrix": Sample(
        "double precision[]", [[0.1, None], [-1e300, 2.0]], "ARRAY[[0.1, NULL], [-1e300, 2.0]]::float8[]"
    ),
    "labels": Sample(
        "text[]", [[ODD_TEXT, None], ["NULL", ""]], f"ARRAY[[{text(ODD_TEXT)}, NULL], ['NULL', '']]"
    ),
    "no_floats": Sample("double precision[]", [], "'{}'::float8[]"),
    "truths": Sample("boolean[]", [True, None, False], "ARRAY[true, NULL, false]"),
    "texts": Sample(
        "text[]", [ODD_TEXT, None, "", "NULL", '"', "\\", "{}"],
        f"""ARRAY[{text(ODD_TEXT)}, NULL, '', 'NULL', '"', E'\\\\', '{{}}']""",
    ),
    "vector": Sample("vector(3)", [0.1, -2.5, 3e10], "'[0.1,-2.5,3e10]'::vector(3)"),
    "nothing": Sample("double precision", None, "NULL::float8"),
    "no_text": Sample("text", None, "NULL::text"),
    "no_json": Sample("jsonb", None, "NULL::jsonb"),
    "no_array": Sample("text[]", None, "NULL::text[]"),
}  # fmt: skip
PREPARATION = """
CREATE EXTENSION vector;
CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy');
CREATE DOMAIN score AS double precision CHECK (value BETWEEN 0 AND 1);
"""
COLUMNS = ", ".join(f'"{name}" {sample.type}' for name, sample in SAMPLES.items())


def answer_all(batch: Batch) -> list[tuple[Any, ...]]:
    return [tuple(sample.answer for sample in SAMPLES.values()) for _ in batch.rows]


def make_function(connection: psycopg.Connection[Any], form: str) -> None:
    """predict(a, b) that answers with every sample at once: a composite type, OUT parameters or a table's row."""
    values = ", ".join(sample.literal for sample in SAMPLES.values())
    if form == "composite":
        connection.execute(f"CREATE TYPE answers AS ({COLUMNS})")
        result, signature = "answers", "a float8, b int"
    else:
        outs = ", ".join(f'OUT "{name}" {sample.type}' for name, sample in SAMPLES.items())
        result, signature = "record", f"a float8, b int, {outs}"
    connection.execute("DROP FUNCTION predict(float8, int)")
    connection.execute(
        f"""CREATE FUNCTION predict({signature}) RETURNS {result} LANGUAGE sql VOLATILE AS
        $f$ SELECT {values} FROM nextval('calls') $f$"""
    )


def model(way: str) -> dict[str, str]:
    """The model section for one of the three ways."""
    return {"python": "tests:none"} if way == "worker" else {"sql": "predict", "mode": way}


@pytest.mark.parametrize("there", ["new columns", "columns that were there"])
@pytest.mark.parametrize(
    ("way", "form"),
    [("worker", "composite"), ("update", "composite"), ("update", "out"), ("select", "composite"), ("select", "out")],
)  # fmt: skip
def test_every_type_is_written_exactly(
    database_url: str, connect: Connect, way: str, form: str, there: str
) -> None:
    application = connect()
    application.execute(PREPARATION)
    make_items(application, 2)
    make_function(application, form)
    added = {name: sample for name, sample in SAMPLES.items() if name == "domain"}  # apply refuses to add it
    if there != "new columns":
        added = SAMPLES
    for name, sample in added.items():
        application.execute(f'ALTER TABLE items ADD COLUMN "{name}" {sample.type}')
    outputs = {name: sample.type for name, sample in SAMPLES.items()}
    config = configuration(database_url, model=model(way), outputs=outputs)
    with opened(config, answer_all if way == "worker" else None) as engine:
        applied(engine)
        add_items(application, 3)
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (3, 0), messages(application)
        if way != "worker":
            assert calls(application) == 3, "all outputs of a row from one call"
    different = []
    for name, sample in SAMPLES.items():
        query = (
            f'SELECT DISTINCT "{name}"::text, CAST(({sample.literal}) AS {sample.type})::text, '
            f"format_type(t.atttypid, t.atttypmod) FROM items, pg_attribute t "
            f"WHERE churn_state = {SCORED} AND t.attrelid = 'items'::regclass AND t.attname = '{name}'"
        )
        found = application.execute(query).fetchall()
        if len(found) != 1 or not same(name, found[0][0], found[0][1]):
            different.append((name, found))
    assert not different


def same(name: str, found: str | None, expected: str | None) -> bool:
    """Equal texts; json keeps the text that it was sent, so its blanks and escapes may differ."""
    if name == "json" and found is not None and expected is not None:
        return '"a"' in found and eval(found, {"null": None}) == eval(expected, {"null": None})
    return found == expected


def messages(connection: psycopg.Connection[Any]) -> list[str]:
    """What quarantine says."""
    return [row[0] for row in connection.execute("SELECT DISTINCT message FROM rowscore.failure").fetchall()]


# The type, a Python model's answer, a function's, and what one of the messages says: rowscore's or the database's.
REJECTED: dict[str, tuple[str, Any, str, tuple[str, ...]]] = {
    "too long": ("varchar(5)", "toolong", "'toolong'", ("value too long for type character varying(5)",)),
    "too long for char": ("char(3)", "four", "'four'", ("value too long for type character(3)",)),
    "small": ("smallint", 40000, "40000", ("smallint out of range", "from -32768 to 32767")),
    "too wide": ("numeric(10,2)", Decimal(10**8), "1e8", ("numeric field overflow",)),
    "no label": ("mood", "furious", "'furious'::text", ("invalid input value for enum mood",)),
    "domain": ("score", 1.5, "1.5", ("violates check constraint",)),
    "bits": ("bit(3)", "1", "B'1'", ("does not match type bit(3)",)),
    "dimensions": ("vector(3)", [1.0], "'[1]'", ("expected 3 ",)),
    "no date": ("date", "2023-02-29", "'2023-02-29'::text", ("out of range",)),
    "nul": ("text", "a\x00b", "chr(0)", ("0x00", "null character not permitted")),
    "nul in json": ("jsonb", {"a": "\x00"}, """'{"a": "\\u0000"}'::text""", ("unsupported Unicode",)),
    "half a pair": ("jsonb", {"a": "\ud800"}, """'{"a": "\\ud800"}'::text""", ("invalid input syntax",)),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_does_not_fit_fails_its_row_with_the_databases_words(
    database_url: str, connect: Connect, way: str
) -> None:
    application = connect()
    application.execute(PREPARATION)
    make_items(application)
    good = {case: fitting(sql_type) for case, (sql_type, *_) in REJECTED.items()}
    for case, (sql_type, *_) in REJECTED.items():
        application.execute(f'ALTER TABLE items ADD COLUMN "{case}" {sql_type}')
    if way != "worker":
        make_rejected(application, good)

    def answer_wrongly(batch: Batch) -> list[tuple[Any, ...]]:
        return [
            tuple(
                answer if row[0] == place else good[case].answer
                for place, (case, (_, answer, *_)) in enumerate(REJECTED.items(), 1)
            )
            for row in batch.rows
        ]

    outputs = {case: sql_type for case, (sql_type, *_) in REJECTED.items()}
    config = configuration(database_url, model=model(way), outputs=outputs)
    with opened(config, answer_wrongly if way == "worker" else None) as engine:
        applied(engine)
        add_items(application, len(REJECTED) + 20)
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (20, len(REJECTED)), summary.fault
    found = application.execute(
        "SELECT row_key ->> 0, message FROM rowscore.failure ORDER BY (row_key ->> 0)::int"
    ).fetchall()
    for (case, (*_, patterns)), (_, message) in zip(REJECTED.items(), found, strict=True):
        assert any(pattern in message for pattern in patterns), f"{case}: {message}"
    kept = " OR ".join(f'"{case}" IS NOT NULL' for case in REJECTED)
    assert application.execute(f"SELECT count(*) FROM items WHERE {kept}").fetchone() == (20,)


def fitting(sql_type: str) -> Sample:
    """A sample of that type."""
    return next(sample for sample in SAMPLES.values() if sample.type == sql_type)


def make_rejected(connection: psycopg.Connection[Any], good: dict[str, Sample]) -> None:
    """predict(a, b) whose answer number a does not fit; its fields are wide enough to hold what does not."""
    wide = {"varchar(5)": "text", "char(3)": "text", "smallint": "int", "numeric(10,2)": "numeric"}
    wide |= {"bit(3)": "varbit", "vector(3)": "vector", "score": "float8"}
    outs = ", ".join(
        f'OUT "{case}" {wide.get(sql_type, sql_type)}' for case, (sql_type, *_) in REJECTED.items()
    )
    body = " ".join(
        f'IF a = {place} THEN "{case}" := {literal}; ELSE "{case}" := {good[case].literal}; END IF;'
        for place, (case, (_, _, literal, _)) in enumerate(REJECTED.items(), 1)
    )
    connection.execute("DROP FUNCTION predict(float8, int)")
    connection.execute(
        f"CREATE FUNCTION predict(a float8, b int, {outs}) LANGUAGE plpgsql AS $f$ BEGIN {body} END $f$"
    )


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

    config = configuration(database_url, model=model(way))
    with opened(config, add if way == "worker" else None) as engine:
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

    config = configuration(database_url, model=model(way), outputs={"p": "double precision", "label": "text"})
    with opened(config, records if way == "worker" else None) as engine:
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

    config = configuration(database_url, model=model(way), outputs={"p": "double precision", "label": "text"})
    with opened(config, nulls if way == "worker" else None) as engine:
        applied(engine)
        add_items(application, 2)
        assert drain(engine).scored == 2
        assert drain(engine).scored == 0
    assert application.execute("SELECT p, label FROM items ORDER BY id").fetchall() == [
        (None, None),
        (2.0, None),
    ]
    assert states_of(application) == {SCORED: 2}
