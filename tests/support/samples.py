"""Answers of every type: what a Python model says, and the same value as SQL; and answers that fit no column."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from tests.support.databases import Session, dialect, is_postgresql, quote

ODD_TEXT = "a,b \"q\" 'x' \\ {NULL} %s :n\n\té € 😀"
MOMENT = datetime(2024, 2, 29, 23, 59, 59, 999999)
IDENTITY = UUID("12345678-1234-5678-1234-567812345678")


@dataclass(frozen=True)
class Sample:
    """One type: what a Python model answers, and the same value as an expression for a function and for the check."""

    type: str
    answer: Any
    literal: str
    returns: str = ""  # of the function, where it is another type

    @property
    def asked(self) -> str:
        """The type as `outputs` has it: MySQL's character sets are of columns that are there already."""
        return self.type.partition(" CHARACTER")[0].removesuffix(" NULL")


@dataclass(frozen=True)
class Misfit:
    """An answer that its column refuses; one of the words is in the message, rowscore's or the database's."""

    type: str
    answer: Any
    literal: str
    words: tuple[str, ...]
    returns: str = ""


def text(literal: str) -> str:
    """A text literal of PostgreSQL's."""
    return "'" + literal.replace("'", "''") + "'"


def escaped(literal: str) -> str:
    """A text literal of MySQL's."""
    return text(literal.replace("\\", "\\\\"))


POSTGRESQL = {
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
MYSQL = {
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
    "text": Sample("text CHARACTER SET utf8mb4", ODD_TEXT, escaped(ODD_TEXT)),
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
SAMPLES = {"postgresql": POSTGRESQL, "mysql": MYSQL}

MISFITS = {
    "postgresql": {
        "too long": Misfit("varchar(5)", "toolong", "'toolong'", ("value too long for type character varying(5)",)),
        "too long for char": Misfit("char(3)", "four", "'four'", ("value too long for type character(3)",)),
        "small": Misfit("smallint", 40000, "40000", ("smallint out of range", "from -32768 to 32767")),
        "too wide": Misfit("numeric(10,2)", Decimal(10**8), "1e8", ("numeric field overflow",)),
        "no label": Misfit("mood", "furious", "'furious'::text", ("invalid input value for enum mood",)),
        "domain": Misfit("score", 1.5, "1.5", ("violates check constraint",)),
        "bits": Misfit("bit(3)", "1", "B'1'", ("does not match type bit(3)",)),
        "dimensions": Misfit("vector(3)", [1.0], "'[1]'", ("expected 3 ",)),
        "no date": Misfit("date", "2023-02-29", "'2023-02-29'::text", ("out of range",)),
        "nul": Misfit("text", "a\x00b", "chr(0)", ("0x00", "null character not permitted")),
        "nul in json": Misfit("jsonb", {"a": "\x00"}, """'{"a": "\\u0000"}'::text""", ("unsupported Unicode",)),
        "half a pair": Misfit("jsonb", {"a": "\ud800"}, """'{"a": "\\ud800"}'::text""", ("invalid input syntax",)),
    },
    "mysql": {
        "too long": Misfit("varchar(5)", "toolong", "'toolong'", ("Data too long",), "varchar(10)"),
        "small": Misfit("smallint", 40000, "40000", ("Out of range value", "from -32768 to 32767"), "int"),
        "negative": Misfit("int unsigned", -1, "-1", ("Out of range value", "from 0 to 4294967295"), "int"),
        "too wide": Misfit("decimal(10,2)", Decimal(10**8), "1e8", ("Out of range value",), "double"),
        "no label": Misfit("enum('sad', 'happy')", "furious", "'furious'", ("Data truncated",), "varchar(10)"),
        "no date": Misfit("date", "2023-02-29", "'2023-02-29'", ("Incorrect date value",), "varchar(10)"),
        "no json": Misfit("json", float("nan"), "'{nan'", ("CONSTRAINT", "Invalid JSON", "nan"), "varchar(10)"),
    },
}  # fmt: skip


def prepare(connection: Session) -> None:
    """PostgreSQL's types."""
    if is_postgresql(connection):
        connection.execute(
            """CREATE EXTENSION vector; CREATE TYPE mood AS ENUM ('sad', 'so so', 'happy');
            CREATE DOMAIN score AS double precision CHECK (value BETWEEN 0 AND 1)"""
        )


def differences(connection: Session, names: dict[str, str]) -> list[Any]:
    """What the scored rows of items have that is not exactly the sample's value.

    Args:
        connection: where.
        names: the column that each sample was written to, by the sample's name.
    """
    found = []
    samples = SAMPLES[dialect(connection)]
    for name, column in names.items():
        quoted, sample = quote(connection, column), samples[name]
        if is_postgresql(connection):
            query = (
                f"SELECT DISTINCT {quoted}::text, CAST(({sample.literal}) AS {sample.type})::text FROM items"
            )
            rows = connection.execute(f"{query} WHERE churn_state = 1").fetchall()
            same = len(rows) == 1 and _same_text(name, *rows[0])
        else:  # which has no CAST to every type
            connection.execute(f"DROP TABLE IF EXISTS expected; CREATE TABLE expected (x {sample.type})")
            connection.execute(f"INSERT INTO expected VALUES ({sample.literal})")
            query = f"SELECT DISTINCT i.{quoted} <=> e.x, i.{quoted}, e.x FROM items AS i, expected AS e"
            rows = connection.execute(f"{query} WHERE i.churn_state = 1").fetchall()
            same = [row[0] for row in rows] == [1]
        if not same:
            found.append((name, rows))
    return found


def _same_text(name: str, found: str | None, expected: str | None) -> bool:
    """Equal texts; json keeps the text that it was sent, so its blanks and escapes may differ."""
    if name == "json" and found is not None and expected is not None:
        return '"a"' in found and eval(found, {"null": None}) == eval(expected, {"null": None})
    return found == expected
