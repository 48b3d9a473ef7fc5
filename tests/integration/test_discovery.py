"""`init` on real databases: what it finds, and that what it writes can be applied and scored as it stands."""

from __future__ import annotations

import tomllib
from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.predictions import applied, drain, opened
from worker.config import Configuration, parse_configuration
from worker.database import Database
from worker.demo import churn
from worker.discovery.choices import Candidate, candidates, choose, propose
from worker.discovery.draft import to_toml
from worker.discovery.facts import read_surroundings


def listed(database: Database) -> list[Candidate]:
    with database.transaction() as transaction:
        return candidates(read_surroundings(transaction))


def configured(database: Database, url: str, table: str | None = None) -> Configuration:
    """The configuration that `init` would write, with the test's own URL."""
    chosen = choose(listed(database), table)
    assert chosen is not None
    content = tomllib.loads(to_toml(propose(chosen)))
    assert content["database"] == "$DATABASE_URL"
    return parse_configuration({**content, "database": url, "broker": "redis://127.0.0.1:1/0"})


def test_the_demos_table_is_configured_applied_and_scored(
    database_url: str, database: Database, connect: Connect
) -> None:
    with connect(autocommit=False) as connection:
        churn.create(connection)
        churn.create_trigger(connection)
    config = configured(database, database_url, "mltest.churn_inserts")
    prediction = config.prediction()
    assert [item.column for item in prediction.inputs] == list(churn.FEATURES)
    assert (prediction.name, prediction.outputs) == ("churn", {"churn_prediction": "double precision"})
    assert prediction.arrived_at == "created_at"
    with opened(config) as engine:
        applied(engine)
        connect().execute("INSERT INTO mltest.churn_inserts (state) SELECT 'CA' FROM generate_series(1, 20)")
        assert drain(engine).scored == 20


def test_the_pattern_to_come_away_from_is_recognised(database: Database, connect: Connect) -> None:
    with connect(autocommit=False) as connection:
        churn.create(connection)
        churn.create_trigger(connection)
    found = listed(database)[0]
    assert found.table.label == "mltest.churn_inserts_trigger"
    assert [trigger.name for trigger in found.triggers] == ["simulated_model_call"]
    connect().execute(found.triggers[0].removal)
    assert all(not candidate.triggers for candidate in listed(database))


def test_an_aws_wrapper_with_a_composite_answer(
    database_url: str, database: Database, connect: Connect
) -> None:
    connection = connect()
    connection.execute("CREATE SCHEMA aws_comprehend; CREATE SCHEMA desk")
    connection.execute(
        """CREATE FUNCTION aws_comprehend.detect_sentiment(input_text text, language_code text,
           OUT sentiment text, OUT confidence real) LANGUAGE sql AS $$ SELECT 'POSITIVE', 0.5::real $$"""
    )
    connection.execute("CREATE TYPE desk.mood AS (sentiment text, confidence real)")
    connection.execute(
        """CREATE FUNCTION desk.mood_of(message text) RETURNS desk.mood LANGUAGE sql AS
           $$ SELECT aws_comprehend.detect_sentiment(message, 'en')::text::desk.mood $$"""
    )
    connection.execute("CREATE TABLE desk.tickets (id uuid PRIMARY KEY, message text, sentiment text)")
    prediction = configured(database, database_url).prediction()
    assert (prediction.table, prediction.name) == ("desk.tickets", "mood_of")
    assert prediction.model.model_dump() == {"sql": "desk.mood_of", "mode": "update"}
    assert prediction.outputs == {"sentiment": "text", "confidence": "real"}


def test_awkward_names_are_applied_as_they_were_found(
    database_url: str, database: Database, connect: Connect
) -> None:
    connection = connect()
    connection.execute('CREATE SCHEMA "My.Schema"')
    connection.execute(
        """CREATE TABLE "My.Schema"."Ta""ble" ("K ey" int PRIMARY KEY, "a\nb" int, "c'd" float8)"""
    )
    config = configured(database, database_url)
    prediction = config.prediction()
    assert prediction.table == '"My.Schema"."Ta""ble"'
    assert [item.column for item in prediction.inputs] == ["a\nb", "c'd"]
    with opened(config) as engine:
        applied(engine)
    assert connection.execute('SELECT count(*) FROM "My.Schema"."Ta""ble_scored"').fetchone() == (0,)


def test_rowscores_own_tables_and_columns_are_not_proposed(
    database_url: str, database: Database, connect: Connect
) -> None:
    connect().execute("CREATE TABLE orders (id int PRIMARY KEY, amount float8)")
    config = configured(database, database_url)
    with opened(config) as engine:
        applied(engine)
    (only,) = listed(database)
    assert only.table.name == "orders"
    assert propose(only).inputs == ("amount",)


@pytest.mark.parametrize(
    ("definition", "key"),
    [
        ("id int PRIMARY KEY, code text NOT NULL UNIQUE", ("id",)),
        ("a int NOT NULL, b int NOT NULL, c int, UNIQUE (b, a)", ("b", "a")),
    ],
)
def test_the_key_is_the_primary_key_else_a_unique_one(
    database: Database, connect: Connect, definition: str, key: tuple[str, ...]
) -> None:
    connect().execute(f"CREATE TABLE keyed ({definition})")
    assert [candidate.table.key for candidate in listed(database)] == [key]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE t (a int)",
        "CREATE TABLE t (a int UNIQUE)",
        "CREATE TABLE t (a int NOT NULL); CREATE UNIQUE INDEX ON t (a) WHERE a > 0",
        "CREATE TABLE t (a int NOT NULL); CREATE UNIQUE INDEX ON t (abs(a))",
        "CREATE TABLE t (a int NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE VIEW v AS SELECT * FROM t; DROP TABLE t CASCADE",
        "CREATE TEMPORARY TABLE t (a int PRIMARY KEY)",
    ],
)
def test_tables_without_a_usable_key_are_not_listed(
    database: Database, connect: Connect, statement: str
) -> None:
    connection: psycopg.Connection[Any] = connect()
    connection.execute(statement)
    assert listed(database) == []


def test_partitions_are_not_listed_beside_their_table(database: Database, connect: Connect) -> None:
    connection = connect()
    connection.execute("CREATE TABLE logs (id int PRIMARY KEY, a int) PARTITION BY RANGE (id)")
    connection.execute("CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM (0) TO (10)")
    assert [candidate.table.name for candidate in listed(database)] == ["logs"]
