"""Functions that call Aurora's services, made by `apply` and run for real on stand-ins for aws_ml.

The stand-ins bear the real functions' names and arguments and count their calls in sequences, which no rollback
undoes; what they answer is a function of the test's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

import sql
from tests.conftest import Connect
from tests.support.applied import prediction, resolved
from tests.support.catalogue import catalogue
from tests.support.predictions import applied, configuration, drain, opened, states
from worker.apply import apply, drift, remove
from worker.database import Database
from worker.doctor.examination import examine
from worker.doctor.findings import Finding, Level
from worker.errors import ConfigurationError, RefusedError
from worker.explain import explain
from worker.state import FIRST_CLAIM
from worker.states import RowState

Owner = psycopg.Connection[Any]
SAGEMAKER = {"sql": "predict", "aurora": {"sagemaker": "churn-endpoint"}}
SENTIMENT = {"sql": "mood", "aurora": {"comprehend": "sentiment"}}
EMBEDDINGS = {
    "sql": "embed",
    "aurora": {"embeddings": "amazon.titan-embed-text-v2:0", "request": '{"inputText": "{note}"}'},
}


@pytest.fixture
def owner(connect: Connect) -> Owner:
    """The application's connection, the table items, stand-ins, and an endpoint that adds its two inputs up."""
    connection: Owner = connect(prepare_threshold=None)
    connection.execute(sql.load("postgresql", "aurora")["aws_ml"].show())
    connection.execute("CREATE TABLE items (id bigint PRIMARY KEY, a float8, b int, note text)")
    endpoint(connection, "CAST(v[1] AS float8) + CAST(v[2] AS float8)")
    return connection


def endpoint(connection: Owner, expression: str) -> None:
    """What the endpoint answers for the texts v, as one field or one line."""
    connection.execute(
        f"""CREATE OR REPLACE FUNCTION aws_sagemaker."churn-endpoint"(v text[]) RETURNS text LANGUAGE sql
            AS $$ SELECT CAST({expression} AS text) $$"""
    )


def add(connection: Owner, rows: int) -> None:
    connection.execute(
        "INSERT INTO items SELECT i, i, 10, 'great ' || i FROM generate_series(1, %s) AS i", [rows]
    )


def calls(connection: Owner, service: str = "aws_sagemaker") -> int:
    query = f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {service}.calls"
    (count,) = connection.execute(query).fetchone() or (0,)
    return int(count)


def functions(connection: Owner) -> list[str]:
    """Functions and types of the application's schema, other than those of tables and views."""
    rows = connection.execute(
        """SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
           UNION ALL SELECT t.typname FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid
           WHERE t.typnamespace = 'public'::regnamespace AND c.relkind = 'c' ORDER BY 1"""
    )
    return [name for (name,) in rows]


def cycle(url: str, owner: Owner, rows: int, **overrides: Any) -> list[tuple[Any, ...]]:
    """Apply twice, drain, and remove; the answers in the rows' order."""
    columns = ", ".join(f'"{name}"' for name in overrides.get("outputs", {"p": ""}))
    with opened(configuration(url, **overrides)) as engine:
        applied(engine)
        config, database = engine.prediction(), engine.database(engine.prediction())
        assert apply(database, engine.materialisation(config)) == [], "a second time it does nothing"
        add(owner, rows)
        assert drain(engine).scored == rows
        answers = owner.execute(f"SELECT {columns} FROM items ORDER BY id").fetchall()
        remove(database, config)
    assert functions(owner) == [], "what apply made is gone"
    return answers


# --- each service -----------------------------------------------------------------------------------------


def test_an_endpoint_with_one_output_is_called_once_a_row(database_url: str, owner: Owner) -> None:
    rows = FIRST_CLAIM + 5  # two batches
    assert cycle(database_url, owner, rows, model=SAGEMAKER) == [(float(n + 10),) for n in range(1, rows + 1)]
    assert calls(owner) == rows


def test_several_outputs_cost_one_call(database_url: str, owner: Owner) -> None:
    endpoint(owner, "'(' || v[1] || ',\"of ' || v[2] || '\")'")
    outputs = {"p": "real", "why": "varchar(10)"}
    assert cycle(database_url, owner, 3, model=SAGEMAKER, outputs=outputs) == [
        (1.0, "of 10"), (2.0, "of 10"), (3.0, "of 10"),
    ]  # fmt: skip
    assert calls(owner) == 3


def test_a_null_is_an_empty_field_unless_a_default_replaces_it(database_url: str, owner: Owner) -> None:
    endpoint(owner, "array_to_string(v, ';', 'NULL')")
    inputs = ["a", {"column": "b", "default": 7}]
    with opened(configuration(database_url, model=SAGEMAKER, inputs=inputs, outputs={"p": "text"})) as engine:
        applied(engine)
        owner.execute("INSERT INTO items (id) VALUES (1)")
        drain(engine)
    assert owner.execute("SELECT p FROM items").fetchall() == [(";7",)]
    assert owner.execute("SELECT predict(NULL, NULL)").fetchall() == [(";7",)]


# Services that answer the batch size that they are asked for, -1 for NULL.
ECHOING = {
    "sagemaker": """
CREATE OR REPLACE FUNCTION aws_sagemaker.invoke_endpoint(endpoint_name varchar, max_rows_per_batch int,
  VARIADIC model_input text[], OUT model_output varchar) LANGUAGE sql
AS $$ SELECT coalesce(max_rows_per_batch, -1)::text $$""",
    "comprehend": """
CREATE OR REPLACE FUNCTION aws_comprehend.detect_sentiment(input_text varchar, language_code varchar,
  max_rows_per_batch int DEFAULT 7, OUT sentiment varchar, OUT confidence real) LANGUAGE sql
AS $$ SELECT coalesce(max_rows_per_batch, -1)::text, 0.5 $$""",
}


@pytest.mark.parametrize("asked", [300, None])
@pytest.mark.parametrize("mode", ["update", "select"])
@pytest.mark.parametrize("kind", ECHOING)
def test_the_batch_size_arrives_at_the_service_on_every_way(
    database_url: str, owner: Owner, kind: str, mode: str, asked: int | None
) -> None:
    """Drains, the stretches of a bisection, and the live view; NULL lets Aurora choose."""
    owner.execute(ECHOING[kind])
    service = {"sagemaker": "churn-endpoint"} if kind == "sagemaker" else {"comprehend": "sentiment"}
    inputs = [{"name": "x", "sql": "CAST(1 / (a - 3) AS text) || note"}]
    shape: dict[str, Any] = {"inputs": inputs, "outputs": {"p": "text"}, "live": True}
    shape |= {"max_rows_per_batch": asked} if asked else {}
    model = {"sql": "size", "mode": mode, "aurora": service}
    with opened(configuration(database_url, model=model, **shape)) as engine:
        applied(engine)
        add(owner, 2)
        view = owner.execute("SELECT prediction_state, p FROM items_scored ORDER BY id").fetchall()
        assert view == [("pending", str(asked or -1))] * 2
        owner.execute("INSERT INTO items SELECT i, i, 10, 'n' FROM generate_series(3, 9) AS i")
        drain(engine)
    assert states(owner) == {RowState.SCORED.value: 8, RowState.FAILED.value: 1}
    assert owner.execute("SELECT DISTINCT p FROM items WHERE a <> 3").fetchall() == [(str(asked or -1),)]


@pytest.mark.parametrize("mode", ["update", "select"])
def test_more_features_than_arguments_go_as_an_array(database_url: str, owner: Owner, mode: str) -> None:
    endpoint(owner, "cardinality(v) || ':' || v[1] || ':' || v[150]")
    inputs = ["a", *({"name": f"f{n}", "sql": f"b + {n}"} for n in range(2, 151))]
    answers = cycle(
        database_url, owner, 2, model={**SAGEMAKER, "mode": mode}, inputs=inputs, outputs={"p": "text"}
    )
    assert answers == [("150:1:160",), ("150:2:160",)]


def test_comprehend_gives_the_sentiment_or_both(database_url: str, owner: Owner) -> None:
    text: dict[str, Any] = {"inputs": ["note"], "outputs": {"mood": "varchar(10)"}}
    assert cycle(database_url, owner, 2, model=SENTIMENT, **text) == [("POSITIVE",), ("POSITIVE",)]
    assert calls(owner, "aws_comprehend") == 2
    owner.execute("TRUNCATE items")
    both = {"sql": "mood", "aurora": {"comprehend": ["sentiment", "confidence"]}}
    outputs = {"feeling": "text", "sure": "float8"}
    (answer,) = cycle(database_url, owner, 1, model=both, inputs=["note"], outputs=outputs)
    assert answer == ("POSITIVE", pytest.approx(0.57))
    assert calls(owner, "aws_comprehend") == 3


@pytest.mark.parametrize(("kind", "expected"), [("vector(3)", "[7,0.5,1]"), ("real[]", [7.0, 0.5, 1.0])])
def test_embeddings_land_in_a_vector_or_an_array(
    database_url: str, owner: Owner, kind: str, expected: Any
) -> None:
    owner.execute("CREATE EXTENSION vector SCHEMA pg_catalog")
    titan(owner, "json_build_object('embedding', json_build_array(length(r ->> 'inputText'), 0.5, 1))")
    overrides: dict[str, Any] = {"inputs": ["note"], "outputs": {"v": kind}}
    assert cycle(database_url, owner, 1, model=EMBEDDINGS, **overrides) == [(expected,)]
    assert calls(owner, "aws_bedrock") == 1


def titan(connection: Owner, expression: str) -> None:
    """What the Bedrock model answers to the request r."""
    connection.execute(
        f"""CREATE FUNCTION aws_bedrock."amazon.titan-embed-text-v2:0"(r json) RETURNS json LANGUAGE sql
            AS $$ SELECT {expression} $$"""
    )


def test_bedrock_gets_the_request_and_the_answer_is_taken_out_of_the_reply(
    database_url: str, owner: Owner
) -> None:
    titan(owner, "json_build_object('content', json_build_array(json_build_object('text', r)))")
    service = {
        "bedrock": "amazon.titan-embed-text-v2:0",
        "request": '{"system": "It\'s {{json}}", "messages": ["{note}", "Say \\"{note}\\" {a} times"], "n": "{b}"}',
        "answer": "content.0.text",
    }
    model = {"sql": "ask", "aurora": service}
    (answer,) = cycle(
        database_url, owner, 1, model=model, inputs=["note", "a", "b"], outputs={"reply": "jsonb"}
    )
    wanted = {"system": "It's {json}", "messages": ["great 1", 'Say "great 1" 1 times'], "n": 10}
    assert answer == (wanted,)


def test_a_json_null_in_the_reply_is_null(database_url: str, owner: Owner) -> None:
    titan(owner, """'{"answer": null}'::json""")
    model = {"sql": "ask", "aurora": {"bedrock": "amazon.titan-embed-text-v2:0", "answer": "answer"}}
    body = [{"name": "body", "sql": "json_build_object('text', note)::text"}]
    assert cycle(database_url, owner, 1, model=model, inputs=body, outputs={"p": "float8"}) == [(None,)]


# --- keeping it as it is configured -----------------------------------------------------------------------


def test_another_endpoint_replaces_the_function_and_keeps_its_privileges(
    database: Database, owner: Owner
) -> None:
    apply(database, resolved(database, model=SAGEMAKER))
    owner.execute("REVOKE EXECUTE ON FUNCTION predict FROM PUBLIC")
    other = resolved(database, model={"sql": "predict", "aurora": {"sagemaker": "other"}})
    titles = [change.title for change in apply(database, other)]
    assert titles[0] == "make the function public.predict"
    (source, privileges) = owner.execute(
        "SELECT prosrc, proacl IS NOT NULL FROM pg_proc WHERE proname = 'predict'"
    ).fetchone() or ("", None)
    assert "'other'" in source
    assert privileges


def test_one_input_more_makes_function_and_live_view_anew(database_url: str, owner: Owner) -> None:
    endpoint(owner, "cardinality(v)")
    owner.execute("DROP ROLE IF EXISTS aurora_reader")
    owner.execute("CREATE ROLE aurora_reader")
    with opened(configuration(database_url, model=SAGEMAKER, live=True)) as engine:
        applied(engine)
    owner.execute("GRANT SELECT ON items_scored TO aurora_reader")
    with opened(configuration(database_url, model=SAGEMAKER, live=True, inputs=["a", "b", "note"])) as engine:
        applied(engine)
        add(owner, 1)
        assert owner.execute("SELECT prediction_state, p FROM items_scored").fetchall() == [("pending", 3.0)]
        drain(engine)
        assert owner.execute("SELECT prediction_state, p FROM items_scored").fetchall() == [("scored", 3.0)]
        kept = "SELECT has_table_privilege('aurora_reader', 'items_scored', 'SELECT')"
        assert owner.execute(kept).fetchall() == [(True,)]
        remove(engine.database(engine.prediction()), engine.prediction(), drop_outputs=True)
    owner.execute("DROP ROLE aurora_reader")


def test_what_depends_on_the_function_stops_it_and_is_never_dropped(database: Database, owner: Owner) -> None:
    apply(database, resolved(database, model=SAGEMAKER))
    owner.execute("CREATE VIEW report AS SELECT predict(a, b) FROM items")
    before = catalogue(owner)
    with pytest.raises(
        RefusedError, match=r"predict has to be made anew, .*view report depends on it; drop that"
    ):
        apply(database, resolved(database, model=SAGEMAKER, inputs=["a"]))
    with pytest.raises(RefusedError, match="view report depends on what would be dropped"):
        remove(database, prediction(model=SAGEMAKER))
    assert catalogue(owner) == before


def test_a_function_made_by_hand_is_left_as_it_is_and_called(database_url: str, owner: Owner) -> None:
    owner.execute("CREATE FUNCTION predict(a float8, b int) RETURNS float8 LANGUAGE sql AS 'SELECT 42.0'")
    before = owner.execute("SELECT oid, prosrc FROM pg_proc WHERE proname = 'predict'").fetchall()
    with opened(configuration(database_url, model=SAGEMAKER)) as engine:
        applied(engine)
        add(owner, 1)
        drain(engine)
        remove(engine.database(engine.prediction()), engine.prediction())
    assert owner.execute("SELECT p FROM items").fetchall() == [(42.0,)]
    assert owner.execute("SELECT oid, prosrc FROM pg_proc WHERE proname = 'predict'").fetchall() == before
    assert calls(owner) == 0


def test_a_function_of_the_name_that_does_not_fit_is_left_and_refused(
    database: Database, owner: Owner
) -> None:
    owner.execute("CREATE FUNCTION predict(text) RETURNS float8 LANGUAGE sql AS 'SELECT 1.0'")
    with pytest.raises(ConfigurationError, match=r"predict takes 1 arguments and .* lists 2"):
        apply(database, resolved(database, model=SAGEMAKER))
    assert functions(owner) == ["predict(text)"]


def test_another_name_or_kind_of_model_drops_what_was_made(database: Database, owner: Owner) -> None:
    apply(database, resolved(database, model=SAGEMAKER, outputs={"p": "real", "q": "real"}))
    assert functions(owner) == ["predict(double precision,integer,integer)", "predict_answer"]
    apply(database, resolved(database, model={**SAGEMAKER, "sql": "score"}))
    assert functions(owner) == ["score(double precision,integer,integer)"]
    apply(database, resolved(database, model={"sql": "score"}))
    assert functions(owner) == ["score(double precision,integer,integer)"], "it is still called"
    apply(database, resolved(database, model={"python": "tests:never_called"}))
    assert functions(owner) == []


def test_a_lost_function_is_drift_and_made_again(database: Database, owner: Owner) -> None:
    m = resolved(database, model=SAGEMAKER)
    apply(database, m)
    owner.execute("DROP FUNCTION predict")
    with database.transaction() as transaction:
        assert drift(transaction, m) == ["make the function public.predict"]
    apply(database, m)
    with database.transaction() as transaction:
        assert drift(transaction, m) == []


def test_a_dry_run_shows_the_function_and_makes_nothing(database: Database, owner: Owner) -> None:
    changes = apply(database, resolved(database, model=SAGEMAKER), dry_run=True)
    script = "\n".join(change.script for change in changes)
    assert 'CREATE FUNCTION "public"."predict"(' in script
    assert functions(owner) == []
    assert owner.execute("SELECT to_regclass('rowscore.prediction')").fetchone() == (None,)


def test_a_server_without_the_services_is_told_what_to_do(database: Database, connect: Connect) -> None:
    connect().execute("CREATE TABLE items (id bigint PRIMARY KEY, a float8, b int)")
    with pytest.raises(RefusedError) as caught:
        apply(database, resolved(database, model=SAGEMAKER))
    assert str(caught.value) == (
        "predictions.churn: this server has no aws_sagemaker.invoke_endpoint, which the function public.predict is to "
        "call: on Aurora CREATE EXTENSION IF NOT EXISTS aws_ml CASCADE; elsewhere `rowscore sql aws_ml | psql` makes a "
        "stand-in, or make a function public.predict by hand, which `apply` then leaves as it is"
    )


# --- failures, doctor, explain ----------------------------------------------------------------------------


def test_a_row_that_the_endpoint_refuses_is_found_and_the_others_are_scored(
    database_url: str, owner: Owner
) -> None:
    endpoint(owner, "1 / (CAST(v[1] AS float8) - 3)")
    with opened(configuration(database_url, model=SAGEMAKER)) as engine:
        applied(engine)
        add(owner, 8)
        drain(engine)
    assert states(owner) == {RowState.SCORED.value: 7, RowState.FAILED.value: 1}


def test_explain_says_what_aurora_would_do_and_counts_calls(database_url: str, owner: Owner) -> None:
    (alter,) = owner.execute(
        "SELECT format('ALTER DATABASE %I SET track_functions = pl', current_database())"
    ).fetchone() or ("",)
    owner.execute(alter)
    with opened(configuration(database_url, model=SAGEMAKER, max_rows_per_batch=500)) as engine:
        applied(engine)
        add(owner, 4)
        drain(engine)
        add_more = "INSERT INTO items SELECT i, i, 10 FROM generate_series(11, 14) AS i"
        owner.execute(add_more)
        config = engine.prediction()
        engine.dispose()  # sessions that end hand in their statistics
        found = explain(engine.database(config), engine.materialisation(config))
    assert found.by_index
    assert not found.batching.batched
    assert found.batching.reason.endswith(
        "aws_sagemaker.invoke_endpoint is a stand-in, called once for each row; on Aurora it would take up to 500 "
        "rows a call"
    )
    assert dict(found.service_calls) == {"aws_sagemaker.invoke_endpoint": 4}


def findings(engine: Any) -> Callable[[str], list[Finding]]:
    found = list(examine(engine, [engine.prediction()]))
    return lambda subject: [item for item in found if item.subject == subject]


@pytest.mark.usefixtures("owner")
def test_doctor_says_that_apply_makes_the_function_and_is_content_afterwards(database_url: str) -> None:
    with opened(configuration(database_url, model=SAGEMAKER)) as engine:
        (before,) = findings(engine)("function")
        assert (before.level, before.message) == (Level.WARNING, "public.predict is not there yet")
        assert before.remedy == "rowscore apply churn"
        applied(engine)
        about = findings(engine)
        (after,) = about("function")
        assert after.message.endswith("(sql, volatile, parallel safe, cost 5000)"), after
        assert {item.level for item in about("batch mode")} <= {Level.OK}
        (applied_,) = about("applied")
        assert applied_.level is Level.OK
