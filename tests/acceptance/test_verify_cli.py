"""`rowscore verify` as a user runs it: what changed past every trigger is found, shown, and scored again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.databases import Session, is_postgresql, one, only
from tests.support.deadlines import eventually
from tests.support.fleet import Fleet
from tests.support.predictions import add_items, applied, states
from tests.support.scorer import Scorer
from worker.demo.servers import RedisServer
from worker.engine import Engine
from worker.states import RowState

CONFORMANCE = True
PENDING, SCORED, EXISTING = RowState.PENDING.value, RowState.SCORED.value, RowState.EXISTING.value
ALONE = {"on_input_change": "fingerprint"}


@pytest.fixture
def scored(cli: Cli, rows: Session) -> Session:
    """A thousand rows from before, and a hundred that are scored, with their fingerprints and no trigger."""
    cli.configure(**ALONE)
    cli.run("apply")
    add_items(rows, 100)
    cli.run("run")
    assert states(rows) == {EXISTING: 1000, SCORED: 100}
    return rows


def test_what_changed_unseen_is_counted_shown_and_scored_again(cli: Cli, scored: Session) -> None:
    assert cli.run("verify").out.startswith("churn: 1,100 rows looked at in ")
    scored.execute("UPDATE items SET b = b + 1 WHERE id IN (1002, 1003, 7)")
    counted = cli.run("verify", "--dry-run").out
    assert "2 changed since they were scored, 0 unknown." in counted
    assert "  changed: 1002, 1003\n" in counted
    assert "wait" not in counted
    assert states(scored) == {EXISTING: 1000, SCORED: 100}
    found = cli.run("verify", "churn", "--json").document
    assert (found["rows"], found["changed"], found["unknown"], found["requeued"]) == (1100, 2, 0, 2)
    assert (found["held"], found["failing"], found["complete"], found["interrupted"]) == (0, 0, True, False)
    assert found["examples"] == [["1002"], ["1003"]]
    assert states(scored) == {EXISTING: 1000, SCORED: 98, PENDING: 2}
    cli.run("run")
    assert one(scored, "SELECT count(*) FROM items WHERE p = a + b") == 100
    assert "0 changed since they were scored" in cli.run("verify").out


def test_rows_that_others_hold_and_rows_of_which_nobody_knows_are_told_apart(
    cli: Cli, scored: Session
) -> None:
    scored.execute("UPDATE items SET churn_fingerprint = NULL WHERE id = 1010")
    scored.execute("UPDATE items SET b = 0 WHERE id IN (1020, 1021)")
    scored.execute("BEGIN")
    scored.execute("SELECT id FROM items WHERE id = 1020 FOR UPDATE")
    said = cli.run("verify").out
    scored.execute("ROLLBACK")
    assert "2 changed since they were scored, 1 unknown." in said
    assert "  1 row waits to be scored again\n" in said
    assert "  1 row held by others, left for the next time\n" in said
    assert "`rowscore verify churn --unknown` has them scored again, and paid for" in said
    assert "  2 rows wait to be scored again\n" in cli.run("verify", "--unknown").out
    assert states(scored) == {EXISTING: 1000, SCORED: 97, PENDING: 3}


def test_it_gives_way_and_may_be_interrupted(cli: Cli, scored: Session) -> None:
    scored.execute("UPDATE items SET b = 0")
    cli.run("pause", "--because", "the month is being closed")
    with cli.started("verify", "--json") as running:
        running.says("waiting: throttled: paused by an operator: the month is being closed")
        running.tell(signal.SIGINT)
        ended = running.end()
    assert ended.status == 130
    assert (ended.document["interrupted"], ended.document["complete"], ended.document["requeued"]) == (
        True, False, 0,
    )  # fmt: skip
    assert states(scored) == {EXISTING: 1000, SCORED: 100}
    cli.run("resume")
    assert cli.run("verify", "--json").document["requeued"] == 100


def test_switching_it_on_costs_nothing_and_it_is_shown_with_the_settings(cli: Cli, rows: Session) -> None:
    cli.run("apply")
    add_items(rows, 20)
    cli.run("run")
    said = cli.error("verify", status=2)
    assert said.startswith("churn keeps no fingerprints to compare with: set on_input_change = ")
    cli.configure(fingerprint="seen", verify_every="7d")
    printed = cli.run("apply", "--dry-run").out
    quoted = '"seen" bigint' if is_postgresql(rows) else "`seen` bigint"
    assert f"ADD COLUMN {quoted}" in printed
    cli.run("apply")
    assert "nothing to do" in cli.run("apply").out
    shown = cli.run("status", "--config").out
    for key, value in (("on_input_change", "trigger"), ("fingerprint", "seen"), ("verify_every", "7d")):
        assert any(line.split() == [key, "=", f'"{value}"'] for line in shown.splitlines()), shown
    assert cli.run("verify", "--json").document["unknown"] == 20
    assert "--unknown has rows scored again" in cli.error("verify", "--unknown", "--accept", status=2)
    assert "  20 rows taken to be as they were scored\n" in cli.run("verify", "--accept").out
    assert cli.run("verify", "--json").document["unknown"] == 0
    assert states(rows) == {EXISTING: 1000, SCORED: 20}
    assert "seen" in cli.run("apply", "--grants", "scorer").out
    cli.run("remove", "--drop-outputs", "--yes")
    assert one(rows, "SELECT count(*) FROM information_schema.columns WHERE column_name = 'seen'") == 0


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@only("postgresql")
def test_beat_has_rows_verified_by_themselves(
    tmp_path: Path, database_url: str, redis: RedisServer, scorer: Scorer, rows: Session
) -> None:
    """A thousand rows that were there before are none of its business; those that changed unseen are scored again."""
    with ExitStack() as stack:
        fleet = Fleet(stack, tmp_path, database_url, redis.url(), scorer.url)
        engine = Engine(fleet.configure(verify_every="500ms", **ALONE))
        stack.callback(engine.dispose)
        applied(engine)
        add_items(rows, 100)
        fleet.worker()
        fleet.beat()
        eventually(lambda: states(rows) == {EXISTING: 1000, SCORED: 100}, "all new rows scored")
        rows.execute("UPDATE items SET b = 3 WHERE id > 1090")
        again = "SELECT count(*) FROM items WHERE id > 1090 AND p = a + 3"
        eventually(lambda: one(rows, again) == 10, "the changed rows scored again")
        assert sorted(scorer.scored) == list(range(1001, 1101))
    assert states(rows) == {EXISTING: 1000, SCORED: 100}
