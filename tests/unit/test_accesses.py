"""What plans of MySQL and MariaDB do to a table, read from EXPLAIN's lines; and Aurora's account of batch mode."""

from __future__ import annotations

from typing import Any

import pytest

from worker.accesses import analyse, as_text, is_batched


def line(table: str | None, kind: str | None, **more: Any) -> dict[str, Any]:
    """One line as MySQL answers it."""
    usual = {"id": 1, "select_type": "SIMPLE", "partitions": None, "possible_keys": None, "key": None, "key_len": None,
             "ref": None, "rows": 1, "filtered": 100.0, "Extra": None}  # fmt: skip
    return {**usual, "table": table, "type": kind, **more}


CLAIMED = [
    line("<derived2>", "ALL", select_type="PRIMARY", rows=500),
    line("c", "eq_ref", select_type="UPDATE", key="PRIMARY"),
    line("c", "range", id=2, select_type="DERIVED", key="rowscore_churn_pending", rows="500"),
]


def test_a_claim_goes_by_its_indexes_and_rows_below_a_loop_count_once_for_each_outer_row() -> None:
    facts = analyse(CLAIMED, "items")
    assert facts.by_index
    assert facts.index_names == ("PRIMARY", "rowscore_churn_pending")
    assert facts.estimated_rows == 1000


@pytest.mark.parametrize("kind", ["ALL", "index"])
def test_a_table_or_an_index_read_from_end_to_end_is_seen(kind: str) -> None:
    facts = analyse([CLAIMED[0], line("c", kind, rows=10_000)], "items", limit=1000)
    assert facts.seq_scans == ("items",)
    assert not facts.by_index


def test_an_index_walked_in_order_as_far_as_the_limit_is_none() -> None:
    assert analyse(
        [line("c", "index", key="rowscore_churn_pending", rows=1000)], "items", limit=1000
    ).by_index


def test_other_tables_do_not_matter() -> None:
    assert analyse([line("q", "ALL"), line(None, None, rows=None)], "items").by_index


@pytest.mark.parametrize(
    "extra", ["Using where; Using join buffer (hash join)", "Using join buffer (flat, BNLH join)"]
)
def test_a_join_that_reads_its_whole_side_is_seen(extra: str) -> None:
    assert analyse([CLAIMED[0], line("c", "range", Extra=extra)], "items").hash_joins == ("items",)


def test_a_sort_of_the_tables_rows_is_seen_and_one_of_a_claim_is_not() -> None:
    assert analyse([line("c", "ref", Extra="Using where; Using filesort")], "items").sorts == ("items",)
    assert analyse([line("<derived2>", "ALL", Extra="Using filesort"), {**CLAIMED[2]}], "items").sorts == ()


def test_auroras_batch_mode_is_read() -> None:
    assert not is_batched(CLAIMED)
    assert is_batched([CLAIMED[0], line("c", "eq_ref", Extra="Using where; Batched machine learning")])


def test_lines_for_people_are_aligned_and_leave_out_what_does_not_matter() -> None:
    assert as_text(CLAIMED)[:2] == (
        "id  select_type  table       type    key                     key_len  rows  Extra",
        "1   PRIMARY      <derived2>  ALL                                      500",
    )
