"""The real statements' plans on a real PostgreSQL: by index whatever the statistics; nothing is run."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.predictions import add_items, applied, calls, configuration, make_items, opened, states
from worker.engine import Engine
from worker.errors import NotAppliedError
from worker.explain import Explanation, explain
from worker.plans import analyse

ROWS = 20_000
MODELS = {
    "worker": ({"python": "math:fsum"}, ["probe_window", "read_rows", "write_rows"]),
    "update": ({"sql": "predict"}, ["probe_window", "claim_rows", "score_rows_in_place", "score_rows"]),
    "composite": ({"sql": "predict_both"}, ["probe_window", "score_rows"]),
    "select": ({"sql": "predict", "mode": "select"}, ["probe_window", "answer_rows", "write_rows"]),
}


@pytest.fixture
def owner(connect: Connect) -> psycopg.Connection[Any]:
    connection = connect()
    make_items(connection)
    connection.execute(
        """CREATE FUNCTION predict_both(a float8, b int, OUT p float8, OUT q float8) LANGUAGE sql AS
           $$ SELECT predict(a, b), 0.5 $$"""
    )
    return connection


def explained(engine: Engine) -> Explanation:
    prediction = engine.prediction()
    return explain(engine.database(prediction), engine.materialisation(prediction))


@pytest.mark.parametrize("analysed", [True, False], ids=["analysed", "stale statistics"])
@pytest.mark.parametrize("kind", MODELS)
def test_no_statement_reads_the_whole_table(
    database_url: str, owner: psycopg.Connection[Any], kind: str, analysed: bool
) -> None:
    model, names = MODELS[kind]
    with opened(configuration(database_url, model=model)) as engine:
        applied(engine)
        if not analysed:
            owner.execute("ANALYZE items")  # while it is empty: the planner believes in one row
        add_items(owner, ROWS)
        if analysed:
            owner.execute("ANALYZE items")
        found = explained(engine)
    assert [statement.name for statement in found.statements] == names
    assert found.by_index, found.statements
    assert found.waiting == found.rows == 1000
    for statement in found.statements:
        assert statement.facts.index_names
        assert "no sequential scan or hash join over public.items" in statement.verdict(found.table)


@pytest.mark.parametrize("kind", ["update", "select"])
def test_explaining_calls_no_model_and_changes_nothing(
    database_url: str, owner: psycopg.Connection[Any], kind: str
) -> None:
    with opened(configuration(database_url, model=MODELS[kind][0])) as engine:
        applied(engine)
        add_items(owner, 100)
        before = states(owner)
        explained(engine)
    assert calls(owner) == 0
    assert states(owner) == before


def test_rows_that_the_application_holds_do_not_stop_it(
    database_url: str, owner: psycopg.Connection[Any], connect: Connect
) -> None:
    with opened(configuration(database_url)) as engine:
        applied(engine)
        add_items(owner, 10)
        with connect(autocommit=False) as held:
            held.execute("SELECT * FROM items FOR UPDATE")
            assert explained(engine).waiting == 10


def test_where_nothing_waits_it_plans_for_rows_that_are_there(
    database_url: str, owner: psycopg.Connection[Any]
) -> None:
    add_items(owner, 50)
    with opened(configuration(database_url)) as engine:
        applied(engine)
        found = explained(engine)
    assert (found.waiting, found.rows) == (0, 50)
    assert found.by_index


@pytest.mark.usefixtures("owner")
def test_an_empty_table_has_nothing_to_plan(database_url: str) -> None:
    with opened(configuration(database_url)) as engine:
        applied(engine)
        found = explained(engine)
    assert (found.rows, found.statements, found.by_index) == (0, (), True)


@pytest.mark.usefixtures("owner")
def test_before_apply_there_is_nothing_to_explain(database_url: str) -> None:
    with (
        opened(configuration(database_url)) as engine,
        pytest.raises(NotAppliedError, match="rowscore apply churn"),
    ):
        explained(engine)


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


def test_a_worker_side_model_tells_rows_calls_and_bytes(
    database_url: str, owner: psycopg.Connection[Any]
) -> None:
    model = {"http": "http://127.0.0.1:1/invocations", "max_bytes": 5000}
    with opened(configuration(database_url, model=model, max_rows_per_batch=250)) as engine:
        applied(engine)
        assert explained(engine).batching.reason == (
            "up to 250 rows a call, 4 at once, for 1,000 rows a batch, at most 5,000 bytes a request"
        )
        owner.execute("UPDATE rowscore.learned SET rows_per_claim = 100, rows_per_call = 50")
        assert explained(engine).batching.reason == (
            "up to 50 rows a call, 2 at once, for 100 rows a batch, at most 5,000 bytes a request (learned)"
        )
