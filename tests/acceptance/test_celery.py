"""Real workers, beats and Flower on a real Redis and real databases; what is about messages alone, on one of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from celery.result import AsyncResult

from tests.conftest import Connect
from tests.support.databases import Session, ago, only, own
from tests.support.deadlines import eventually
from tests.support.fleet import Fleet, children, events
from tests.support.predictions import add_items, applied, make_items, states
from tests.support.scorer import Scorer
from worker.demo.loopback import free_port
from worker.demo.servers import RedisServer, python_path
from worker.engine import Engine
from worker.errors import BrokerError, StaleDefinitionError
from worker.peers import worker_definitions
from worker.states import RowState

CONFORMANCE = True
MESSAGES = only("postgresql")  # no database takes part


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def scorer() -> Iterator[Scorer]:
    with Scorer() as server:
        yield server


@pytest.fixture
def rows(connect: Connect) -> Session:
    connection: Session = connect()
    make_items(connection)
    return connection


@pytest.fixture
def fleet(tmp_path: Path, database_url: str, redis: RedisServer, scorer: Scorer) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(stack, tmp_path, database_url, redis.url(), scorer.url)


def apply(fleet: Fleet, **options: object) -> None:
    """Write the configuration and apply it."""
    engine = Engine(fleet.configure(**options))
    try:
        applied(engine)
    finally:
        engine.dispose()


def all_scored(rows: Session, count: int) -> bool:
    return states(rows) == {RowState.SCORED: count}


def send(fleet: Fleet, task: str, **options: Any) -> AsyncResult:
    """Send a message to the prediction's task, as beat does."""
    return fleet.app.send_task(f"rowscore.{task}", ("churn",), **options)


def pending(rows: Session) -> int:
    return states(rows).get(RowState.PENDING, 0)


@pytest.mark.parametrize("beats", [1, 2])
def test_rows_that_come_are_scored_once_through_beat(
    fleet: Fleet, rows: Session, scorer: Scorer, beats: int
) -> None:
    apply(fleet, max_rows_per_claim=40)
    fleet.worker()
    for _ in range(beats):
        fleet.beat()
    add_items(rows, 300)
    eventually(lambda: all_scored(rows, 300), "all rows scored")
    add_items(rows, 50)
    eventually(lambda: all_scored(rows, 350), "the later rows scored")
    assert sum(scorer.scored.values()) == len(scorer.scored) == 350
    assert sorted(path.name for path in fleet.folder.iterdir()) == ["logs", "rowscore.toml"]


def test_duplicated_drains_pay_once(fleet: Fleet, rows: Session, scorer: Scorer) -> None:
    apply(fleet, max_rows_per_claim=20)
    add_items(rows, 1000)
    identity = str(uuid.uuid4())
    results = [send(fleet, "drain", task_id=identity) for _ in range(3)]
    results += [send(fleet, "drain") for _ in range(2)]
    fleet.worker()
    eventually(lambda: all_scored(rows, 1000), "all rows scored")
    assert all(result.get(timeout=10)["fault"] is None for result in results)
    assert sum(scorer.scored.values()) == len(scorer.scored) == 1000


@pytest.mark.parametrize("everyone", [False, True], ids=["parent", "parent-and-children"])
def test_a_worker_that_is_asked_to_end_finishes_its_batch(
    fleet: Fleet, rows: Session, scorer: Scorer, everyone: bool
) -> None:
    """Docker and Kubernetes signal the parent, systemd every process of the service."""
    apply(fleet, max_rows_per_claim=100)
    add_items(rows, 1000)
    worker = fleet.worker(concurrency=1)
    pool = children(worker) if everyone else []
    scorer.hold()
    result = send(fleet, "drain")
    assert scorer.entered.wait(10)
    for pid in (*pool, worker.pid):
        os.kill(pid, signal.SIGTERM)
    eventually(lambda: "Warm shutdown" in worker.output(), "a shutdown that has begun")
    assert worker.alive
    scorer.release()
    started = time.monotonic()
    eventually(lambda: not worker.alive, "a worker that has ended", 30)
    assert time.monotonic() - started < 10
    assert "Traceback" not in worker.output()
    assert result.get(timeout=5)["ended"] == "it was told to stop"
    assert states(rows) == {RowState.PENDING: 900, RowState.SCORED: 100}
    fleet.worker()
    send(fleet, "drain")
    eventually(lambda: all_scored(rows, 1000), "all rows scored")
    assert sum(scorer.scored.values()) == 1000


def test_a_terminated_drain_finishes_its_batch_and_its_process_is_replaced(
    fleet: Fleet, rows: Session, scorer: Scorer
) -> None:
    apply(fleet, max_rows_per_claim=100)
    add_items(rows, 1000)
    worker = fleet.worker(concurrency=1)
    (child,) = children(worker)
    scorer.hold()
    result = send(fleet, "drain")
    assert scorer.entered.wait(10)
    fleet.app.control.revoke(result.id, terminate=True)
    eventually(lambda: events(worker, "Terminating"), "a task that is terminated")
    scorer.release()
    eventually(lambda: children(worker) not in ([], [child]), "another process in the pool")
    assert states(rows) == {RowState.PENDING: 900, RowState.SCORED: 100}
    send(fleet, "drain")
    eventually(lambda: all_scored(rows, 1000), "all rows scored")
    assert sum(scorer.scored.values()) == 1000


def test_a_killed_process_loses_nothing(fleet: Fleet, rows: Session, scorer: Scorer) -> None:
    apply(fleet, max_rows_per_claim=100, lease_time="2s", workers=1)
    add_items(rows, 300)
    worker = fleet.worker(concurrency=1)
    (child,) = children(worker)
    scorer.hold()
    fleet.beat()
    assert scorer.entered.wait(10)
    os.kill(child, signal.SIGKILL)
    scorer.release()
    eventually(lambda: all_scored(rows, 300), "all rows scored")
    assert sorted(scorer.scored) == list(range(1, 301))
    assert sum(scorer.scored.values()) == 400  # the window in flight was paid for twice


@MESSAGES
def test_a_message_that_comes_too_late_is_dropped(fleet: Fleet, rows: Session, scorer: Scorer) -> None:
    apply(fleet)
    add_items(rows, 10)
    late = send(fleet, "tick", expires=0.1)
    fleet.worker()
    assert send(fleet, "prune").get(timeout=10) == {
        "prediction": "churn",
        "batches": 0,
        "failures": 0,
        "runs": 0,
    }
    assert late.state == "REVOKED"
    assert pending(rows) == 10
    assert not scorer.scored


def test_a_worker_with_an_old_file_refuses(fleet: Fleet, rows: Session) -> None:
    apply(fleet)
    add_items(rows, 10)
    old = fleet.configure(inputs=["id", "b", "a"])
    worker = fleet.worker()
    for task in ("tick", "drain", "retry"):
        with pytest.raises(StaleDefinitionError, match="run `rowscore apply churn` if the file is the newer"):
            send(fleet, task).get(timeout=10)
    assert pending(rows) == 10
    assert "Traceback" not in worker.output()
    (answer,) = worker_definitions(fleet.app).values()
    assert answer["pid"] == worker.pid
    assert answer["queues"] == ["rowscore"]
    assert answer["predictions"] == {"churn": {"definition": old.prediction().definition_hash, "version": ""}}


def test_failed_rows_are_tried_again(fleet: Fleet, rows: Session, scorer: Scorer) -> None:
    apply(fleet)
    add_items(rows, 20)
    scorer.poison = {7}
    fleet.worker()
    send(fleet, "drain").get(timeout=10)
    assert states(rows) == {RowState.SCORED: 19, RowState.FAILED: 1}
    scorer.poison = set()
    assert send(fleet, "retry").get(timeout=10)["retried"] == 0
    rows.execute(f"UPDATE {own(rows, 'failure')} SET next_retry_at = {ago(rows, 0)}")
    assert send(fleet, "retry").get(timeout=10)["retried"] == 1
    eventually(lambda: all_scored(rows, 20), "the row scored")


@MESSAGES
def test_flower_shows_what_a_drain_does(fleet: Fleet, rows: Session, scorer: Scorer) -> None:
    apply(fleet, max_rows_per_claim=10, concurrency=1)  # batch after batch, so that progress lasts
    add_items(rows, 40)
    flower = fleet.flower(port=free_port())
    fleet.worker()
    eventually(lambda: flower.get("workers?refresh=true"), "Flower to know the worker")
    scorer.delay = 0.6
    result = send(fleet, "drain")
    seen = eventually(lambda: flower.task(result.id, "PROGRESS"), "progress")
    assert seen["args"] == "('churn',)"
    assert re.fullmatch(r"\d+ rows scored, \d+ a second, 10 in the last batch", seen["result"])
    kept = flower.get(f"task/result/{result.id}")
    assert kept["state"] == "PROGRESS"
    done = eventually(lambda: flower.task(result.id, "SUCCESS"), "success")
    assert done["name"] == "rowscore.drain"
    assert "'scored': 40" in done["result"]
    assert flower.get(f"task/result/{result.id}")["result"]["scored"] == 40


@MESSAGES
def test_a_worker_outlives_its_broker(
    tmp_path: Path, database_url: str, rows: Session, scorer: Scorer
) -> None:
    with RedisServer(tmp_path / "redis") as broker, ExitStack() as stack:
        fleet = Fleet(stack, tmp_path, database_url, broker.url(), scorer.url)
        apply(fleet)
        worker = fleet.worker()
        broker.stop()
        with pytest.raises(BrokerError, match=r"the broker redis://.* cannot be reached: .*refused"):
            worker_definitions(fleet.app)
        eventually(lambda: events(worker, "Cannot connect to redis:.*Trying again"), "the outage in the log")
        broker.start()
        add_items(rows, 10)
        eventually(lambda: events(worker, "Connected to redis://")[1:], "the worker to come back")
        send(fleet, "tick")
        eventually(lambda: all_scored(rows, 10), "all rows scored")


@pytest.mark.parametrize("program", ["worker", "beat", "flower"])
def test_a_bad_file_is_one_line(tmp_path: Path, program: str) -> None:
    (tmp_path / "rowscore.toml").write_text("[predictions]\n")
    words = [sys.executable, "-m", "celery", "-A", "worker", program]
    env = {**os.environ, **python_path()}
    found = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=env, check=False)
    assert found.returncode == 2
    assert found.stderr == "rowscore: rowscore.toml: predictions: must not be empty\n"
