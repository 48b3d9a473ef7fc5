"""Inputs: defaults, expressions, and values of every type, which reach the model and are noticed when they change."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.databases import Session, dialect, each, is_postgresql, quote
from tests.support.predictions import (
    WAYS,
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
from tests.support.versions import needs, reaches
from worker.models.protocol import Batch
from worker.states import RowState

CONFORMANCE = True


@pytest.mark.parametrize("way", WAYS)
def test_defaults_and_expressions(database_url: str, connect: Connect, way: str) -> None:
    application = connect()
    make_items(application)
    application.execute("ALTER TABLE items ADD flag boolean")
    flag = "flag::int" if is_postgresql(application) else "flag"
    arguments = "x double precision, y int, words varchar(99), flag boolean, share int"
    answer = f"x + y + length(words) + {flag} * 1000 + share"
    add_function(application, "predict", arguments, answer)
    inputs = [
        {"column": "a", "default": -1.5},
        {"column": "b", "default": 3},
        {"column": "note", "default": "it's 100% :odd"},
        {"column": "flag", "default": True},
        {"name": "share", "sql": "CASE WHEN note LIKE '%:x' THEN 1 ELSE coalesce(b, 0) % 7 END"},
    ]

    def weigh(batch: Batch) -> list[tuple[float]]:
        return [(a + b + len(note) + flag * 1000 + share,) for a, b, note, flag, share in batch.rows]

    config = configuration(database_url, model=model_of(way), inputs=inputs)
    with opened(config, double_of(way, weigh)) as engine:
        applied(engine)
        application.execute("INSERT INTO items (a) VALUES (NULL)")
        application.execute("INSERT INTO items (a, b, note, flag) VALUES (1, 15, '%:x', false)")
        assert drain(engine).scored == 2
    found = application.execute("SELECT p FROM items ORDER BY id").fetchall()
    assert found == [(-1.5 + 3 + 14 + 1000 + 0,), (1 + 15 + 3 + 1,)]


# A column's type, values as literals, and the values that a Python model is given for them; None: any, and no error.
INPUTS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "postgresql": {
        "json": ("json", {"'{\"a\": [1, null]}'": {"a": [1, None]}, "'null'": None, "'3'": 3}),
        "jsonb": ("jsonb", {"'[{\"é\": 1.5}]'": [{"é": 1.5}], "'\"t\"'": "t"}),
        "floats": (
            "float8[]", {"'{1,NULL,-2.5}'": [1.0, None, -2.5], "'{}'": [], "'{{1,2},{3,4}}'": [[1, 2], [3, 4]]},
        ),
        "texts": ("text[]", {"ARRAY['a\"b', NULL, '{,}']": ['a"b', None, "{,}"]}),
        "enum": ("mood", {"'so so'": "so so"}),
        "enums": ("mood[]", {"'{sad,\"so so\"}'": '{sad,"so so"}'}),
        "domain": ("positive", {"7": 7}),
        "range": ("int4range", {"'[1,5)'": "[1,5)"}),
        "timestamptz": ("timestamptz", {"'infinity'": "infinity", "'-infinity'": "-infinity"}),
        "bc": ("timestamp", {"'0044-03-15 BC'": "0044-03-15T00:00:00.000000 BC"}),
        "dates": ("date", {"'infinity'": "infinity", "'12024-01-01'": "12024-01-01"}),
        "date arrays": ("date[]", {"'{infinity,2024-01-01}'": None}),
        "interval": ("interval", {"'infinity'": "infinity", "'-infinity'": "-infinity"}),
        "long interval": ("interval", {"'178000000 years'": None}),
        "intervals": ("interval[]", {"'{infinity,1 day}'": None}),
        "midnight": ("time", {"'24:00'": "24:00:00"}),
        "midnights": ("time[]", {"'{24:00,01:00}'": None}),
        "zoned": ("timetz", {"'24:00+02'": "24:00:00+02"}),
        "numeric": ("numeric", {"'NaN'": None, "'Infinity'": None}),
        "money": ("money", {"12.5": "$12.50"}),
        "bytes": ("bytea", {r"'\x00ff'": b"\x00\xff"}),
        "point": ("point", {"'(1,2)'": "(1,2)"}),
        "inet": ("inet", {"'10.0.0.0/8'": None, "'::1'": None}),
        "vector": ("vector(2)", {"'[1,2.5]'": "[1,2.5]"}),
        "tsvector": ("tsvector", {"'b a'": "'a' 'b'"}),
        "composite": ("pair", {"ROW(1, 'x,y')": '(1,"x,y")'}),
        "bits": ("bit(3)", {"B'101'": "101"}),
        "name": ("name", {"'n'": "n"}),
        "oid": ("oid", {"4000000000": None}),
        "internal": ('"char"', {"'x'": "x"}),
    },
    "mysql": {
        "tiny": ("tinyint", {"-128": -128, "127": 127}),
        "yes": ("boolean", {"true": 1}),
        "huge": ("bigint unsigned", {"18446744073709551615": 2**64 - 1}),
        "decimal": ("decimal(30,10)", {"12345678901234567890.5": Decimal("12345678901234567890.5")}),
        "float": ("float", {"0.5": 0.5}),
        "double": ("double", {"1e0 / 3": 1 / 3, "-1e300": -1e300}),
        "year": ("year", {"2024": 2024}),
        "date": ("date", {"'2024-02-29'": date(2024, 2, 29)}),
        "datetime": ("datetime(6)", {"'2024-02-29 23:59:59.999999'": datetime(2024, 2, 29, 23, 59, 59, 999999)}),
        "timestamp": ("timestamp(3) NULL", {"'2024-02-29 23:59:59.999'": datetime(2024, 2, 29, 23, 59, 59, 999000)}),
        "time": ("time(6)", {"'-100:00:00.5'": -timedelta(hours=100, microseconds=500000)}),
        "json": ("json", {"'{\"a\": [1, null]}'": {"a": [1, None]}, "'[1.5]'": [1.5], "'3'": 3}),
        "text": ("mediumtext CHARACTER SET utf8mb4", {"'é 😀 %s :x'": "é 😀 %s :x", "''": ""}),
        "latin1": ("varchar(9) CHARACTER SET latin1", {"'é'": "é"}),
        "char": ("char(5)", {"'ab'": "ab"}),
        "enum": ("enum('sad','so so')", {"'so so'": "so so"}),
        "set": ("set('a','b')", {"'a,b'": "a,b"}),
        "bytes": ("varbinary(9)", {"x'00ff'": b"\x00\xff"}),
        "blob": ("blob", {"x'00ff5c27'": b"\x00\xff\x5c\x27"}),
        "bits": ("bit(9)", {"b'101'": None}),
        "point": ("point", {"ST_GeomFromText('POINT(1 2)')": None}),
    },
}  # fmt: skip
ENDLESS = {"interval", "intervals"}  # with values that came with PostgreSQL 17


def prepare(connection: Session) -> None:
    """The table, and PostgreSQL's types."""
    make_items(connection)
    if is_postgresql(connection):
        connection.execute(
            """CREATE EXTENSION vector; CREATE TYPE mood AS ENUM ('sad', 'so so');
            CREATE DOMAIN positive AS int CHECK (value > 0); CREATE TYPE pair AS (n int, t text)"""
        )


def test_inputs_of_every_type_reach_a_python_model_and_the_guard_holds(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    prepare(application)
    expected: dict[tuple[int, int], Any] = {}
    rows: list[tuple[str, str]] = []
    inputs = dict(INPUTS[dialect(application)])
    if is_postgresql(application) and not reaches(application, 17):
        inputs = {name: case for name, case in inputs.items() if name not in ENDLESS}
    for place, (name, (sql_type, values)) in enumerate(inputs.items()):
        application.execute(f"ALTER TABLE items ADD COLUMN {quote(application, name)} {sql_type}")
        for literal, value in values.items():
            expected[place, len(rows)] = value
            rows.append((name, literal))
    seen: dict[int, tuple[Any, ...]] = {}

    def note_rows(batch: Batch) -> list[tuple[float]]:
        for row in batch.rows:
            seen[int(row[-1])] = row
        return [(float(row[-1]),) for row in batch.rows]

    config = configuration(database_url, model=model_of("worker"), inputs=[*inputs, "b"])
    with opened(config, note_rows) as engine:
        applied(engine)
        for number, (name, literal) in enumerate(rows):
            application.execute(
                f"INSERT INTO items (b, {quote(application, name)}) VALUES ({number}, {literal})"
            )
        summary = drain(engine)
        assert (summary.scored, summary.failed) == (len(rows), 0)
        wrong_values = {
            rows[number]: seen[number][place]
            for (place, number), value in expected.items()
            if value is not None and seen[number][place] != value
        }
        assert not wrong_values
        for name in inputs:
            column = quote(application, name)
            application.execute(
                f"UPDATE items SET {column} = NULL WHERE {column} IS NOT NULL AND churn_state = 1"
            )
        assert states(application) == {RowState.PENDING.value: len(rows)}, "every change was noticed"


ALONE = {
    "postgresql": ["interval", "midnight", "json", "bc"],
    "mysql": ["time", "bits", "json", "point", "bytes"],
}


@each("case", ALONE)
def test_inputs_alone_where_the_driver_has_no_plain_value_for_them(
    database_url: str, connect: Connect, case: str
) -> None:
    application = connect()
    if case in ENDLESS:
        needs(application, 17, "an infinite interval")
    prepare(application)
    sql_type, values = INPUTS[dialect(application)][case]
    application.execute(f"ALTER TABLE items ADD COLUMN x {sql_type}")
    config = configuration(database_url, model=model_of("worker"), inputs=["x"])
    with opened(config, lambda batch: [(1.0,)] * len(batch)) as engine:
        applied(engine)
        for literal in values:
            application.execute(f"INSERT INTO items (x) VALUES ({literal})")
        assert drain(engine).scored == len(values)


def test_boolean_columns_reach_a_model_with_words_for_them_as_booleans(
    database_url: str, connect: Connect
) -> None:
    application = connect()
    make_items(application)
    application.execute("ALTER TABLE items ADD flag boolean")
    application.execute("INSERT INTO items (a, b, flag) VALUES (1, 1, true), (2, 2, false), (3, 3, NULL)")
    if not is_postgresql(application):  # whose boolean is a number of one byte
        application.execute("INSERT INTO items (a, b, flag) VALUES (4, 4, 7)")
    seen: list[tuple[Any, ...]] = []

    def model(batch: Batch) -> list[float]:
        seen.extend(batch.rows)
        return [row[0] for row in batch.rows]

    config = configuration(
        database_url,
        inputs=["a", "flag", {"column": "flag", "default": True, "name": "sure"}],
        model={"python": "tests:none", "encoding": {"booleans": ["no", "yes"]}},
    )
    with opened(config, lambda batch: [(value,) for value in model(batch)]) as engine:
        applied(engine)
        application.execute("UPDATE items SET churn_state = 0")
        drain(engine)
    found = [(row[1], row[2]) for row in sorted(seen)]
    assert found[:3] == [(True, True), (False, False), (None, True)]
    assert [type(value) for value, _ in found[:2]] == [bool, bool]
    assert found[3:] == ([] if is_postgresql(application) else [(7, 7)])
