"""The DDL of functions that call a service of AWS, word for word: no server here could parse or run the real ones.

The statements are in `tests/unit/aurora/`, each in the form that AWS's user guides show. A change of the generator
shows there as a change of what a DBA would be asked to run.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sql
from tests.support.applied import prediction
from tests.support.services import column, materialisation
from worker.aurora import Node, request_node, service_objects
from worker.errors import ConfigurationError
from worker.names import Role, literal
from worker.states import RowState

GOLDEN = Path(__file__).parent / "aurora"
SAGEMAKER = {"sql": "predict_churn", "aurora": {"sagemaker": "churn-endpoint"}}
TITAN = {
    "bedrock": "amazon.titan-text-express-v1",
    "request": '{"inputText": "Summarise: {message}", "textGenerationConfig": {"maxTokenCount": 64, "temperature": 0}}',
    "answer": "results.0.outputText",
}
EMBEDDINGS = {"embeddings": "amazon.titan-embed-text-v2:0", "request": '{"inputText": "{message}"}'}
MANY = ["day_mins", *({"name": f"f{number}", "sql": f"day_mins * {number}"} for number in range(1, 101))]
MIXED = ["state", *MANY]
DEFAULTS = [{"column": "state", "default": "??"}, "acc_length", {"column": "day_mins", "default": 0.0}]
TEXT = {"inputs": ["message"]}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "postgresql-one-output": ("postgresql", {"model": SAGEMAKER}),
    "postgresql-several-outputs": (
        "postgresql",
        {"model": SAGEMAKER, "outputs": {"churn_probability": "real", "churn_reason": "varchar(40)"}},
    ),
    "postgresql-101-features": ("postgresql", {"model": SAGEMAKER, "inputs": MANY}),
    "postgresql-102-features-texts-among-them": ("postgresql", {"model": SAGEMAKER, "inputs": MIXED}),
    "postgresql-defaults": ("postgresql", {"model": SAGEMAKER, "inputs": DEFAULTS}),
    "postgresql-comprehend": (
        "postgresql",
        {"model": {"sql": "mood", "aurora": {"comprehend": "sentiment"}}, "outputs": {"mood": "text"}, **TEXT},
    ),
    "postgresql-comprehend-both": (
        "postgresql",
        {
            "model": {"sql": "mood", "aurora": {"comprehend": ["sentiment", "confidence"], "language": "fr"}},
            "outputs": {"mood": "varchar(8)", "mood_confidence": "double precision"},
            **TEXT,
        },
    ),
    "postgresql-bedrock": (
        "postgresql",
        {"model": {"sql": "summarise", "aurora": TITAN}, "outputs": {"summary": "text"}, **TEXT},
    ),
    "postgresql-bedrock-raw": (
        "postgresql",
        {"model": {"sql": "ask", "aurora": {"bedrock": "m"}}, "outputs": {"reply": "jsonb"}, **TEXT},
    ),
    "postgresql-embeddings-vector": (
        "postgresql",
        {"model": {"sql": "embed", "aurora": EMBEDDINGS}, "outputs": {"v": "vector(1024)"}, **TEXT},
    ),
    "postgresql-embeddings-array": (
        "postgresql",
        {"model": {"sql": "embed", "aurora": EMBEDDINGS}, "outputs": {"v": "real[]"}, **TEXT},
    ),
    "mysql-sagemaker": ("mysql", {"model": SAGEMAKER, "max_rows_per_batch": 2000}),
    "mysql-sagemaker-text": (
        "mysql",
        {"model": SAGEMAKER, "outputs": {"label": "varchar(20)"}, "inputs": [*DEFAULTS, "message", MANY[1]]},
    ),
    "mysql-bedrock": (
        "mysql",
        {"model": {"sql": "summarise", "aurora": {**TITAN, "timeout": "20s"}}, "outputs": {"summary": "text"}, **TEXT},
    ),
    "mysql-bedrock-raw": (
        "mysql",
        {"model": {"sql": "ask", "aurora": {"bedrock": "m"}}, "outputs": {"reply": "json"}, **TEXT},
    ),
}  # fmt: skip


def ddl(dialect: str, *, stand_in: bool = False, **overrides: Any) -> str:
    """The statements as one text."""
    objects = service_objects(materialisation(dialect, **overrides), stand_in=stand_in)
    return "\n\n".join(item.create for item in objects)


@pytest.mark.parametrize("name", CASES)
def test_the_ddl_is_that_of_aws(name: str) -> None:
    dialect, overrides = CASES[name]
    assert ddl(dialect, **overrides) + "\n" == (GOLDEN / f"{name}.sql").read_text()


def test_every_golden_file_is_tested() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)


def test_a_stand_in_differs_by_its_casts_alone() -> None:
    """C's VARIADIC "any" cannot be declared in SQL, so a stand-in takes texts."""
    overrides = CASES["postgresql-defaults"][1]
    real, other = ddl("postgresql", **overrides), ddl("postgresql", stand_in=True, **overrides)
    assert 'CAST("acc_length" AS text)' in other
    for sent in ('"acc_length"', "COALESCE(\"day_mins\", CAST('0.0' AS double precision))"):
        other = other.replace(f"CAST({sent} AS text)", sent)
    state = "COALESCE(\"state\", CAST('??' AS character varying))"
    assert other.replace(f"CAST({state} AS text)", state) == real
    together = ddl("postgresql", stand_in=True, **CASES["postgresql-101-features"][1])
    assert 'VARIADIC CAST("features" AS text[])' in together


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
def test_the_mark_changes_with_the_definition_and_with_nothing_else(dialect: str) -> None:
    (first,) = service_objects(materialisation(dialect, model=SAGEMAKER))
    (same,) = service_objects(materialisation(dialect, model=SAGEMAKER, retry_after="7m"))
    other = {"sql": "predict_churn", "aurora": {"sagemaker": "churn-2"}}
    (changed,) = service_objects(materialisation(dialect, model=other))
    assert first.mark == same.mark != changed.mark
    assert (first.mark.prediction, first.mark.role) == ("churn", Role.MODEL)


@pytest.mark.parametrize(
    ("asked", "stored"),
    [("decimal", "decimal(10,0)"), ("decimal(8)", "decimal(8,0)"), ("decimal(8, 2)", "decimal(8,2)"),
     ("int", "int(11)"), ("bigint unsigned", "bigint(20) unsigned"), ("boolean", "tinyint(1)"),
     ("double precision", "double"), ("varchar(20)", "varchar(20)")],
)  # fmt: skip
def test_a_type_gives_one_mark_before_and_after_its_column_is_there(asked: str, stored: str) -> None:
    before = materialisation("mysql", model=SAGEMAKER, outputs={"p": asked})
    after = materialisation("mysql", column("p", stored), model=SAGEMAKER, outputs={"p": asked})
    assert service_objects(before)[0].mark == service_objects(after)[0].mark


# --- how the function is called ---------------------------------------------------------------------------


def called(dialect: str, **overrides: Any) -> str:
    """The statement that scores inside the database, on one line."""
    m = materialisation(dialect, **overrides)
    name = "score_rows" if m.prediction.model.model_dump()["mode"] == "update" else "answer_rows"
    return " ".join(m.show(name, claims=RowState.PENDING).split())


def test_the_batch_size_is_really_passed() -> None:
    for asked, passed in ((500, "500"), (None, "NULL")):
        text = called("postgresql", model=SAGEMAKER, max_rows_per_batch=asked).replace(" ,", ",")
        assert f'"predict_churn"("rowscore$i1", "rowscore$i2", "rowscore$i3", {passed})' in text.replace(
            "( ", "("
        )


def test_more_inputs_than_a_call_has_arguments_travel_as_one_array() -> None:
    text = called("postgresql", model=SAGEMAKER, inputs=MANY, max_rows_per_batch=7)
    assert '"predict_churn"(CAST(ARRAY["rowscore$i1", "rowscore$i2", ' in text
    assert '"rowscore$i101"] AS double precision[]), 7)' in text


def test_several_outputs_are_taken_from_one_call() -> None:
    text = called("postgresql", **CASES["postgresql-several-outputs"][1])
    assert text.count('"predict_churn"(') == 1
    assert '(v."rowscore$a")."churn_probability"' in text
    assert '(v."rowscore$a")."churn_reason"' in text


@pytest.mark.parametrize(
    ("kind", "size", "call"),
    [
        ("sentiment", None, "aws_comprehend_detect_sentiment(`message`, 'en')"),
        ("confidence", 25, "aws_comprehend_detect_sentiment_confidence(`message`, 'en', 25)"),
    ],
)
def test_comprehend_is_a_function_of_aurora_mysqls_own(kind: str, size: int | None, call: str) -> None:
    model = {"sql": "mood", "mode": "select", "aurora": {"comprehend": kind}}
    overrides = {"model": model, "outputs": {"p": "varchar(8)"}, **TEXT}
    assert service_objects(materialisation("mysql", **overrides)) == ()
    assert call in called("mysql", max_rows_per_batch=size, **overrides)


# --- requests ---------------------------------------------------------------------------------------------

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_characters="\x00{}", codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc'\\", max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def built(node: Node) -> Any:
    """The document that the SQL would build of the inputs x = 1 and y = "why"."""
    values = {"x": 1, "y": "why"}
    if node.kind == "object":
        return {name: built(item) for name, item in node.members}  # type: ignore[misc]
    if node.kind == "array":
        return [built(item) for item in node.members]  # type: ignore[arg-type]
    if node.kind == "input":
        return values[node.value]
    if node.kind == "text":
        return "".join(str(values[part]) if given else part for given, part in node.members)  # type: ignore[misc]
    return json.loads(node.value)


@given(documents)
def test_a_request_without_inputs_is_the_document_itself(document: Any) -> None:
    assert built(request_node(document, {})) == document


def test_an_input_keeps_its_type_alone_and_is_a_text_among_others() -> None:
    document = {"n": "{x}", "t": ["{y}", "{x}{y}", "say {y}!", "{{x}}"]}
    assert built(request_node(document, {"x": "x", "y": "y"})) == {
        "n": 1,
        "t": ["why", "1why", "say why!", "{x}"],
    }


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
@settings(deadline=None)  # the first example compiles the templates
@given(text=st.text(st.characters(exclude_characters="\x00{}", codec="utf-8"), max_size=20))
@example(text="a $$ b")
def test_no_text_of_a_request_gets_out_of_its_literal(dialect: str, text: str) -> None:
    model = {"sql": "ask", "aurora": {"bedrock": "m", "request": json.dumps({"a": text, "b": "{message}"})}}
    made = ddl(dialect, model=model, outputs={"reply": "text"}, inputs=["message"])
    assert literal(json.dumps(text), dialect) in made
    if dialect == "postgresql":
        (quote,) = set(re.findall(r"^RETURNS .* AS (\$\w*\$)$", made, re.MULTILINE))
        assert made.count(quote) == 2


# --- configuration ----------------------------------------------------------------------------------------

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"aurora": "x"}, "model.aurora: expected one of sagemaker, comprehend, bedrock, embeddings, such as "
     '{ sagemaker = "churn-endpoint" }'),
    ({"aurora": {"sagemaker": "e", "bedrock": "m"}}, "model.aurora: expected one of sagemaker, comprehend, bedrock, "
     'embeddings, such as { sagemaker = "churn-endpoint" }'),
    ({"aurora": {"sagemaker": "an endpoint"}},
     "model.aurora.sagemaker: expected a name such as 'churn-endpoint', not 'an endpoint'"),
    ({"aurora": {"sagemaker": "e", "batch": 3}}, "model.aurora.batch: unknown key"),
    ({"aurora": {"comprehend": "mood"}},
     "model.aurora.comprehend.0: Input should be 'sentiment' or 'confidence' (got 'mood')"),
    ({"aurora": {"comprehend": ["confidence", "sentiment"]}}, 'model.aurora.comprehend: expected "sentiment", '
     '"confidence", or ["sentiment", "confidence"], its order'),
    ({"aurora": {"comprehend": "sentiment", "language": "English"}},
     "model.aurora.language: expected a name such as 'en', not 'English'"),
    ({"aurora": {"bedrock": "m", "request": "Say {a}"}}, "model.aurora.request: expected JSON with {input} in its "
     'texts, such as \'{"inputText": "{text}"}\': Expecting value: line 1 column 1 (char 0)'),
    ({"aurora": {"bedrock": "m", "request": '{"a": "{0}"}'}}, "model.aurora.request: there is no input '0'; it has a"),
    ({"aurora": {"bedrock": "m", "request": '{"a": "{a!r}"}'}}, "model.aurora.request: expected JSON with {input} in "
     'its texts, such as \'{"inputText": "{text}"}\': \'{a!r}\' has braces with more or less in them than an input\'s '
     "name"),
    ({"aurora": {"bedrock": "m", "answer": "a b"}},
     "model.aurora.answer: expected the way to it, such as \"content.0.text\", not 'a b'"),
    ({"aurora": {"bedrock": "m", "timeout": 3}},
     'model.aurora.timeout: expected a duration such as "500ms", "30s" or "2h", not 3'),
]  # fmt: skip
UNFIT: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"comprehend": "sentiment"}, {"inputs": ["a", "b"]}, "Comprehend reads one text and 2 inputs are configured"),
    ({"comprehend": ["sentiment", "confidence"]}, {},
     "comprehend gives sentiment and confidence, and 1 outputs are configured"),
    ({"bedrock": "m"}, {"inputs": ["a", "b"]}, "without `request` the one input is the request, and 2 are configured"),
    ({"embeddings": "m"}, {"outputs": {"p": "text", "q": "text"}},
     "Bedrock gives one answer and 2 outputs are configured"),
    ({"sagemaker": "e"}, {"inputs": ["max_rows_per_batch"]},
     "the function has an argument max_rows_per_batch; name that input otherwise"),
]  # fmt: skip


@pytest.mark.parametrize(("model", "message"), MISTAKES, ids=[message[:50] for _, message in MISTAKES])
def test_each_mistake_is_one_line(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        prediction(model={"sql": "f", **model}, inputs=["a"])
    lines = str(raised.value).splitlines()
    assert lines in (
        [f"rowscore.toml: predictions.churn.{message}"],
        [f"rowscore.toml: predictions.churn: {message}"],
    )


@pytest.mark.parametrize(("aurora", "other", "message"), UNFIT, ids=[message[:50] for _, _, message in UNFIT])
def test_what_a_service_cannot_take_or_give_is_one_line(
    aurora: dict[str, Any], other: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        prediction(**{"model": {"sql": "f", "aurora": aurora}, "inputs": ["a"], **other})
    assert str(raised.value) == f"rowscore.toml: predictions.churn: model.aurora: {message}"


def test_definitions_without_a_service_are_what_they_were() -> None:
    assert prediction(model={"sql": "f"}).definition["model"] == {"sql": "f"}
    assert prediction(model=SAGEMAKER).definition["model"] == SAGEMAKER


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "mariadb"])
def test_each_statement_says_what_it_is_for(dialect: str) -> None:
    for name, statement in sql.load(dialect, "aurora").items():
        assert statement.purpose[0].isupper(), name
        assert statement.purpose.endswith("."), name
        assert len(statement.purpose) <= 120, name
