"""The demo's made-up customers and its model, without a database."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sql
from worker.demo import churn, model, terms, train

ROWS = list(churn.rows(500))
DIALECTS = ("postgresql", "mysql")


def changed(row: churn.Row, **values: object) -> list[str]:
    """A row as the endpoint gets it, with some values replaced."""
    return [str(values.get(name, value)) for name, value in zip(churn.FEATURES, row, strict=True)]


def test_rows_are_the_same_for_the_same_seed_and_fewer_are_the_beginning_of_more() -> None:
    assert list(churn.rows(20)) == ROWS[:20]
    assert list(churn.rows(20, seed=1)) != ROWS[:20]


def test_rows_cross_the_chunk_without_a_repeat() -> None:
    more = list(churn.rows(churn.CHUNK + 5))
    assert len(more) == churn.CHUNK + 5
    assert more[churn.CHUNK] != more[0]


def test_rows_fit_the_columns_of_the_table() -> None:
    for row in ROWS:
        customer = dict(zip(churn.FEATURES, row, strict=True))
        for name, kind in churn.TYPES.items():
            value = customer[name]
            if kind.startswith("varchar"):
                assert isinstance(value, str)
                assert 0 < len(value) <= int(kind[8:-1])
            else:
                assert isinstance(value, int if kind == "integer" else float)
                assert value >= 0
        assert customer["state"] in churn.STATES
        assert (customer["vmail_msg"] == 0) == (customer["vmail_plan"] == "no")


def test_the_states_are_fifty_and_the_capital() -> None:
    assert len(churn.STATES) == len(set(churn.STATES)) == 51


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_statement_names_the_features_in_their_order(dialect: str) -> None:
    for name in ("create_table", "insert_row", "copy_rows", "create_predict_churn"):
        text = churn.statement(name, dialect, **churn.named(churn.TABLE))
        words = text.replace("(", " ").replace(",", " ").split()
        places = [words.index(feature) for feature in churn.FEATURES]
        assert places == sorted(places), name


def test_the_databases_have_statements_of_the_same_names() -> None:
    postgresql, mysql = (set(sql.load(dialect, "demo")) for dialect in DIALECTS)
    assert postgresql == mysql


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_simulated_trigger_says_that_it_is_simulated(dialect: str) -> None:
    for name in ("create_trigger_function", "create_trigger"):
        assert sql.load(dialect, "demo")[name].purpose.startswith("SIMULATED")


def test_training_again_writes_the_same_files_byte_for_byte() -> None:
    trained = train.train()
    assert train.model_file(trained) == model.FILE.read_text(encoding="utf-8")
    for dialect in DIALECTS:
        shipped = (train.SQL_FOLDER / f"{dialect}.sql").read_text(encoding="utf-8")
        assert train.with_function(shipped, train.model_function(trained.model, dialect)) == shipped


def test_the_shipped_model_is_small_and_worth_something() -> None:
    found = json.loads(model.FILE.read_text(encoding="utf-8"))
    assert model.FILE.stat().st_size < 100_000
    assert 0.8 < found["metadata"]["held_out_auc"] < 0.95
    assert tuple(found["inputs"]) == churn.FEATURES


def test_area_under_curve_of_known_answers() -> None:
    target = np.array([0.0, 0.0, 1.0, 1.0])
    assert train.area_under_curve(target, np.array([0.1, 0.2, 0.3, 0.4])) == 1.0
    assert train.area_under_curve(target, np.array([0.4, 0.3, 0.2, 0.1])) == 0.0
    assert train.area_under_curve(target, np.full(4, 0.5)) == 0.5


def test_who_calls_for_help_and_has_a_plan_abroad_is_likelier_to_leave() -> None:
    calm = changed(ROWS[0], int_plan="no", cust_service_calls=0, day_charge=20.0, day_mins=120.0)
    upset = changed(ROWS[0], int_plan="yes", cust_service_calls=6, day_charge=20.0, day_mins=120.0)
    low, high = model.predict([calm, upset])
    assert low < 0.2
    assert high > 0.6


@given(st.lists(st.sampled_from(ROWS), max_size=40))
def test_a_row_gets_the_same_answer_in_every_batch_and_as_text(rows: list[churn.Row]) -> None:
    alone = [model.predict([row])[0] for row in rows]
    assert model.predict(rows) == alone
    assert model.predict([changed(row) for row in rows]) == alone
    assert all(0.0 < answer < 1.0 for answer in alone)


@given(st.permutations(range(20)))
def test_the_phone_counts_for_nothing_and_inputs_may_come_in_any_order(order: list[int]) -> None:
    names = [churn.FEATURES[place] for place in order]
    shuffled = [[row[place] for place in order] for row in ROWS[:5]]
    assert model.predict(shuffled, names) == model.predict([changed(row, phone="") for row in ROWS[:5]])


@dataclass
class Batch:
    """As rowscore hands rows to a Python model."""

    names: tuple[str, ...]
    rows: list[tuple[object, ...]]


def test_a_batch_of_rowscore_may_hold_more_inputs_than_the_model_uses() -> None:
    batch = Batch(("note", *churn.FEATURES), [("x", *row) for row in ROWS[:3]])
    assert model.predict_batch(batch) == model.predict(ROWS[:3])
    assert model.predict_batch(Batch(churn.FEATURES, [])) == []


def test_a_batch_without_an_input_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="needs the inputs state, phone as well"):
        model.predict_batch(
            Batch(tuple(name for name in churn.FEATURES if name not in ("state", "phone")), [])
        )


@pytest.mark.parametrize("value", ["many", "", "nan", "inf", "1e999", None])
def test_what_is_not_a_number_is_named_with_its_row_and_column(value: str | None) -> None:
    bad: list[object] = list(ROWS[1])
    bad[churn.FEATURES.index("day_mins")] = value
    with pytest.raises(model.BadRowError, match=r"row 3, column day_mins: .* is not a number"):
        model.predict([ROWS[0], ROWS[1], bad])


def test_a_missing_text_and_a_short_row_are_named() -> None:
    with pytest.raises(model.BadRowError, match="row 2, column state: None is not a text"):
        model.predict([ROWS[0], (None, *ROWS[1][1:])])
    with pytest.raises(model.BadRowError, match="row 2: 19 columns where 20 belong"):
        model.predict([ROWS[0], ROWS[1][1:]])


def test_a_factor_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'cubed'"):
        terms.Factor("cubed", ("day_mins",))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9))
def test_factors_do_what_they_say(numbers: list[float]) -> None:
    columns = {"a": np.array(numbers), "b": np.ones(len(numbers))}
    assert terms.above("a", "b", limit=3).evaluate(columns).tolist() == [float(x + 1 > 3) for x in numbers]
    expected = [max(0.0, (x + 1 - 3) / 2) for x in numbers]
    assert terms.excess("a", "b", limit=3, scale=2).evaluate(columns).tolist() == expected
    expected = [(x - 3) / 2 for x in numbers]
    assert terms.value("a", limit=3, scale=2).evaluate(columns).tolist() == expected


def test_terms_survive_the_file() -> None:
    for term in train.TERMS:
        assert terms.Term.from_json(json.loads(json.dumps(term.as_json()))) == term
