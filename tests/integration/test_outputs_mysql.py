"""Answers of MySQL's and MariaDB's types land in their columns exactly, by each of the ways that an answer takes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.databases import databases, own
from tests.support.predictions import add_items, applied, configuration, drain, make_items, opened
from tests.support.predictions import states as states_of
from worker.states import RowState

SCORED, FAILED = RowState.SCORED.value, RowState.FAILED.value
WAYS = ["update", "select", "worker"]
ODD_TEXT = "a,b \"q\" 'x' \\ {NULL} %s :n\n\té € 😀"
MOMENT = datetime(2024, 2, 29, 23, 59, 59, 999999)


@dataclass(frozen=True)
class Sample:
    """One type: what a Python model answers, and the same value as an expression for a function and for the check."""

    type: str
    answer: Any
    expression: str
    returns: str = ""  # of the function, where it is another type


def text(literal: str) -> str:
    """A text literal."""
    escaped = literal.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


SAMPLES = {
    "smallint": Sample("smallint", -32768, "-32768"),
    "int unsigned": Sample("int unsigned", 4294967295, "4294967295"),
    "bigint": Sample("bigint", -(2**63), "-9223372036854775808"),
    "bigint unsigned": Sample("bigint unsigned", 2**64 - 1, "18446744073709551615"),
    "mediumint": Sample("mediumint", 8388607, "8388607"),
    "float": Sample("float", 0.5, "0.5"),
    "double": Sample("double precision", 1 / 3, "1e0 / 3"),
    "tiny double": Sample("double", 2.5e-300, "2.5e-300"),
    "decimal": Sample("decimal(30,10)", Decimal("12345678901234567890.0123456789"), "12345678901234567890.0123456789"),
    "yes": Sample("boolean", True, "true"),
    "text": Sample("text CHARACTER SET utf8mb4", ODD_TEXT, text(ODD_TEXT)),
    "empty": Sample("text", "", "''"),
    "varchar": Sample("varchar(5) CHARACTER SET utf8mb4", "héllo", "'héllo'"),
    "latin1": Sample("varchar(5) CHARACTER SET latin1", "héllo", "'héllo'"),
    "char": Sample("char(3)", "ab", "'ab'"),
    "bytes": Sample("varbinary(10)", b"\x00\xff\\", "X'00ff5c'"),
    "blob": Sample("blob", b"\x00\xff\\", "X'00ff5c'"),
    "date": Sample("date", date(2024, 2, 29), "DATE '2024-02-29'"),
    "datetime": Sample("datetime(6)", MOMENT, f"TIMESTAMP '{MOMENT}'"),
    "timestamp": Sample("timestamp(6) NULL", MOMENT, f"TIMESTAMP '{MOMENT}'", "datetime(6)"),
    "time": Sample("time(6)", timedelta(hours=-100, microseconds=1), "TIME '-99:59:59.999999'"),
    "year": Sample("year", 2024, "2024"),
    "json": Sample("json", {"a": [1, None, "é"]}, """'{"a": [1, null, "é"]}'"""),
    "enum": Sample("enum('sad', 'so so')", "so so", "'so so'", "varchar(10)"),
    "set": Sample("set('a', 'b', 'c')", "a,c", "'a,c'", "varchar(10)"),
    "nothing": Sample("double", None, "NULL"),
    "no text": Sample("varchar(5)", None, "NULL"),
    "no json": Sample("json", None, "NULL"),
}  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Not for PostgreSQL."""
    here = [name for name in databases() if name != "postgresql"]
    if "database_url" in metafunc.fixturenames:
        metafunc.parametrize("database_url", here, indirect=True)


def model(way: str) -> dict[str, str]:
    """The model section for one of the three ways."""
    return {"python": "tests:none"} if way == "worker" else {"sql": "answer", "mode": way}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SAMPLES)
def test_every_type_is_written_exactly(database_url: str, connect: Connect, name: str, way: str) -> None:
    sample = SAMPLES[name]
    application = connect()
    make_items(application)
    plain = sample.type.partition(" CHARACTER")[0].removesuffix(" NULL")
    application.execute(
        f"CREATE FUNCTION answer(a double, b int) RETURNS {sample.returns or sample.type} DETERMINISTIC NO SQL "
        f"RETURN {sample.expression}"
    )
    application.execute(f"ALTER TABLE items ADD COLUMN p {sample.type}, ADD COLUMN expected {sample.type}")
    config = configuration(database_url, model=model(way), outputs={"p": plain})
    answers = (lambda batch: [(sample.answer,) for _ in batch.rows]) if way == "worker" else None
    with opened(config, answers) as engine:
        applied(engine)
        add_items(application, 3)
        application.execute(f"UPDATE items SET expected = {sample.expression}")
        drain(engine)
    found = application.execute(f"SELECT message FROM {own(application, 'failure')}").fetchall()
    assert states_of(application) == {SCORED: 3}, found
    same = application.execute("SELECT DISTINCT p <=> expected, p, expected FROM items").fetchall()
    assert [row[0] for row in same] == [1], same


# The type, a Python model's answer, a function's, and what the message says.
REJECTED: dict[str, tuple[str, Any, str, str, str]] = {
    "too long": ("varchar(5)", "toolong", "varchar(10)", "'toolong'", "too long"),
    "small": ("smallint", 40000, "int", "40000", ""),
    "negative": ("int unsigned", -1, "int", "-1", ""),
    "too wide": ("decimal(10,2)", Decimal(10**8), "double", "1e8", ""),
    "no label": ("enum('sad', 'happy')", "furious", "varchar(10)", "'furious'", "p"),
    "no date": ("date", "2023-02-29", "varchar(10)", "'2023-02-29'", "date"),
    "no json": ("json", float("nan"), "varchar(10)", "'{nan'", ""),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", REJECTED)
def test_an_answer_that_does_not_fit_fails_its_row(
    database_url: str, connect: Connect, case: str, way: str
) -> None:
    """Five of six rows are scored; the sixth fails with a message, and nothing else is written to it."""
    kind, answer, returns, expression, message = REJECTED[case]
    fine = {"varchar(5)": ("ok", "'ok'"), "date": ("2024-02-29", "'2024-02-29'"), "json": ([1], "'[1]'")}
    good, good_sql = fine.get(kind, ("sad", "'sad'") if kind.startswith("enum") else (1, "1"))
    application = connect()
    make_items(application)
    application.execute(
        f"CREATE FUNCTION answer(a double, b int) RETURNS {returns} DETERMINISTIC NO SQL "
        f"RETURN CASE WHEN a = 3 THEN {expression} ELSE {good_sql} END"
    )
    config = configuration(database_url, model=model(way), outputs={"p": kind})

    def answers(batch: Any) -> list[tuple[Any, ...]]:
        return [(answer if row[0] == 3 else good,) for row in batch.rows]

    with opened(config, answers if way == "worker" else None) as engine:
        applied(engine)
        add_items(application, 6)
        drain(engine)
    assert states_of(application) == {SCORED: 5, FAILED: 1}
    assert application.execute("SELECT p, churn_scored_at FROM items WHERE a = 3").fetchone() == (None, None)
    (said,) = application.execute(f"SELECT message FROM {own(application, 'failure')}").fetchone() or ("",)
    assert message in said
