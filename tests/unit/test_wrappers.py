"""What `apply` does with the function that calls a service of Aurora's, and what it refuses; plain decisions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.services import AURORA, ML, column, facts, materialisation
from worker.aurora import ServiceObject
from worker.errors import PrivilegeError, RefusedError
from worker.facts import Facts, OwnModel, View
from worker.names import Mark, Role
from worker.plan import plan_changes
from worker.wrappers import wanted_objects

SAGEMAKER = {"sql": "predict_churn", "aurora": {"sagemaker": "churn-endpoint"}}
OTHER = {"sql": "predict_churn", "aurora": {"sagemaker": "churn-2"}}
TWO = {"outputs": {"p": "real", "q": "real"}}
TITAN: dict[str, Any] = {"sql": "ask", "aurora": {"bedrock": "m", "request": '{"inputText": "{message}"}'}}
ELSEWHERE = replace(AURORA, aurora=False, installed=False)


def there(item: ServiceObject, *, of: str | None = "churn") -> OwnModel:
    """The object as the catalogue would show it once it is made; `of` None: somebody made it by hand."""
    mark = None if of is None else replace(item.mark, prediction=of)
    return OwnModel(
        item.kind, item.schema, item.name, item.signature, mark, item.names, item.types, item.returns
    )


def made(dialect: str = "postgresql", **overrides: Any) -> tuple[OwnModel, ...]:
    """What an earlier `apply` of this prediction left."""
    return tuple(there(item) for item in wanted_objects(facts(materialisation(dialect, **overrides))))


def statements(known: Facts) -> list[str]:
    """What the plan does to functions and types."""
    found = [text for change in plan_changes(known) for text in change.statements]
    return [text for text in found if " FUNCTION " in text or " TYPE " in text]


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
def test_it_is_made_before_what_may_call_it(dialect: str) -> None:
    changes = plan_changes(facts(materialisation(dialect, model=SAGEMAKER, live=True)))
    titles = [change.title for change in changes]
    assert titles[0] == "make the function mltest.predict_churn"
    assert titles[-1].startswith("register")
    assert not changes[0].destructive
    assert changes[0].transactional is (dialect == "postgresql")


def test_on_postgresql_the_mark_is_a_comment() -> None:
    create, comment = statements(facts(materialisation("postgresql", model=SAGEMAKER)))
    assert create.startswith('CREATE FUNCTION "mltest"."predict_churn"(')
    signature = '"mltest"."predict_churn"(character varying, integer, double precision, integer)'
    assert comment.startswith(
        f"COMMENT ON FUNCTION {signature} IS 'maintained by rowscore: prediction churn, model "
    )


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
@pytest.mark.parametrize("model", [SAGEMAKER, TITAN])
def test_what_is_as_wanted_is_let_be(dialect: str, model: dict[str, Any]) -> None:
    overrides: dict[str, Any] = {"model": model}
    if model is TITAN:
        overrides |= {"inputs": ["message"], "outputs": {"p": "text"}}
    known = facts(materialisation(dialect, **overrides), models=made(dialect, **overrides))
    assert statements(known) == []


def test_another_endpoint_takes_its_place_and_keeps_its_privileges() -> None:
    known = facts(materialisation("postgresql", model=OTHER), models=made(model=SAGEMAKER))
    replaced, comment = statements(known)
    assert replaced.startswith("CREATE OR REPLACE FUNCTION")
    assert "'churn-2'" in replaced
    assert comment.startswith("COMMENT ON FUNCTION")
    assert not any(change.destructive for change in plan_changes(known))


def test_mysql_has_no_or_replace() -> None:
    known = facts(materialisation("mysql", model=OTHER), models=made("mysql", model=SAGEMAKER))
    drop, create = statements(known)
    assert drop == "DROP FUNCTION `mltest`.`predict_churn`"
    assert "ENDPOINT NAME 'churn-2'" in create


def test_of_two_functions_only_the_one_that_differs_is_made_anew() -> None:
    overrides: dict[str, Any] = {"inputs": ["message"], "outputs": {"p": "text"}}
    other = {"sql": "ask", "aurora": {**TITAN["aurora"], "answer": "results.0.text"}}
    known = facts(
        materialisation("mysql", model=other, **overrides), models=made("mysql", model=TITAN, **overrides)
    )
    assert [text.partition("(")[0] for text in statements(known)] == [
        "DROP FUNCTION `mltest`.`ask`", "CREATE FUNCTION `mltest`.`ask`",
    ]  # fmt: skip


def test_other_arguments_make_it_anew_without_cascade() -> None:
    known = facts(
        materialisation("postgresql", model=SAGEMAKER, inputs=["state"]), models=made(model=SAGEMAKER)
    )
    drop, create, comment = statements(known)
    assert drop == (
        'DROP FUNCTION "mltest"."predict_churn"(character varying, integer, double precision, integer)'
    )
    assert create.startswith('CREATE FUNCTION "mltest"."predict_churn"("state" character varying, max_rows')
    assert comment.startswith('COMMENT ON FUNCTION "mltest"."predict_churn"(character varying, integer)')
    assert "CASCADE" not in drop + create


def test_a_type_is_dropped_after_the_function_that_answers_it_and_made_before() -> None:
    known = facts(
        materialisation("postgresql", model=SAGEMAKER, outputs={"p": "real", "q": "text"}),
        models=made(model=SAGEMAKER, **TWO),
    )
    kinds = [" ".join(text.split()[:2]) for text in statements(known) if not text.startswith("COMMENT")]
    assert kinds == ["DROP FUNCTION", "DROP TYPE", "CREATE TYPE", "CREATE FUNCTION"]


def test_one_output_more_replaces_a_scalar_by_a_composite() -> None:
    known = facts(materialisation("postgresql", model=SAGEMAKER, **TWO), models=made(model=SAGEMAKER))
    kinds = [" ".join(text.split()[:2]) for text in statements(known) if not text.startswith("COMMENT")]
    assert kinds == ["DROP FUNCTION", "CREATE TYPE", "CREATE FUNCTION"]


def test_a_live_view_goes_first_and_comes_back_with_its_grants_in_one_transaction() -> None:
    mark = Mark("churn", Role.VIEW, "0" * 12)
    grants = ("SELECT ON x TO y",)
    view = View(7, "mltest", "churn_inserts_scored", "v", mark, (), (), grants, ())
    known = facts(
        materialisation("postgresql", model=SAGEMAKER, inputs=["state"], live=True),
        models=made(model=SAGEMAKER),
        views=(view,),
    )
    (change,) = [item for item in plan_changes(known) if "DROP FUNCTION" in item.sql]
    order = [" ".join(text.split()[:2]) for text in change.statements]
    assert order == [
        "DROP VIEW", "DROP FUNCTION", "CREATE FUNCTION", "COMMENT ON", "CREATE VIEW", "COMMENT ON", "GRANT SELECT",
    ]  # fmt: skip
    assert change.transactional


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
def test_what_it_was_called_before_is_dropped_at_the_end(dialect: str) -> None:
    renamed = {**SAGEMAKER, "sql": "score_churn"}
    known = facts(materialisation(dialect, model=renamed), models=made(dialect, model=SAGEMAKER))
    changes = plan_changes(known)
    last = [change for change in changes if change.destructive]
    assert [change.title for change in last] == ["drop the function mltest.predict_churn"]
    assert "predict_churn" not in changes[0].sql


def test_a_model_without_a_service_leaves_the_function_that_it_still_calls() -> None:
    m = materialisation("postgresql", model=SAGEMAKER)
    plain = replace(m, prediction=m.prediction.model_copy(update={"model": _plain()}))
    assert m.function is not None
    still = replace(plain, function=replace(m.function, made=False))
    assert statements(facts(still, services=ELSEWHERE, models=made(model=SAGEMAKER))) == []
    gone = facts(replace(plain, function=None), models=made(model=SAGEMAKER))
    assert [text.split()[0] for text in statements(gone)] == ["DROP"]


def _plain() -> Any:
    return materialisation("postgresql", model=SAGEMAKER).prediction.model.model_copy(update={"aurora": None})


def test_what_somebody_made_by_hand_is_never_dropped_or_replaced() -> None:
    m = materialisation("postgresql", model=SAGEMAKER)
    by_hand = tuple(there(item, of=None) for item in wanted_objects(facts(m)))
    assert m.function is not None
    found = replace(m, function=replace(m.function, made=False))
    assert statements(facts(found, models=by_hand)) == []
    other = tuple(there(item, of="another") for item in wanted_objects(facts(m)))
    assert statements(facts(found, models=other)) == []


def test_a_hand_made_callee_is_called_by_the_function_that_is_made() -> None:
    overrides: dict[str, Any] = {"model": TITAN, "inputs": ["message"], "outputs": {"p": "text"}}
    m = materialisation("mysql", **overrides)
    callee, _ = wanted_objects(facts(m))
    known = facts(m, services=ELSEWHERE, models=(there(callee, of=None),))
    (create,) = statements(known)
    assert create.startswith("CREATE FUNCTION `mltest`.`ask`(")
    assert "`mltest`.`ask_bedrock`(JSON_OBJECT(" in create


# --- refusals ---------------------------------------------------------------------------------------------

SENTIMENT = {"sql": "mood", "aurora": {"comprehend": "sentiment"}}


def mysql(*existing: Any, services: Any = AURORA, **overrides: Any) -> Facts:
    return facts(materialisation("mysql", *existing, **{"model": SAGEMAKER, **overrides}), services=services)


REFUSALS: list[tuple[Facts, str]] = [
    (
        mysql(**TWO),
        "a function of Aurora MySQL answers one value and 2 outputs are configured: only the first",
    ),
    *(
        (mysql(outputs={"p": kind}), f"outputs.p is {kind}, and a function of Aurora MySQL that calls SageMaker")
        for kind in ("text", "json", "blob", "date", "datetime", "bit(1)", "char(3)", "year")
    ),
    (
        mysql(services=replace(AURORA, binary_log="STATEMENT")),
        "binlog_format is STATEMENT, under which Aurora refuses its machine learning",
    ),
    (
        mysql(services=replace(AURORA, callers=("trigger mltest.score",))),
        "trigger mltest.score of mltest.churn_inserts calls mltest.predict_churn, and Aurora refuses its machine "
        "learning in a trigger or a generated column: drop it first",
    ),
    (
        mysql(column("p", "varchar(9)", collation="latin1_swedish_ci"), outputs={"p": "varchar(9)"}),
        "output column p is in latin1, and Aurora's services answer utf8mb4: what has no place in it would be lost",
    ),
    (
        mysql(
            column("p", "varchar(7)", collation="utf8mb4_bin"),
            outputs={"p": "varchar(7)"}, model=SENTIMENT, inputs=["message"],
        ),
        "output column p is varchar(7), too short for POSITIVE",
    ),
    (
        mysql(services=ELSEWHERE),
        "this server has no machine learning services, which the function mltest.predict_churn is to call: connect to "
        "an Aurora MySQL cluster, or make a function mltest.predict_churn by hand",
    ),
    (
        mysql(services=ELSEWHERE, model=SENTIMENT, inputs=["message"], outputs={"p": "varchar(8)"}),
        "this server has no aws_comprehend_detect_sentiment, which is a function of Aurora's own: connect to an Aurora "
        "MySQL cluster, or make a function mood by hand",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("known", "reason"), REFUSALS, ids=[reason[:60] for _, reason in REFUSALS])
def test_what_aurora_mysql_forbids_is_refused_with_the_reason(known: Facts, reason: str) -> None:
    with pytest.raises(RefusedError) as caught:
        plan_changes(known)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"predictions.churn: {reason}")


@pytest.mark.parametrize(
    "kind", ["double", "decimal(10,2)", "int", "tinyint(1)", "bigint unsigned", "varchar(20)"]
)
def test_what_aurora_mysql_returns_is_not_refused(kind: str) -> None:
    assert statements(mysql(outputs={"p": kind}))


def test_bedrock_may_answer_what_sagemaker_may_not() -> None:
    model = {"sql": "ask", "aurora": {"bedrock": "m", "answer": "a"}}
    for kind in ("text", "json", "datetime", "double"):
        assert len(statements(mysql(model=model, inputs=["message"], outputs={"p": kind}))) == 2


def test_an_older_aws_ml_is_to_be_updated() -> None:
    overrides: dict[str, Any] = {"model": TITAN, "inputs": ["message"], "outputs": {"p": "text"}}
    known = facts(materialisation("postgresql", **overrides))
    older = replace(AURORA, functions=frozenset({"aws_sagemaker.invoke_endpoint"}))
    with pytest.raises(
        RefusedError, match=r"no aws_bedrock\.invoke_model, .*: ALTER EXTENSION aws_ml UPDATE;"
    ):
        plan_changes(replace(known, services=older))


def test_a_postgresql_without_the_service_is_refused() -> None:
    m = materialisation("postgresql", model=SAGEMAKER)
    with pytest.raises(
        RefusedError, match=r"this server has no aws_sagemaker\.invoke_endpoint, which the function"
    ):
        plan_changes(
            replace(facts(m), services=replace(AURORA, functions=ML - {"aws_sagemaker.invoke_endpoint"}))
        )


def test_a_role_that_may_not_make_functions_is_told_the_grant() -> None:
    m = materialisation("postgresql", model={**SAGEMAKER, "sql": "models.predict"})
    known = replace(facts(m), services=replace(AURORA, functions=ML, may_create=False))
    with pytest.raises(PrivilegeError, match='GRANT CREATE ON SCHEMA "models" TO "app"'):
        plan_changes(known)
    left = facts(m, models=made(model={**SAGEMAKER, "sql": "models.predict"}))
    assert left.services is not None
    plan_changes(replace(left, services=replace(left.services, may_create=False)))


def test_a_type_of_somebody_elses_is_not_taken() -> None:
    m = materialisation("postgresql", model=SAGEMAKER, **TWO)
    kind, _ = wanted_objects(facts(m))
    with pytest.raises(
        RefusedError, match=r"a type mltest\.predict_churn_answer is there already and not rowscore's"
    ):
        plan_changes(facts(m, models=(there(kind, of=None),)))
