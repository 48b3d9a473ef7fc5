"""Several workers on one backfill: local processes, and Celery's on their own queue; killed, interrupted, resumed."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from tests.conftest import Connect
from tests.support.cli import Cli, Running
from tests.support.deadlines import eventually
from tests.support.fleet import Fleet, Flower, children
from tests.support.predictions import add_items, make_items, states
from tests.support.scorer import Scorer
from worker.app import BACKFILL_QUEUE
from worker.demo.loopback import free_port
from worker.demo.servers import RedisServer
from worker.states import RowState

SLOW = {"concurrency": 1, "max_rows_per_batch": 50, "max_rows_per_claim": 100, "lease_time": "2s"}
SCORED, EXISTING = RowState.SCORED, RowState.EXISTING


def over_http(cli: Cli, scorer: Scorer, **options: Any) -> None:
    """The prediction with the test's endpoint for a model."""
    cli.configure(inputs=["id", "a", "b"], model={"http": scorer.url}, **{**SLOW, **options})


def crew_of(running: Running) -> list[psutil.Process]:
    """The processes that work, without multiprocessing's own."""

    def found() -> list[psutil.Process]:
        below = psutil.Process(running.process.pid).children()
        return [process for process in below if "spawn_main" in " ".join(process.cmdline())]

    eventually(lambda: len(found()) == 2, "two processes")
    return found()


def done(rows: psycopg.Connection[Any]) -> int:
    return states(rows).get(SCORED, 0)


# --- local processes --------------------------------------------------------------------------------------


def test_two_processes_share_a_backfill_and_pay_once(
    cli: Cli, rows: psycopg.Connection[Any], scorer: Scorer
) -> None:
    over_http(cli, scorer)
    cli.call("apply")
    scorer.hold()
    with cli.started("backfill", "--workers", "2", "--json") as running:
        owners = "SELECT count(DISTINCT owner) FROM rowscore.lease"
        eventually(lambda: rows.execute(owners).fetchone() == (2,), "both of them work")
        scorer.release()
        document = running.end().document
    assert (document["status"], document["rows_scored"], document["finished"]) == ("finished", 1000, True)
    assert document["this_process"]["scored"] == 1000
    assert states(rows) == {SCORED: 1000}
    assert set(scorer.scored.values()) == {1}


def test_a_process_that_is_killed_is_replaced_and_nothing_is_lost(
    cli: Cli, rows: psycopg.Connection[Any], scorer: Scorer
) -> None:
    over_http(cli, scorer)
    cli.call("apply")
    scorer.hold()
    with cli.started("backfill", "--workers", "2") as running:
        crew = crew_of(running)
        assert scorer.entered.wait(20)
        os.kill(crew[0].pid, signal.SIGKILL)
        running.says("was killed by signal 9; another takes its place")
        scorer.release()
        ended = running.end()
    assert ended.status == 0, ended
    assert "backfill finished" in ended.out
    assert states(rows) == {SCORED: 1000}


def test_ctrl_c_ends_all_processes_cleanly_and_the_next_call_goes_on(
    cli: Cli, rows: psycopg.Connection[Any], scorer: Scorer
) -> None:
    over_http(cli, scorer)
    cli.call("apply")
    scorer.delay = 0.05
    with cli.started("backfill", "--workers", "2", "--where", "a <= 900") as running:
        crew = crew_of(running)
        eventually(lambda: done(rows) > 0, "a batch that is written")
        for pid in (running.process.pid, *(process.pid for process in crew)):  # as a terminal does it
            os.kill(pid, signal.SIGINT)
        ended = running.end()
    assert ended.status == 130, ended
    assert "`rowscore backfill churn` goes on from there" in ended.out
    assert not any(process.is_running() for process in crew)
    scorer.delay = 0.0
    finished = cli.run("backfill", "--workers", "2")
    assert "resuming" in finished.err
    assert '--where "a <= 900"' in finished.err
    assert states(rows) == {SCORED: 900, EXISTING: 100}
    assert set(scorer.scored.values()) == {1}, "each row was paid for once"


def test_processes_end_when_the_one_that_started_them_is_killed(
    cli: Cli, rows: psycopg.Connection[Any], scorer: Scorer
) -> None:
    over_http(cli, scorer)
    cli.call("apply")
    scorer.delay = 0.02
    with cli.started("backfill", "--workers", "2") as running:
        crew = crew_of(running)
        eventually(lambda: done(rows) > 0, "a batch that is written")
        running.tell(signal.SIGKILL)
        running.end()
    eventually(lambda: not any(process.is_running() for process in crew), "no process is left behind")
    scorer.delay = 0.0
    assert cli.run("backfill", "--json").document["rows_scored"] == 1000
    assert states(rows) == {SCORED: 1000}


def test_pause_resume_and_cancel_from_another_terminal(
    cli: Cli, rows: psycopg.Connection[Any], scorer: Scorer
) -> None:
    over_http(cli, scorer)
    cli.call("apply")
    assert cli.error("backfill", "--pause", status=1) == "no backfill of churn is under way"
    scorer.hold()
    with cli.started("backfill", "--workers", "2") as running:
        assert scorer.entered.wait(20)
        paused = cli.call("backfill", "--pause").out
        assert (
            "churn: the backfill is paused; `rowscore backfill churn --resume` lets it go on: 0 of 1,000"
            in paused
        )
        scorer.release()
        running.says("waiting: it is paused")
        assert "paused" in cli.call("status").out
        assert (
            json.loads(cli.call("status", "--json").out)["predictions"][0]["backfill"]["status"] == "paused"
        )
        scorer.hold()
        cli.call("backfill", "--resume")
        assert scorer.entered.wait(20), "it goes on"
        cancelled = cli.call("backfill", "--cancel", "--json").document
        assert cancelled["status"] == "cancelled"
        scorer.release()
        ended = running.end()
    assert "the backfill was cancelled" in ended.out
    assert done(rows) < 1000


def test_options_that_do_not_fit_are_one_line(cli: Cli, rows: psycopg.Connection[Any]) -> None:
    cli.call("apply")
    assert "--workers 3 is more than backfill_workers of churn, which is 2" in cli.error(
        "backfill", "--workers", "3", status=2
    )
    assert "--pause stands alone" in cli.error("backfill", "--pause", "--where", "a > 1", status=2)
    assert "--rate: expected rows a second" in cli.error("backfill", "--rate", "fast", status=2)
    assert "--between: expected hours" in cli.error("backfill", "--between", "night", status=2)
    assert "--where: the database refuses it" in cli.error("backfill", "--where", "nope > 1", status=2)
    assert states(rows) == {EXISTING: 1000}


# --- Celery -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


class Site:
    """A folder with a configuration, Celery's workers in it, and the command beside them."""

    def __init__(self, fleet: Fleet, cli: Cli) -> None:
        self.fleet, self.cli = fleet, cli


@pytest.fixture
def site(tmp_path: Path, database_url: str, redis: RedisServer, scorer: Scorer) -> Iterator[Site]:
    with ExitStack() as stack:
        cli = Cli(tmp_path, database_url)
        cli.environment["CELERY_BROKER_URL"] = redis.url()
        fleet = Fleet(stack, tmp_path, database_url, redis.url(), scorer.url)
        fleet.configure(**SLOW, max_run_time="1s")
        fleet.app.control.purge()
        yield Site(fleet, cli)


SPENT = "SELECT status, spent_calls, spent_rows FROM rowscore.run WHERE kind = 'backfill'"
PROGRESS = r"backfill: \d+ of 1,000 rows done; \d+ rows scored, \d+ a second, 100 in the last batch"


def progress(flower: Flower) -> list[str]:
    """What Flower shows of the backfill's tasks that are under way."""
    tasks = flower.get("tasks?taskname=rowscore.backfill") or {}
    return [task["result"] for task in tasks.values() if task["state"] == "PROGRESS"]


def test_celerys_workers_do_a_backfill_within_its_budget_and_fresh_rows_have_their_own(
    site: Site, connect: Connect, scorer: Scorer
) -> None:
    rows = connect()
    make_items(rows, 1000)
    site.fleet.configure(**SLOW, max_run_time="10s")
    site.cli.call("apply")
    scorer.delay = 0.05
    site.fleet.worker()
    site.fleet.beat()
    flower = site.fleet.flower(port=free_port())
    with site.cli.started("backfill", "--celery", "--budget", "12 calls") as running:
        running.says(f"celery -A worker worker -Q {BACKFILL_QUEUE}")
        assert states(rows) == {EXISTING: 1000}, "the workers of fresh rows take none of it"
        add_items(rows, 50)
        eventually(lambda: done(rows) == 50, "fresh rows are scored meanwhile")
        site.fleet.worker(queue=BACKFILL_QUEUE)
        spent = running.end()
    assert spent.status == 1, spent
    assert "churn: 600 of 1,000 done, at key " in spent.out
    assert "; the budget of 12 calls is spent: a larger --budget goes on from there." in spent.out
    assert rows.execute(SPENT).fetchall() == [("running", 12, 600)]
    assert states(rows) == {SCORED: 650, EXISTING: 400}
    eventually(lambda: flower.get("workers?refresh=true"), "Flower to know the workers")
    scorer.delay = 0.6
    with site.cli.started("backfill", "--budget", "30 calls", "--json") as running:
        texts = eventually(lambda: progress(flower), "progress")
        ended = running.end()
    assert all(re.fullmatch(PROGRESS, text) for text in texts), texts
    document = json.loads(ended.out)
    assert (document["status"], document["rows_scored"]) == ("finished", 1000)
    assert states(rows) == {SCORED: 1050}
    assert set(scorer.scored.values()) == {1}


def test_a_killed_celery_process_costs_its_batch_and_the_backfill_goes_on(
    site: Site, connect: Connect, scorer: Scorer
) -> None:
    rows = connect()
    make_items(rows, 600)
    site.cli.call("apply")
    worker = site.fleet.worker(concurrency=1, queue=BACKFILL_QUEUE)
    (child,) = children(worker)
    scorer.hold()
    with site.cli.started("backfill", "--celery") as running:
        assert scorer.entered.wait(20)
        running.tell(signal.SIGINT)
        ended = running.end()
        assert ended.status == 130
        assert "Celery's workers go on" in ended.out
    os.kill(child, signal.SIGKILL)
    scorer.release()
    site.fleet.worker(concurrency=1)  # takes the ticks
    site.fleet.beat()  # whose tick sends another task
    eventually(lambda: states(rows) == {SCORED: 600}, "all rows scored", 60)
    assert "Traceback" not in ended.err
    query = "SELECT status FROM rowscore.run WHERE kind = 'backfill'"
    eventually(lambda: rows.execute(query).fetchone() == ("finished",), "the run is finished")
    assert sum(times > 1 for times in scorer.scored.values()) <= SLOW["max_rows_per_claim"]
