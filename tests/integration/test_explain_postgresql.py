"""What `explain` reads in PostgreSQL's plans alone: composites, partitions, other joins, Aurora's services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

import sql
from tests.conftest import Connect
from tests.integration.test_explain import explained
from tests.support.cli import Cli
from tests.support.predictions import add_items, applied, configuration, make_items, opened, states
from worker.errors import ConfigurationError, RowFaultError, RowscoreError
from worker.evidence import Evidence, gather
from worker.plans import analyse
from worker.states import RowState


@pytest.fixture
def owner(connect: Connect) -> psycopg.Connection[Any]:
    connection = connect()
    make_items(connection)
    connection.execute(
        """CREATE FUNCTION predict_both(a float8, b int, OUT p float8, OUT q float8) LANGUAGE sql AS
           $$ SELECT predict(a, b), 0.5 $$"""
    )
    return connection


@pytest.mark.parametrize("sql", ["predict", "predict_both"])
def test_a_composite_is_called_in_a_select_list_and_a_scalar_in_place(
    database_url: str, owner: psycopg.Connection[Any], sql: str
) -> None:
    with opened(configuration(database_url, model={"sql": sql})) as engine:
        applied(engine)
        add_items(owner, 2000)
        owner.execute("ANALYZE items")
        found = explained(engine)
    in_place = ["claim_rows", "score_rows_in_place"] if sql == "predict" else []
    names = [statement.name for statement in found.statements]
    assert names == ["probe_window", *in_place, "score_rows"]
    assert found.by_index, found.statements


def test_partitions_are_looked_at_one_by_one(database_url: str, owner: psycopg.Connection[Any]) -> None:
    owner.execute("CREATE TABLE parts (id int PRIMARY KEY, a float8, b int) PARTITION BY RANGE (id)")
    for low in (0, 1000):
        owner.execute(
            f"CREATE TABLE parts_{low} PARTITION OF parts FOR VALUES FROM ({low}) TO ({low + 1000})"
        )
    with opened(configuration(database_url, table="parts")) as engine:
        applied(engine)
        owner.execute("INSERT INTO parts SELECT i, i, 1 FROM generate_series(0, 1999) AS i")
        found = explained(engine)
    assert found.by_index, found.statements


def test_a_table_read_from_end_to_end_is_seen_in_a_real_plan(owner: psycopg.Connection[Any]) -> None:
    add_items(owner, 5000)
    owner.execute("ANALYZE items")
    statement = "EXPLAIN (ANALYZE, FORMAT JSON) SELECT * FROM items WHERE a < 10"
    (plan,) = owner.execute(statement).fetchone() or ()
    facts = analyse(plan, "items")
    assert facts.seq_scans == ("items",)
    assert facts.rows_scanned == 5000
    joined = "EXPLAIN (FORMAT JSON) SELECT count(*) FROM items x JOIN items y USING (a)"
    (plan,) = owner.execute(joined).fetchone() or ()
    assert analyse(plan, "items").hash_joins == ("items",)


@pytest.mark.parametrize(
    ("language", "body", "words"),
    [
        (
            "plpgsql",
            "BEGIN RETURN aws_sagemaker.invoke_endpoint('e', 100, a); END",
            "plpgsql functions are called once",
        ),
        (
            "sql",
            "SELECT aws_sagemaker.invoke_endpoint('e', 100, a)",
            "not Aurora: aws_sagemaker.invoke_endpoint",
        ),
        ("sql", "SELECT a", "calls no service"),
    ],
)
def test_batch_mode_is_told_truthfully(
    database_url: str, owner: psycopg.Connection[Any], language: str, body: str, words: str
) -> None:
    owner.execute("CREATE SCHEMA aws_sagemaker")
    owner.execute(
        """CREATE FUNCTION aws_sagemaker.invoke_endpoint(text, int, float8) RETURNS float8
           LANGUAGE sql AS 'SELECT $3'"""
    )
    owner.execute(f"CREATE FUNCTION score(a float8) RETURNS float8 LANGUAGE {language} AS $f$ {body} $f$")
    with opened(configuration(database_url, model={"sql": "score"}, inputs=["a"])) as engine:
        applied(engine)
        found = explained(engine).batching
    assert not found.batched
    assert words in found.reason


def test_a_body_in_standard_sql_is_read_too(database_url: str, owner: psycopg.Connection[Any]) -> None:
    owner.execute("CREATE SCHEMA aws_comprehend")
    owner.execute(
        "CREATE FUNCTION aws_comprehend.detect_sentiment(float8) RETURNS float8 LANGUAGE sql AS 'SELECT $1'"
    )
    owner.execute("CREATE FUNCTION score(a float8) RETURNS float8 RETURN aws_comprehend.detect_sentiment(a)")
    with opened(configuration(database_url, model={"sql": "score"}, inputs=["a"])) as engine:
        applied(engine)
        assert "aws_comprehend.detect_sentiment is a stand-in" in explained(engine).batching.reason


def test_a_composite_key_every_column_kind_and_a_version_are_planned(
    database_url: str, owner: psycopg.Connection[Any]
) -> None:
    owner.execute(
        """CREATE TABLE "It""ems" (region text, "Id" uuid DEFAULT gen_random_uuid(), a float8,
           PRIMARY KEY (region, "Id"))"""
    )
    shape: dict[str, Any] = {
        "table": '"It""ems"',
        "inputs": [{"name": "x", "sql": "CAST(a AS int) % 7"}],
        "outputs": {"label": "varchar(10)", "vector": "float8[]"},
        "model": {"python": "math:fsum"},
        "version": {"column": "model", "value": "v1"},
        "where": "a > 0",
    }
    with opened(configuration(database_url, **shape)) as engine:
        applied(engine)
        owner.execute(
            """INSERT INTO "It""ems" (region, a) SELECT 'r' || i % 3, i FROM generate_series(1, 3000) AS i"""
        )
        assert explained(engine).by_index


# --- a function that calls a service ------------------------------------------------------------------------

SAGEMAKER = {"sql": "churn", "aurora": {"sagemaker": "e"}}


@pytest.fixture
def services(owner: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """Stand-ins for aws_ml with an endpoint that adds its inputs up, and refuses 13."""
    owner.execute(sql.load("postgresql", "aurora")["aws_ml"].show())
    owner.execute(
        """CREATE FUNCTION aws_sagemaker.e(v text[]) RETURNS text LANGUAGE sql
           AS $$ SELECT CAST(CAST(v[1] AS float8) + CAST(v[2] AS float8) / CAST(v[1] <> '13' AS int) AS text) $$"""
    )
    return owner


CALLERS = """
CREATE VIEW plain AS SELECT churn(a, b) FROM items;
CREATE VIEW first AS SELECT churn(a, b) FROM items LIMIT 10;
CREATE MATERIALIZED VIEW searched AS SELECT CASE WHEN a > 3 THEN 0 ELSE churn(a, b) END AS p FROM items;
CREATE FUNCTION wrapped(a float8) RETURNS float8 LANGUAGE plpgsql AS $$ BEGIN RETURN churn(a, 1); END $$;
CREATE FUNCTION other(a float8) RETURNS float8 LANGUAGE plpgsql AS $$ BEGIN RETURN my_churn(a); END $$;
CREATE FUNCTION on_insert() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN NEW.p := "public".churn (NEW.a, NEW.b); RETURN NEW; END $$;
CREATE TRIGGER "Score" BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION on_insert();
CREATE TABLE more (a float8, p float8 DEFAULT churn(1, 2));
"""


def test_what_else_calls_the_function_is_found_and_judged(
    database_url: str, services: psycopg.Connection[Any]
) -> None:
    with opened(configuration(database_url, model=SAGEMAKER, live=True)) as engine:
        applied(engine)
        assert explained(engine).leaks == (), "its own live view is none"
        services.execute(CALLERS)
        found = explained(engine).leaks
    assert [leak.caller for leak in found] == [
        "column more.p",
        "materialized view searched",
        "plpgsql function wrapped(double precision)",
        'trigger "Score" of items',
        "view first",
    ]


def test_a_function_that_calls_no_service_has_no_such_callers(
    database_url: str, owner: psycopg.Connection[Any]
) -> None:
    owner.execute("CREATE VIEW first AS SELECT predict(a, b) FROM items LIMIT 10")
    with opened(configuration(database_url)) as engine:
        applied(engine)
        found = explained(engine)
    assert (found.leaks, found.plans_query, found.uncounted) == ((), "", "")


def test_the_query_of_recorded_plans_finds_those_without_batches(
    database_url: str, services: psycopg.Connection[Any]
) -> None:
    """Its table is apg_plan_mgmt's, with the columns that AWS documents."""
    with opened(configuration(database_url, model=SAGEMAKER)) as engine:
        applied(engine)
        query = explained(engine).plans_query
    services.execute("CREATE SCHEMA apg_plan_mgmt")
    services.execute(
        """CREATE TABLE apg_plan_mgmt.dba_plans (sql_hash int, plan_hash int, status text,
           environment_variables text, sql_text text, plan_outline text)"""
    )
    outlines = '{"Op": "NestLoop", "Inner": {"FuncScan": 1}}', '{"Op": "SeqScan"}'
    for number, (text, outline) in enumerate(
        [
            ("SELECT churn(a, b) FROM items", outlines[0]),
            ("SELECT churn(a, b) FROM items LIMIT 1", outlines[1]),
            ("SELECT chur_(a) FROM items", outlines[1]),
        ]
    ):
        services.execute(
            "INSERT INTO apg_plan_mgmt.dba_plans VALUES (%s, 1, 'Approved', NULL, %s, %s)",
            [number, text, outline],
        )
    cursor = services.execute(query)
    assert [column.name for column in cursor.description or ()] == [
        "sql_hash", "plan_hash", "status", "environment_variables", "sql_text", "plan_outline",
    ]  # fmt: skip
    assert [row[0] for row in cursor] == [1]


def sampled(engine: Any, rows: int) -> Evidence:
    prediction = engine.prediction()
    return gather(engine.database(prediction), engine.materialisation(prediction), rows)


@pytest.mark.parametrize("mode", ["update", "select"])
def test_a_sample_calls_the_function_and_leaves_nothing_behind(
    database_url: str, services: psycopg.Connection[Any], mode: str
) -> None:
    with opened(configuration(database_url, model={**SAGEMAKER, "mode": mode})) as engine:
        applied(engine)
        add_items(services, 9)
        found = sampled(engine, 5)
        assert found.rows == 5
        assert dict(found.calls) == {"aws_sagemaker.invoke_endpoint": 5}
        assert not found.batching.batched
        assert found.batching.reason.endswith("the server called aws_sagemaker.invoke_endpoint 5 times")
        assert any("actual time=" in line for line in found.text)
        assert states(services) == {RowState.PENDING.value: 9}
        assert services.execute("SELECT count(p) FROM items").fetchone() == (0,)
        assert services.execute("SELECT last_value FROM aws_sagemaker.calls").fetchone() == (5,)
        with pytest.raises(RowFaultError, match="division by zero"):
            sampled(engine, 9 if add_thirteen(services) else 0)


def add_thirteen(connection: psycopg.Connection[Any]) -> bool:
    connection.execute("UPDATE items SET a = 13 WHERE id = 2")
    return True


def test_a_sample_needs_rows_and_a_function(database_url: str, services: psycopg.Connection[Any]) -> None:
    with opened(configuration(database_url, model=SAGEMAKER)) as engine:
        applied(engine)
        with pytest.raises(RowscoreError, match="there is no row to sample"):
            sampled(engine, 5)
        add_items(services, 1)
    with (
        opened(configuration(database_url, model={"python": "math:fsum"})) as engine,
        pytest.raises(ConfigurationError, match="`rowscore tune churn` tries one that the worker calls"),
    ):
        sampled(engine, 5)


def test_the_command_tells_all_of_it(
    tmp_path: Path, database_url: str, services: psycopg.Connection[Any]
) -> None:
    cli = Cli(tmp_path, database_url)
    cli.configure(model=SAGEMAKER)
    cli.call("apply")
    services.execute("CREATE VIEW first AS SELECT churn(a, b) FROM items LIMIT 10")
    add_items(services, 3)
    said = cli.call("explain", "--sample", "2").out
    assert "warning  view first ends after some rows" in said
    assert "track_functions is none: the server counts no calls" in said
    assert "WHERE position('churn' IN sql_text) > 0 AND plan_outline NOT LIKE '%\"FuncScan\"%';" in said
    assert "sample: score_rows asked about 2 rows" in said
    found = cli.call("explain", "--sample", "2", "--json").document
    assert [leak["caller"] for leak in found["batch_mode"]["leaks"]] == ["view first"]
    assert found["sample"]["calls"] == {"aws_sagemaker.invoke_endpoint": 2}
