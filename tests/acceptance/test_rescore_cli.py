"""`rowscore rescore` as a user meets it: a new model version, interrupted and resumed; and by Celery, by max_age."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.cli import Cli
from tests.support.deadlines import eventually
from tests.support.fleet import Fleet
from tests.support.predictions import add_items, make_items, states
from tests.support.scorer import Scorer
from worker.app import BACKFILL_QUEUE
from worker.demo.servers import RedisServer
from worker.states import RowState

SLOW = {"concurrency": 1, "max_rows_per_batch": 50, "max_rows_per_claim": 100, "lease_time": "2s"}
SCORED, EXISTING = RowState.SCORED, RowState.EXISTING


def over_http(cli: Cli, scorer: Scorer, version: str) -> None:
    """The prediction with the test's endpoint for a model of this version, applied."""
    versioned = {"column": "model", "value": version}
    cli.configure(inputs=["id", "a", "b"], model={"http": scorer.url}, version=versioned, **SLOW)
    cli.call("apply")


def by_version(rows: psycopg.Connection[Any]) -> dict[str, int]:
    """Scored rows of each version."""
    query = f"SELECT model, count(*) FROM items WHERE churn_state = {SCORED.value} AND p = a + b GROUP BY 1"
    return {str(version): int(count) for version, count in rows.execute(query).fetchall()}


def test_a_new_version_takes_over_row_by_row_and_may_be_stopped(
    cli: Cli, rows: psycopg.Connection[Any], scorer: Scorer
) -> None:
    over_http(cli, scorer, "1")
    cli.call("backfill")
    over_http(cli, scorer, "2")
    scorer.scored.clear()
    dry = cli.call("rescore", "--dry-run", "--json").document
    assert (dry["kind"], dry["rows"], dry["calls"], dict(scorer.scored)) == ("rescore", 1000, 20, {})
    scorer.hold()
    with cli.started("rescore") as running:
        assert scorer.entered.wait(20)
        shown = cli.call("status").out
        assert "\n  rescore      0 of 1,000" in shown
        assert "\n  backfill " not in shown
        document = cli.call("status", "--json").document["predictions"][0]
        assert (document["rescore"]["total"], document["backfill"]) == (1000, None)
        assert {lease["kind"] for lease in document["leases"]} == {"rescore"}
        refused = cli.error("backfill", status=1)
        assert "a rescore of churn is under way, and there is one run at a time" in refused
        assert "`rowscore rescore churn` goes on with it, and with --cancel ends it" in refused
        running.tell(signal.SIGINT)
        scorer.release()
        ended = running.end()
    assert ended.status == 130, ended
    assert "; `rowscore rescore churn` goes on from there." in ended.out
    found = by_version(rows)
    assert sum(found.values()) == 1000, "every row has a prediction all along"
    assert found["2"] < 1000
    finished = cli.run("rescore", "--json")
    assert f"churn: resuming: {found['2']:,} of 1,000 done" in finished.err
    assert (finished.document["kind"], finished.document["status"]) == ("rescore", "finished")
    assert by_version(rows) == {"2": 1000}
    assert set(scorer.scored.values()) == {1}
    assert "churn: rescore finished: nothing to score." in cli.call("rescore").out


def test_what_it_cannot_do_is_one_line(cli: Cli, rows: psycopg.Connection[Any]) -> None:
    cli.call("apply")
    unversioned = cli.error("rescore", status=2)
    assert "predictions.churn has no version, so nothing tells which model scored a row; add version = " in (
        unversioned
    )
    assert "no rescore of churn is under way" in cli.error("rescore", "--cancel", status=1)
    assert "--pause stands alone" in cli.error("rescore", "--pause", "--older-than", "1d", status=2)
    assert "--older-than: expected a duration" in cli.error("rescore", "--older-than", "old", status=2)
    finished = cli.call("rescore", "--older-than", "30d", "--workers", "2", "--json").document
    assert (finished["status"], finished["rows_total"]) == ("finished", 0)
    assert finished["options"]["older_than"] == "30d"
    assert states(rows) == {EXISTING: 1000}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


def test_celerys_workers_score_rows_again_that_are_too_old(
    tmp_path: Path, database_url: str, connect: Connect, redis: RedisServer, scorer: Scorer
) -> None:
    application = connect()
    make_items(application)
    cli = Cli(tmp_path, database_url)
    cli.environment["CELERY_BROKER_URL"] = redis.url()
    with ExitStack() as stack:
        fleet = Fleet(stack, tmp_path, database_url, redis.url(), scorer.url)
        fleet.configure(**SLOW, max_run_time="1s", max_age="1h")
        cli.call("apply")
        add_items(application, 300)
        cli.call("run")
        application.execute(
            "UPDATE items SET churn_scored_at = now() - interval '2 hours', p = -1 WHERE id <= 200"
        )
        scorer.scored.clear()
        fleet.worker(queue=f"rowscore,{BACKFILL_QUEUE}")
        result = fleet.app.send_task("rowscore.refresh", ("churn",)).get(timeout=20)
        assert (result["rows"], result["reason"]) == (200, None)
        query = "SELECT status, rows_scored FROM rowscore.run WHERE kind = 'rescore'"
        eventually(lambda: application.execute(query).fetchone() == ("finished", 200), "the run is finished")
        again = fleet.app.send_task("rowscore.refresh", ("churn",)).get(timeout=20)
        assert again["reason"].startswith("the last rescore began ")
    assert sorted(scorer.scored) == list(range(1, 201))
    assert set(scorer.scored.values()) == {1}
    right = "SELECT count(*) FROM items WHERE p = a + b"
    assert application.execute(right).fetchone() == (300,)
