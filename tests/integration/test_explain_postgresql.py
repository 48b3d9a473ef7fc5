"""What `explain` reads in PostgreSQL's plans alone: composites, partitions, other joins, Aurora's services."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.integration.test_explain import explained
from tests.support.predictions import add_items, applied, configuration, make_items, opened
from worker.plans import analyse


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
