"""`diff`: what a shadow predicts otherwise, counted by the database itself."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.databases import Session, analyse, is_postgresql, series
from tests.support.predictions import opened
from tests.support.shadows import apply_both, make, score_both, shadowed
from worker.comparison import ClassChange, Difference, Example, compare
from worker.errors import ConfigurationError, NotAppliedError

CONFORMANCE = True


def compared(url: str, values: dict[str, str], kind: str, connection: Session, **options: Any) -> Difference:
    """The comparison of an output of that type, the rows of the table having these values in both columns."""
    models = {"model": {"python": "tests:none"}, "shadow": {"model": {"python": "tests:other"}}}
    with opened(shadowed(url, outputs={"p": kind}, **models)) as engine:
        apply_both(engine)
        both = ", ".join(f"{column} = {value}" for column, value in values.items())
        connection.execute(f"UPDATE items SET {both}, churn_state = 1, churn_shadow_state = 1")
        return compare(engine, **options)


def percentile(values: list[float], share: float) -> float:
    """The least value that this share of them does not exceed."""
    values = sorted(values)
    return next(value for place, value in enumerate(values, 1) if place >= share * len(values))


def test_numbers(database_url: str, connect: Connect) -> None:
    application = connect()
    make(application, 100)
    found = compared(database_url, {"p": "a", "p_shadow": "CASE WHEN a <= 90 THEN a ELSE a * a END"},
                     "double precision", application, examples=3)  # fmt: skip
    (output,) = found.outputs
    assert (found.rows, found.compared, found.only_live, found.only_shadow, found.sample) == (
        100,
        100,
        0,
        0,
        None,
    )
    assert (output.output, output.shadow, output.compared, output.changed) == ("p", "p_shadow", 100, 10)
    old = [float(a) for a in range(1, 101)]
    new = [a if a <= 90 else a * a for a in old]
    moves = [b - a for a, b in zip(old, new, strict=True)]
    for distribution, values in ((output.old, old), (output.new, new), (output.change, moves)):
        assert distribution is not None
        assert (distribution.count, distribution.min, distribution.max) == (100, min(values), max(values))
        assert distribution.mean == pytest.approx(statistics.fmean(values))
        for name, share in (("p5", 0.05), ("p25", 0.25), ("p50", 0.5), ("p75", 0.75), ("p95", 0.95)):
            assert getattr(distribution, name) == percentile(values, share), name
    assert output.examples == (
        Example(("100",), 100.0, 10000.0), Example(("99",), 99.0, 9801.0), Example(("98",), 98.0, 9604.0),
    )  # fmt: skip


def test_null_is_a_value_and_small_moves_are_none(database_url: str, connect: Connect) -> None:
    application = connect()
    make(application, 6)
    old = "CASE a WHEN 1 THEN NULL WHEN 2 THEN NULL WHEN 3 THEN 0 ELSE 1000 END"
    new = "CASE a WHEN 1 THEN NULL WHEN 2 THEN 7 WHEN 3 THEN 0 WHEN 4 THEN NULL WHEN 5 THEN 1000.0005 ELSE 1001 END"
    found = compared(database_url, {"p": old, "p_shadow": new}, "double precision", application)
    (output,) = found.outputs
    assert (output.compared, output.changed, output.old_nulls, output.new_nulls) == (6, 3, 2, 2)
    assert [item.key for item in output.examples] == [("2",), ("4",), ("6",)]
    assert output.examples[0] == Example(("2",), None, 7.0)
    assert output.change is not None
    assert (output.change.count, output.change.max) == (3, 1.0)
    with opened(
        shadowed(database_url, model={"python": "tests:none"}, shadow={"model": {"python": "tests:other"}})
    ) as engine:
        assert compare(engine, tolerance=1e-2).outputs[0].changed == 2
        assert compare(engine, tolerance=0).outputs[0].changed == 4
        assert compare(engine, examples=0).outputs[0].examples == ()


def test_rows_that_one_of_them_has_are_counted_apart(database_url: str, connect: Connect) -> None:
    application = connect()
    make(application, 10)
    with opened(shadowed(database_url)) as engine:
        with pytest.raises(NotAppliedError, match="churn is not applied"):
            compare(engine)
        apply_both(engine)
        (output,) = compare(engine).outputs
        assert (output.compared, output.changed, output.old and output.old.p50) == (0, 0, None)
        score_both(engine)
        application.execute("UPDATE items SET churn_state = 0 WHERE id <= 2")
        application.execute("UPDATE items SET churn_shadow_state = 2 WHERE id BETWEEN 3 AND 5")
        found = compare(engine, "churn_shadow")
        assert (found.live, found.shadow) == ("churn", "churn_shadow")
        assert (found.rows, found.compared, found.only_live, found.only_shadow) == (10, 5, 3, 2)
        assert found.outputs[0].compared == 5


KINDS = {
    "varchar(20)": ("'low'", "CASE WHEN a <= 7 THEN 'low' WHEN a <= 9 THEN 'LOW' END", ("low", "low"), ("low", "LOW")),
    "boolean": ("a > 1", "a > 3", None, None),
    "json": ("'{\"a\": 1}'", "CASE WHEN a <= 7 THEN '{\"a\": 1}' WHEN a <= 9 THEN '{\"a\": 2}' END",
             ('{"a": 1}', '{"a": 1}'), ('{"a": 1}', '{"a": 2}')),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_classes(database_url: str, connect: Connect, kind: str) -> None:
    """Letters in another case are another value whatever the collation says; documents are compared as such."""
    application = connect()
    make(application, 10)
    old, new, same, other = KINDS[kind]
    if is_postgresql(application) and kind == "json":
        old, new = f"CAST({old} AS json)", f"CAST({new} AS json)"
    found = compared(database_url, {"p": old, "p_shadow": new}, kind, application, examples=2)
    (output,) = found.outputs
    assert output.old is None
    if same is None or other is None:
        yes, no = ("true", "false") if is_postgresql(application) else ("1", "0")
        assert output.classes == (ClassChange(yes, yes, 7), ClassChange(yes, no, 2), ClassChange(no, no, 1))
        assert (output.compared, output.changed) == (10, 2)
        assert [item.key for item in output.examples] == [("2",), ("3",)]
        return
    assert output.classes == (ClassChange(*same, 7), ClassChange(*other, 2), ClassChange(same[0], None, 1))
    assert (output.compared, output.changed) == (10, 3)
    assert output.examples == (Example(("8",), *other), Example(("9",), *other))


def test_each_output_stands_for_itself(database_url: str, connect: Connect) -> None:
    application = connect()
    make(application, 4)
    models = {"model": {"python": "tests:none"}, "shadow": {"model": {"python": "tests:other"}}}
    with opened(
        shadowed(database_url, outputs={"p": "double precision", "label": "varchar(9)"}, **models)
    ) as engine:
        apply_both(engine)
        application.execute(
            "UPDATE items SET p = a, p_shadow = a, label = 'x', label_shadow = 'y', "
            "churn_state = 1, churn_shadow_state = 1"
        )
        assert [(item.output, item.changed) for item in compare(engine).outputs] == [("p", 0), ("label", 4)]


def test_a_sample_looks_at_a_part_of_the_table(database_url: str, connect: Connect) -> None:
    application = connect()
    make(application)
    with opened(shadowed(database_url)) as engine:
        apply_both(engine)
        for first in range(0, 40_000, 10_000):
            application.execute(
                f"INSERT INTO items (a, b, p, p_shadow, note, churn_state, churn_shadow_state) "
                f"SELECT i, 1, i, i + 1, 'x', 1, 1 FROM {series(application, first + 1, first + 10_000)}"
            )
        analyse(application)
        found = compare(engine, sample=4_000)
        (output,) = found.outputs
        assert found.sample == pytest.approx(0.1, rel=0.1)
        assert 2_000 < found.rows < 8_000, "about a tenth"
        assert output.compared == output.changed == found.compared == found.rows, (
            "each statement looks at the same rows"
        )
        assert compare(engine, sample=1_000_000).rows == 40_000
        with pytest.raises(ConfigurationError, match="--sample: expected a number of rows"):
            compare(engine, sample=0)


def test_without_a_shadow_it_says_what_to_write(database_url: str, connect: Connect) -> None:
    make(connect())
    words = r"predictions.churn has no shadow; a section \[predictions.churn.shadow\]"
    with (
        opened(shadowed(database_url, shadow=None)) as engine,
        pytest.raises(ConfigurationError, match=words),
    ):
        compare(engine)
