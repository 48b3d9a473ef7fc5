"""What plans do to a table, read from EXPLAIN's own output; and Aurora's account of batch mode."""

from __future__ import annotations

import json
from typing import Any

import pytest

from worker.plans import BatchProcessing, analyse, nested_functions, nested_functions_in, parse_batches


def scan(kind: str, **more: Any) -> dict[str, Any]:
    return {"Node Type": kind, "Relation Name": "items", "Alias": "c", "Plan Rows": 10, **more}


def plan(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"Plan": node}]


BY_KEY = scan("Index Scan", **{"Index Name": "items_pkey", "Plan Rows": 1, "Parent Relationship": "Inner"})
CLAIMED = {"Node Type": "CTE Scan", "CTE Name": "claimed", "Plan Rows": 500, "Parent Relationship": "Outer"}


def test_a_sequential_scan_of_the_table_is_seen_at_any_depth() -> None:
    facts = analyse(
        plan({"Node Type": "Limit", "Plans": [{"Node Type": "Sort", "Plans": [scan("Seq Scan")]}]}), "items"
    )
    assert facts.seq_scans == ("items",)
    assert not facts.by_index


def test_other_tables_do_not_matter() -> None:
    other = {"Node Type": "Seq Scan", "Relation Name": "prediction", "Plan Rows": 1}
    facts = analyse(plan({"Node Type": "Nested Loop", "Plans": [other, BY_KEY]}), "items")
    assert facts.by_index
    assert facts.index_names == ("items_pkey",)


@pytest.mark.parametrize("join", ["Hash Join", "Merge Join"])
def test_a_join_that_reads_its_whole_side_is_seen(join: str) -> None:
    hashed = {"Node Type": "Hash", "Plans": [scan("Index Scan", **{"Index Name": "items_pkey"})]}
    assert analyse(plan({"Node Type": join, "Plans": [CLAIMED, hashed]}), "items").hash_joins == ("items",)


def test_a_hash_join_beside_the_table_is_none_over_it() -> None:
    own = {
        "Node Type": "Hash Join",
        "Plans": [{"Node Type": "Seq Scan", "Relation Name": "run", "Plan Rows": 1}],
    }
    assert analyse(plan({"Node Type": "Append", "Plans": [own, BY_KEY]}), "items").by_index


def test_an_update_names_its_target_and_does_not_scan_it() -> None:
    write = {"Node Type": "ModifyTable", "Operation": "Update", "Relation Name": "items", "Plans": [CLAIMED]}
    assert analyse(plan(write), "items").by_index


def test_a_bitmaps_indexes_are_found_below_it() -> None:
    maps = [{"Node Type": "Bitmap Index Scan", "Index Name": name} for name in ("first", "second")]
    heap = scan("Bitmap Heap Scan", Plans=[{"Node Type": "BitmapAnd", "Plans": maps}])
    assert analyse(plan(heap), "items").index_names == ("first", "second")


def test_partitions_are_named_one_by_one() -> None:
    parts = [
        {"Node Type": "Seq Scan", "Relation Name": name, "Plan Rows": 3} for name in ("items_1", "items_2")
    ]
    facts = analyse(plan({"Node Type": "Append", "Plans": parts}), ["items", "items_1", "items_2"])
    assert facts.seq_scans == ("items_1", "items_2")
    assert facts.estimated_rows == 6


def test_rows_below_a_nested_loop_count_once_for_each_outer_row() -> None:
    facts = analyse(plan({"Node Type": "Nested Loop", "Plans": [CLAIMED, BY_KEY]}), "items")
    assert facts.estimated_rows == 500


def test_rows_scanned_need_analyze() -> None:
    assert analyse(plan(BY_KEY), "items").rows_scanned is None


def test_rows_scanned_are_those_read_not_those_that_came_out() -> None:
    measured = {"Actual Rows": 2.0, "Actual Loops": 3, "Rows Removed by Filter": 5}
    assert analyse(plan({**BY_KEY, **measured}), "items").rows_scanned == 21


def test_text_is_taken_as_well() -> None:
    assert analyse(json.dumps(plan(scan("Seq Scan"))), "items").seq_scans == ("items",)


@pytest.mark.parametrize("other", ["[]", "{}", "[1]", "null"])
def test_what_is_no_plan_is_refused(other: str) -> None:
    with pytest.raises(ValueError, match="EXPLAIN"):
        analyse(other, "items")


AURORA_BATCHED = {
    "Node Type": "Nested Loop",
    "Plan Rows": 3333,
    "Plans": [
        {"Node Type": "Seq Scan", "Relation Name": "churn_inserts", "Schema": "mltest", "Plan Rows": 3333},
        {
            "Node Type": "Function Scan",
            "Function Name": "invoke_endpoint",
            "Schema": "aws_sagemaker",
            "Plan Rows": 1,
        },
    ],
}


def test_batch_mode_is_a_function_scan_below_a_nested_loop() -> None:
    assert nested_functions(plan(AURORA_BATCHED)) == ("aws_sagemaker.invoke_endpoint",)


# As AWS's user guide prints it, under "Function migration from the SELECT statement to the FROM clause".
MIGRATED = """\
 Nested Loop
   Output: anomaly_score((r.description)::text)
   ->  Seq Scan on ts.r
         Output: r.id, r.description, r.score
   ->  Function Scan on public.anomaly_score
         Output: anomaly_score.anomaly_score
         Function Call: anomaly_score((r.description)::text)"""


def test_the_plan_that_aws_prints_is_read_as_text() -> None:
    assert nested_functions_in(MIGRATED) == ("public.anomaly_score",)
    assert nested_functions_in(
        "Update on a\n  CTE answered\n    ->  " + MIGRATED.replace("\n", "\n       ")
    ) == ("public.anomaly_score",)
    other = "Sort\n  ->  Nested Loop\n        ->  Seq Scan on a\n  ->  Function Scan on f"
    assert nested_functions_in(other) == (), "beside the loop, not below it"
    assert nested_functions_in("Function Scan on f\n  Function Call: f()") == ()
    assert nested_functions_in("") == ()


def test_a_function_in_from_is_not_batch_mode() -> None:
    assert nested_functions(plan({"Node Type": "Function Scan", "Function Name": "unnest"})) == ()


AURORA_ANALYZE = """\
 Nested Loop  (cost=0.00..836.01 rows=3333 width=31) (actual time=147.025..150.612 rows=3333 loops=1)
   ->  Seq Scan on churn_inserts  (cost=0.00..86.33 rows=3333 width=131) (actual rows=3333 loops=1)
   ->  Function Scan on invoke_endpoint  (cost=0.00..0.02 rows=1 width=32) (actual rows=1 loops=3333)
         Batch Processing: num batches=1 avg/min/max batch size=3333.000/3333.000/3333.000
                                         avg/min/max batch call time=146.273/146.273/146.273
 Planning Time: 0.302 ms
"""


def test_auroras_account_of_its_batches_is_read() -> None:
    sizes, times = (3333.0, 3333.0, 3333.0), (146.273, 146.273, 146.273)
    assert parse_batches(AURORA_ANALYZE) == (BatchProcessing(1, sizes, times),)


def test_an_account_without_times_and_several_of_them_are_read() -> None:
    text = """Batch Processing: num batches=4 avg/min/max batch size=2.5/1/4
              Batch Processing: num batches=1 avg/min/max batch size=7/7/7"""
    assert [(found.batches, found.rows, found.milliseconds) for found in parse_batches(text)] == [
        (4, (2.5, 1.0, 4.0), None),
        (1, (7.0, 7.0, 7.0), None),
    ]


def test_a_plan_without_batches_has_none() -> None:
    assert parse_batches("Seq Scan on items (actual rows=3 loops=1)") == ()
