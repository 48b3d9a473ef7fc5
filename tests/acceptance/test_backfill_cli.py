"""`rowscore backfill` as a user pays for it: what it would cost, a sample that is paid for, and a cap that holds."""

from __future__ import annotations

import re
from typing import Any

import psycopg

from tests.support.cli import Cli
from tests.support.predictions import states
from tests.support.service import Service
from worker.states import RowState

SCORED, EXISTING = RowState.SCORED, RowState.EXISTING


def over_http(cli: Cli, service: Service, **options: Any) -> None:
    """The prediction with a model that has its price, applied."""
    model = {"http": service.url, "cost_per_call": 0.5, "cost_per_row": 0.01}
    cli.configure(
        inputs=["id", "a", "b"], model=model, max_rows_per_batch=50, max_rows_per_claim=100, **options
    )
    cli.call("apply")


def runs(rows: psycopg.Connection[Any]) -> list[Any]:
    """The status of each backfill."""
    return rows.execute("SELECT status FROM rowscore.run WHERE kind = 'backfill' ORDER BY id").fetchall()


def test_a_dry_run_calls_no_model_and_a_sample_no_more_than_it_says(
    cli: Cli, rows: psycopg.Connection[Any]
) -> None:
    with Service() as service:
        over_http(cli, service)
        dry = cli.run("backfill", "--dry-run", "--where", "a <= 420").out.splitlines()
        assert dry == [
            "churn: 420 rows, 9 model calls of up to 50 rows; nothing was begun.",
            "  the time is not known: --sample 500 calls the model on so many rows to measure it",
            "  about 8.70 by the model's cost_per_call and cost_per_row",
        ]
        assert service.sizes == []
        sampled = cli.run("backfill", "--dry-run", "--sample", "120").out.splitlines()
        assert sampled[0] == "churn: 1,000 rows, 20 model calls of up to 50 rows; nothing was begun."
        assert sampled[1].endswith("with one worker, the model alone")
        assert sampled[2:3] == ["  about 20.00 by the model's cost_per_call and cost_per_row"]
        assert sampled[3].startswith("  sample: 120 rows, 3 calls, ")
        assert sampled[3].endswith(", 2.70")
        assert sorted(service.sizes) == [20, 50, 50]
        service.sizes.clear()
        found = cli.call("backfill", "--dry-run", "--sample", "7", "--json").document
        assert (found["sample"]["rows"], found["sample"]["calls"], service.sizes) == (7, 1, [7])
        refused = cli.error("backfill", "--sample", "5", status=2)
        assert "--sample is for --dry-run: it calls the model and keeps no answer" in refused
    assert states(rows) == {EXISTING: 1000}
    assert runs(rows) == []


def test_a_budget_stops_at_its_cap_says_where_and_a_larger_one_goes_on(
    cli: Cli, rows: psycopg.Connection[Any]
) -> None:
    with Service() as service:
        over_http(cli, service, concurrency=1)
        stopped = cli.run("backfill", "--budget", "6 calls", status=1)
        assert re.fullmatch(
            r"churn: 300 of 1,000 done, at key 30[01]; the budget of 6 calls is spent: "  # done, or next
            r"a larger --budget goes on from there\.\n",
            stopped.out,
        )
        assert service.sizes == [50] * 6
        assert states(rows) == {SCORED: 300, EXISTING: 700}
        assert runs(rows) == [("running",)]
        again = cli.call("backfill", "--json", status=1).document
        assert again["key"] in (["300"], ["301"])
        assert again["spent"] == {"calls": 6, "rows": 300, "money": 6.0}
        assert len(service.sizes) == 6
        assert (again["this_process"]["spent"], again["finished"]) == (True, False)
        assert "backfill finished: 700 rows scored" in cli.call("backfill", "--budget", "20 calls").out
        assert len(service.sizes) == 20
    assert states(rows) == {SCORED: 1000}
    assert runs(rows) == [("finished",)]
