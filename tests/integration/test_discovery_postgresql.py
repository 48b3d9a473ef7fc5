"""`init` where only PostgreSQL has such things: the demo's schema, composite answers, partitions."""

from __future__ import annotations

from tests.conftest import Connect
from tests.integration.test_discovery import configured, listed
from tests.support.predictions import applied, drain, opened
from worker.database import Database
from worker.demo import churn


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
    assert prediction.model.model_dump(exclude_none=True) == {"sql": "desk.mood_of", "mode": "update"}
    assert prediction.outputs == {"sentiment": "text", "confidence": "real"}


def test_partitions_are_not_listed_beside_their_table(database: Database, connect: Connect) -> None:
    connection = connect()
    connection.execute("CREATE TABLE logs (id int PRIMARY KEY, a int) PARTITION BY RANGE (id)")
    connection.execute("CREATE TABLE logs_1 PARTITION OF logs FOR VALUES FROM (0) TO (10)")
    assert [candidate.table.name for candidate in listed(database)] == ["logs"]
