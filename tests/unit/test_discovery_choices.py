"""What `init` proposes for tables, functions and triggers, and that its file is read back the same."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.config import parse_configuration
from worker.discovery.choices import candidates, choose, fit_function, input_columns, model_functions, propose
from worker.discovery.draft import Draft, DraftColumn, qualified_text, to_toml
from worker.discovery.facts import FoundColumn, FoundFunction, FoundTable, FoundTrigger, Surroundings
from worker.errors import ConfigurationError
from worker.kinds.sql import SqlModel
from worker.sections import split_name


def column(name: str, kind: str = "integer", category: str = "N", **more: bool) -> FoundColumn:
    return FoundColumn(name, kind, kind.partition("(")[0], category, **more)


CREATED = column("created_at", "timestamp with time zone", "D")
TABLE = FoundTable(
    oid=1,
    schema="public",
    name="customers",
    visible=True,
    estimated_rows=100,
    columns=(column("id"), column("state", "text", "S"), column("minutes"), CREATED),
    key=("id",),
)


def function(name: str = "predict_churn", **more: object) -> FoundFunction:
    found = FoundFunction(
        schema="public",
        name=name,
        visible=True,
        argument_names=("state", "minutes"),
        argument_types=("text", "integer"),
        returns="double precision",
        fields=(),
        source="SELECT 0.5",
    )
    return replace(found, **more)  # type: ignore[arg-type]


def surroundings(
    *tables: FoundTable, functions: tuple[FoundFunction, ...] = (), triggers: tuple[FoundTrigger, ...] = ()
) -> Surroundings:
    return Surroundings(tables, functions, triggers)


def proposed(table: FoundTable = TABLE, *functions: FoundFunction) -> Draft:
    (candidate,) = candidates(surroundings(table, functions=functions))
    return propose(candidate)


# --- functions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["predict", "predict_churn", "score_order", "ticket_sentiment", "detect_fraud"]
)
def test_functions_that_are_named_like_models_are_found(name: str) -> None:
    assert [found.name for found in model_functions([function(name)])] == [name]


@pytest.mark.parametrize("name", ["add", "predictable", "full_name", "rescore"])
def test_other_functions_are_not(name: str) -> None:
    assert model_functions([function(name)]) == []


def test_a_function_that_calls_a_service_is_found_whatever_its_name_and_so_is_its_caller() -> None:
    inner = function("churn_xgb", source="SELECT aws_sagemaker.invoke_endpoint('e', 10, a)")
    outer = function("risk", source="SELECT churn_xgb(state, minutes) > 0.5")
    assert model_functions([outer, function("other"), inner]) == [inner, outer]


def test_arguments_are_matched_by_name_in_any_case_and_with_the_usual_prefixes() -> None:
    fit = fit_function(function(argument_names=("p_Minutes", "STATE")), TABLE)
    assert fit is not None
    assert (fit.inputs, fit.by_name) == (("minutes", "state"), True)


def test_the_batch_size_is_no_input() -> None:
    names, types = ("state", "max_rows_per_batch", "minutes"), ("text", "integer", "integer")
    fit = fit_function(function(argument_names=names, argument_types=types), TABLE)
    assert fit is not None
    assert fit.inputs == ("state", "minutes")


def test_unnamed_arguments_are_matched_by_the_types_of_all_inputs() -> None:
    fit = fit_function(function(argument_names=()), TABLE)
    assert fit is not None
    assert (fit.inputs, fit.by_name) == (("state", "minutes"), False)


def test_a_function_of_another_table_does_not_fit() -> None:
    assert fit_function(function(argument_names=("a", "b"), argument_types=("text", "text")), TABLE) is None


# --- tables -----------------------------------------------------------------------------------------------


def test_a_table_without_a_key_is_no_candidate() -> None:
    assert candidates(surroundings(replace(TABLE, key=None))) == []


def test_the_only_table_that_something_speaks_for_is_chosen() -> None:
    scored = replace(TABLE, oid=2, name="tickets", columns=(*TABLE.columns, column("sentiment", "text", "S")))
    chosen = choose(candidates(surroundings(TABLE, scored)), None)
    assert chosen is not None
    assert (chosen.table.name, chosen.reasons) == ("tickets", ("it has a column sentiment",))


def test_the_only_table_of_all_is_chosen_without_a_reason() -> None:
    chosen = choose(candidates(surroundings(TABLE)), None)
    assert chosen is not None
    assert chosen.reasons == ()


def test_between_equals_a_person_must_choose() -> None:
    listed = candidates(surroundings(TABLE, replace(TABLE, oid=2, name="orders")))
    assert choose(listed, None) is None
    named = choose(listed, "public.orders")
    assert named is not None
    assert named.table.name == "orders"


def test_a_table_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match=r"no table nowhere .* there is public\.customers"):
        choose(candidates(surroundings(TABLE)), "nowhere")


def test_a_database_without_tables_says_what_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="primary key"):
        choose([], None)


def test_a_trigger_that_calls_a_model_is_a_reason() -> None:
    source = "BEGIN NEW.prediction := predict_churn(NEW.state, NEW.minutes); RETURN NEW; END"
    called = FoundTrigger(1, "score_it", True, source, "DROP TRIGGER score_it ON customers;")
    harmless = FoundTrigger(1, "touch", True, "BEGIN NEW.updated_at := now(); RETURN NEW; END", "")
    (candidate,) = candidates(surroundings(TABLE, functions=(function(),), triggers=(called, harmless)))
    assert candidate.triggers == (called,)
    assert candidate.reasons[0] == "trigger score_it calls a model inside every INSERT"


# --- inputs and outputs -----------------------------------------------------------------------------------


def test_inputs_are_the_columns_that_describe_the_row() -> None:
    left_out = (
        column("updated_at", "timestamp with time zone", "D"),
        column("total", made=True),
        column("churn_state", "smallint", ours=True),
        column("prediction", "boolean", "B"),
    )
    table = replace(TABLE, columns=(*TABLE.columns, *left_out, column("birthday", "date", "D")))
    assert input_columns(table) == ("state", "minutes", "birthday")


def test_without_a_function_the_endpoint_is_left_to_be_filled_in() -> None:
    draft = proposed(replace(TABLE, columns=(*TABLE.columns, column("photo", "bytea", "U"))))
    assert (draft.name, draft.function, draft.inputs) == ("customers", None, ("state", "minutes"))
    assert draft.left_out == ("created_at", "photo")
    assert draft.arrived_at == "created_at"


def test_a_function_gives_the_name_the_inputs_and_the_type() -> None:
    draft = proposed(TABLE, function())
    assert (draft.name, draft.function) == ("churn", "predict_churn")
    assert draft.outputs == (DraftColumn("churn_prediction", "double precision"),)


def test_a_column_that_looks_like_the_answer_and_has_its_type_is_taken() -> None:
    table = replace(TABLE, columns=(*TABLE.columns, column("prediction", "double precision")))
    assert proposed(table, function()).outputs == (
        DraftColumn("prediction", "double precision", exists=True),
    )


def test_an_input_is_never_an_output() -> None:
    table = replace(TABLE, columns=(*TABLE.columns, column("credit_score", "double precision")))
    taking = function(argument_names=("state", "credit_score"), argument_types=("text", "double precision"))
    draft = proposed(table, taking)
    assert draft.inputs == ("state", "credit_score")
    assert [item.name for item in draft.outputs] == ["churn_prediction"]


def test_a_composite_answer_has_an_output_for_each_field() -> None:
    fields = (("sentiment", "text"), ("confidence", "real"), ("state", "text"))
    draft = proposed(TABLE, function("detect_sentiment", fields=fields))
    assert [item.name for item in draft.outputs] == ["sentiment", "confidence", "state_prediction"]


def test_a_table_with_a_column_that_rowscore_would_make_gets_another_name() -> None:
    table = replace(TABLE, columns=(*TABLE.columns, column("churn_state", "text", "S")))
    assert proposed(table, function()).name == "churn_2"


def test_a_table_of_bookkeeping_alone_has_no_inputs() -> None:
    with pytest.raises(ConfigurationError, match="no column that could be an input"):
        proposed(replace(TABLE, columns=(column("id"), CREATED)))


# --- the file ---------------------------------------------------------------------------------------------

identifiers = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=15
)
names = identifiers.filter(str.strip)  # a table called by blanks alone is refused by the configuration


@given(
    schema=st.none() | names,
    table=names,
    inputs=st.lists(identifiers, min_size=1, max_size=30, unique=True),
    output=identifiers,
    function=st.none() | names,
    arrival=st.none() | identifiers,
    left_out=st.lists(identifiers, max_size=3),
    exists=st.booleans(),
)
def test_any_identifiers_come_back_from_the_file(
    *,
    schema: str | None,
    table: str,
    inputs: list[str],
    output: str,
    function: str | None,
    arrival: str | None,
    left_out: list[str],
    exists: bool,
) -> None:
    output = output if output not in inputs else output + "!"
    if output in inputs:
        return
    draft = Draft(
        name="churn",
        table=qualified_text(schema, table),
        inputs=tuple(inputs),
        outputs=(DraftColumn(output, "double precision", exists),),
        function=None if function is None else qualified_text(schema, function),
        arrived_at=arrival,
        left_out=tuple(left_out),
    )
    prediction = parse_configuration(tomllib.loads(to_toml(draft))).prediction("churn")
    assert split_name(prediction.table) == (schema, table)
    assert [item.column for item in prediction.inputs] == inputs
    assert prediction.outputs == {output: "double precision"}
    assert prediction.arrived_at == arrival
    if function is not None:
        assert isinstance(prediction.model, SqlModel)
        assert split_name(prediction.model.sql) == (schema, function)


def test_the_file_holds_no_secret_and_few_lines() -> None:
    text = to_toml(proposed(TABLE, function()))
    assert 'database = "$DATABASE_URL"' in text
    assert len(text.splitlines()) == 10


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_every_table_name_gives_a_usable_prediction_name(name: str) -> None:
    draft = proposed(replace(TABLE, name=name or "x"))
    parse_configuration(tomllib.loads(to_toml(replace(draft, table="t"))))
