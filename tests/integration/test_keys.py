"""Any usable key and any legal identifier: every row is scored once, none is skipped at a window's edge."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.databases import (
    Session,
    another_schema,
    columns_of,
    dialect,
    each,
    is_postgresql,
    quote,
    schema_of,
    series,
)
from tests.support.predictions import applied, configuration, drain, opened
from tests.support.routines import add_function
from worker.errors import ConfigurationError
from worker.states import RowState

CONFORMANCE = True
ROWS = 137

# Columns, and the values of row i.
KEYS = {
    "postgresql": {
        "bigint": ("id bigint PRIMARY KEY", "i"),
        "smallint negative": ("id smallint PRIMARY KEY", "i - 70"),
        "uuid": ("id uuid PRIMARY KEY", "gen_random_uuid()"),
        "text": ("id text PRIMARY KEY", "md5(i::text)"),
        "text C": ('id text COLLATE "C" PRIMARY KEY', "CASE WHEN i % 2 = 0 THEN 'a' ELSE 'B' END || i"),
        "text default": (
            "id text PRIMARY KEY",
            "CASE WHEN i % 3 = 0 THEN 'é' WHEN i % 3 = 1 THEN 'Z' ELSE ' ''\"\\{},' END || i",
        ),
        "varchar": ("id varchar(10) PRIMARY KEY", "'k' || i"),
        "char": ("id char(10) PRIMARY KEY", "'k' || i"),
        "timestamp": ("id timestamp PRIMARY KEY", "'2024-02-28'::timestamp + i * interval '7 hours 0.000001 s'"),
        "timestamptz": (
            "id timestamptz PRIMARY KEY",
            "CASE i WHEN 1 THEN '-infinity' WHEN 2 THEN 'infinity' WHEN 3 THEN '0044-03-15 BC' "
            "ELSE now() + i * interval '1 h' END::timestamptz",
        ),
        "date": (
            "id date PRIMARY KEY",
            "CASE i WHEN 1 THEN 'infinity' WHEN 2 THEN '12024-01-01' ELSE '2024-01-01'::date + i END::date",
        ),
        "numeric": ("id numeric PRIMARY KEY", "i / 7.0"),
        "bytea": ("id bytea PRIMARY KEY", "decode(md5(i::text), 'hex')"),
        "inet": ("id inet PRIMARY KEY", "'10.0.0.0'::inet + i"),
        "boolean composite": ("flag boolean, id int, PRIMARY KEY (flag, id)", "i % 2 = 0, i"),
        "composite": (
            "region text, at timestamptz, id uuid, PRIMARY KEY (region, at, id)",
            "'r' || i % 3, '2024-01-01'::timestamptz + i % 5 * interval '1 d', gen_random_uuid()",
        ),
        "unique not null": ("id int NOT NULL UNIQUE", "i"),
        "enum": ("id mood, n int, PRIMARY KEY (id, n)", "(ARRAY['sad','ok','happy'])[i % 3 + 1]::mood, i"),
        "domain": ("id positive PRIMARY KEY", "i"),
    },
    "mysql": {
        # Texts mix cases and accents that their collation holds for equal or orders otherwise than bytes do.
        "bigint": ("id bigint PRIMARY KEY", "i"),
        "bigint unsigned": ("id bigint unsigned PRIMARY KEY", "18446744073709551615 - i"),
        "smallint negative": ("id smallint PRIMARY KEY", "i - 70"),
        "decimal": ("id decimal(30,10) PRIMARY KEY", "i / 7 + 12345678901234567890"),
        "binary uuid": ("id binary(16) PRIMARY KEY", "UNHEX(LEFT(SHA2(i, 256), 32))"),
        "varbinary": ("id varbinary(40) PRIMARY KEY", "CONCAT(CHAR(i MOD 256), '\\0', i)"),
        "case-insensitive": (
            "id varchar(40) PRIMARY KEY", "CONCAT(ELT(i MOD 4 + 1, 'a', 'B', 'É', ' \\'\"\\\\{},'), i)",
        ),
        "accents": (
            "id varchar(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci PRIMARY KEY",
            "CONCAT(ELT(i MOD 5 + 1, 'é', 'E', 'ß', 'SS', '日本'), i)",
        ),
        "binary collation": (
            "id varchar(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY",
            "CONCAT(ELT(i MOD 2 + 1, 'a', 'A'), i DIV 2)",
        ),
        "latin1": ("id varchar(40) CHARACTER SET latin1 PRIMARY KEY", "CONCAT(ELT(i MOD 3 + 1, 'é', 'Z', 'a'), i)"),
        "pad space": (
            "word char(10) NOT NULL, n int NOT NULL, PRIMARY KEY (word, n)",
            "CONCAT('w', i MOD 3, REPEAT(' ', i MOD 4)), i",
        ),
        "date": ("id date PRIMARY KEY", "DATE '2024-01-01' + INTERVAL i DAY"),
        "datetime": ("id datetime(6) PRIMARY KEY", "TIMESTAMP '2024-02-28 00:00:00.000001' + INTERVAL i * 7 HOUR"),
        "timestamp": ("id timestamp(6) PRIMARY KEY", "TIMESTAMP '2024-10-27 00:00:00.5' + INTERVAL i * 10 MINUTE"),
        "time": ("id time(6) PRIMARY KEY", "SEC_TO_TIME((i - 70) * 3600.000001)"),
        "year": ("id year, n int, PRIMARY KEY (id, n)", "2000 + i MOD 20, i"),
        "enum": (
            "id enum('sad', 'ok', 'happy'), n int, PRIMARY KEY (id, n)", "ELT(i MOD 3 + 1, 'sad', 'ok', 'happy'), i",
        ),
        "bit": ("id bit(9) PRIMARY KEY", "i"),
        "composite": (
            "region varchar(10), at datetime(3), id binary(4), PRIMARY KEY (region, at, id)",
            "CONCAT('r', i MOD 3), TIMESTAMP '2024-01-01 00:00:00' + INTERVAL i MOD 5 DAY, "
            "UNHEX(LEFT(SHA2(i, 256), 8))",
        ),
        "unique not null": ("id int NOT NULL UNIQUE", "i"),
        "unsigned composite": ("x int unsigned, y tinyint, PRIMARY KEY (x, y)", "4294967295 - i DIV 10, i MOD 10 - 5"),
    },
}  # fmt: skip


def make_table(connection: Session, key: str) -> None:
    """The table keyed with that key and a column a, and a function that doubles it."""
    if is_postgresql(connection):
        connection.execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')")
        connection.execute("CREATE DOMAIN positive AS int CHECK (value > 0)")
    connection.execute(f"CREATE TABLE keyed ({key}, a double precision)")
    add_function(connection, "predict", "a double precision", "a * 2")


@pytest.mark.parametrize("model", [{"sql": "predict"}, {"python": "x:y"}], ids=["database", "worker"])
@each("key", KEYS)
def test_every_row_is_scored_whatever_its_key(
    database_url: str, connect: Connect, key: str, model: dict[str, str]
) -> None:
    application = connect()
    columns, values = KEYS[dialect(application)][key]
    make_table(application, columns)
    config = configuration(database_url, table="keyed", inputs=["a"], model=model, max_rows_per_claim=10)
    double = None if "sql" in model else lambda batch: [(row[0] * 2,) for row in batch.rows]
    names = ", ".join(columns_of(application, "keyed"))
    with opened(config, double) as engine:
        applied(engine)
        application.execute(
            f"INSERT INTO keyed ({names}) SELECT {values}, i FROM {series(application, 1, ROWS)}"
        )
        summary = drain(engine)
        assert (summary.scored, summary.lost) == (ROWS, 0)
        assert summary.batches == ROWS // 10 + 1
        right = "SELECT count(*) FROM keyed WHERE p = a * 2 AND churn_state = 1"
        assert application.execute(right).fetchone() == (ROWS,)


PARTIAL = "id int NOT NULL"  # with a unique index over some of its rows
NO_KEYS = [
    ("id int", "unique and NOT NULL"),
    ("id int UNIQUE", "unique and NOT NULL"),
    ("id double precision PRIMARY KEY", "double"),
]
REFUSED = {
    "postgresql": [
        *NO_KEYS,
        ("id int NOT NULL UNIQUE DEFERRABLE", "unique and NOT NULL"),
        (PARTIAL, "unique and NOT NULL"),
    ],
    "mysql": [
        *NO_KEYS,
        ("id float PRIMARY KEY", "float"),
        ("id varchar(50) NOT NULL, UNIQUE KEY (id(10))", "unique and NOT NULL"),
    ],
}


@each("columns, reason", REFUSED)
def test_a_table_without_a_usable_key_is_refused(
    database_url: str, connect: Connect, columns: str, reason: str
) -> None:
    application = connect()
    make_table(application, columns)
    if columns == PARTIAL:
        application.execute("CREATE UNIQUE INDEX ON keyed (id) WHERE a > 0")
    with (
        opened(configuration(database_url, table="keyed", inputs=["a"])) as engine,
        pytest.raises(ConfigurationError, match=reason),
    ):
        applied(engine)


def test_any_legal_identifier(database_url: str, connect: Connect) -> None:
    application = connect()
    own = schema_of(application)
    with another_schema(application, f'{own} My "odd" `Schema`') as schema:
        table, function = (f"{schema}.{quote(application, name)}" for name in ("Order", "Pre dict"))
        key, column = quote(application, "select"), quote(application, "It's 100% :a {{ b }}")
        application.execute(
            f"CREATE TABLE {table} ({key} int PRIMARY KEY, {column} double precision, c int, v int)"
        )
        add_function(application, function, "x double precision, y int, z int", "x + y + z")
        prefix = '"' + f'{own} My "odd" `Schema`'.replace('"', '""') + '"'
        shape: dict[str, Any] = {
            "table": f'{prefix}."Order"',
            "inputs": ["It's 100% :a {{ b }}", "c", {"name": "odd", "sql": "v + length('a:b %s %(x)s ::')"}],
            "outputs": {"Pre diction%": "double precision"},
            "state": "the state",
            "scored_at": "Scored At :now",
            "version": {"column": "from", "value": "v%s:1"},
            "where": "'50%' <> ':nothing'",
            "model": {"sql": f'{prefix}."Pre dict"'},
        }
        with opened(configuration(database_url, **shape)) as engine:
            applied(engine)
            rows = f"SELECT i, i, 1, 1 FROM {series(application, 1, 25)}"
            application.execute(f"INSERT INTO {table} ({key}, {column}, c, v) {rows}")
            assert drain(engine).scored == 25
            names = ", ".join(quote(application, name) for name in ("Pre diction%", "the state", "from"))
            row = application.execute(f"SELECT {names} FROM {table} WHERE {key} = 5").fetchone()
            assert row == (5 + 1 + 1 + len("a:b %s %(x)s ::"), RowState.SCORED.value, "v%s:1")
