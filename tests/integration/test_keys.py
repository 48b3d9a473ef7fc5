"""Any usable key and any legal identifier: every row is scored once, none is skipped at a window's edge."""

from __future__ import annotations

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.predictions import applied, configuration, drain, opened
from worker.errors import ConfigurationError
from worker.states import RowState

ROWS = 137

KEYS = {
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
}  # fmt: skip


def make_table(connection: psycopg.Connection, key: str) -> None:
    connection.execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')")
    connection.execute("CREATE DOMAIN positive AS int CHECK (value > 0)")
    connection.execute(f"CREATE TABLE keyed ({key}, a float8)")
    connection.execute("CREATE FUNCTION predict(a float8) RETURNS float8 LANGUAGE sql AS 'SELECT a * 2'")


@pytest.mark.parametrize("model", [{"sql": "predict"}, {"python": "x:y"}], ids=["database", "worker"])
@pytest.mark.parametrize("key", KEYS)
def test_every_row_is_scored_whatever_its_key(
    database_url: str, connect: Connect, key: str, model: dict[str, str]
) -> None:
    columns, values = KEYS[key]
    application = connect()
    make_table(application, columns)
    config = configuration(database_url, table="keyed", inputs=["a"], model=model, max_rows_per_claim=10)
    double = None if "sql" in model else lambda batch: [(row[0] * 2,) for row in batch.rows]
    with opened(config, double) as engine:
        applied(engine)
        application.execute(f"INSERT INTO keyed SELECT {values}, i FROM generate_series(1, {ROWS}) AS i")
        summary = drain(engine)
        assert (summary.scored, summary.lost) == (ROWS, 0)
        assert summary.batches == ROWS // 10 + 1
        wrong = application.execute(
            "SELECT count(*) FROM keyed WHERE p IS DISTINCT FROM a * 2 OR churn_state <> 1"
        )
        assert wrong.fetchone() == (0,)


REFUSED = {
    "no key": ("id int", "unique and NOT NULL"),
    "nullable": ("id int UNIQUE", "unique and NOT NULL"),
    "partial": ("id int NOT NULL", "unique and NOT NULL"),
    "float": ("id float8 PRIMARY KEY", "double precision"),
    "deferrable": ("id int NOT NULL UNIQUE DEFERRABLE", "unique and NOT NULL"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_without_a_usable_key_is_refused(database_url: str, connect: Connect, case: str) -> None:
    columns, reason = REFUSED[case]
    application = connect()
    make_table(application, columns)
    if case == "partial":
        application.execute("CREATE UNIQUE INDEX ON keyed (id) WHERE a > 0")
    with (
        opened(configuration(database_url, table="keyed", inputs=["a"])) as engine,
        pytest.raises(ConfigurationError, match=reason),
    ):
        applied(engine)


def test_any_legal_identifier(database_url: str, connect: Connect) -> None:
    application = connect()
    application.execute('CREATE SCHEMA "My ""odd"" Schema"')
    application.execute(
        """CREATE TABLE "My ""odd"" Schema"."Order"
        ("select" int PRIMARY KEY, "It's 100% :a {{ b }}" float8, "c" int, "v" int)"""
    )
    application.execute(
        """CREATE FUNCTION "My ""odd"" Schema"."Pre dict"(float8, int, int) RETURNS float8 LANGUAGE sql
        AS 'SELECT $1 + $2 + $3'"""
    )
    config = configuration(
        database_url,
        table='"My ""odd"" Schema"."Order"',
        inputs=["It's 100% :a {{ b }}", "c", {"name": "odd", "sql": "v + length('a:b %s %(x)s ::')"}],
        outputs={"Pre diction%": "double precision"},
        state="the state",
        scored_at="Scored At :now",
        version={"column": "from", "value": "v%s:1"},
        where="'50%' <> ':nothing'",
        model={"sql": '"My ""odd"" Schema"."Pre dict"'},
    )
    with opened(config) as engine:
        applied(engine)
        application.execute(
            'INSERT INTO "My ""odd"" Schema"."Order" SELECT i, i, 1, 1 FROM generate_series(1, 25) i'
        )
        assert drain(engine).scored == 25
        row = application.execute(
            'SELECT "Pre diction%", "the state", "from" FROM "My ""odd"" Schema"."Order" WHERE "select" = 5'
        ).fetchone()
        assert row == (5 + 1 + 1 + len("a:b %s %(x)s ::"), RowState.SCORED.value, "v%s:1")
