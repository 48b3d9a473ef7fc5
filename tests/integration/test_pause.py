"""An operator's pause, and tables that know of none: nothing is leased meanwhile, and it goes on when it is over."""

from __future__ import annotations

import signal as signals
from pathlib import Path

import pytest

from tests.conftest import Connect
from tests.support.cli import Cli
from tests.support.databases import Session, one, own
from tests.support.deadlines import eventually
from tests.support.predictions import (
    add_items,
    drain,
    states,
)
from tests.support.throttling import gated, held, leases, limited, scores
from worker import throttle
from worker.errors import NotAppliedError
from worker.outlook import look
from worker.states import RowState
from worker.status import read_status
from worker.throttle import read_standing

CONFORMANCE = True
PENDING, SCORED = RowState.PENDING.value, RowState.SCORED.value


@pytest.fixture
def application(connect: Connect) -> Session:
    """The application's session; see `gated`."""
    return gated(connect())


def test_a_pause_holds_ticks_up_outlasts_engines_and_ends(database_url: str, application: Session) -> None:
    with limited(database_url) as engine:
        add_items(application, 10)
        database = engine.database(engine.prediction())
        throttle.pause(database, "churn", None, "closing")
        assert held(engine, application).ended == "throttled: paused by an operator: closing"
    with limited(database_url) as engine:
        found = look(engine)
        assert (found.free, found.reason) == (0, "throttled: paused by an operator: closing")
        held(engine, application)
        status = read_status(engine).throttle
        assert status is not None
        assert (status.pause_reason, status.pause_left, status.kind) == ("closing", None, "pause")
        database = engine.database(engine.prediction())
        throttle.pause(database, "churn", 0.000001, None)  # another takes its place, and is over at once
        scores(engine, 10)
        assert look(engine).free == 2
        throttle.pause(database, "churn", 3600.0, None)
        left = read_standing(database, "churn").pause
        assert left is not None
        assert left.left is not None
        assert 3000 < left.left <= 3600
        assert throttle.resume(database, "churn")
        assert not throttle.resume(database, "churn")
        with pytest.raises(NotAppliedError, match="other is not applied"):
            throttle.pause(database, "other", None, None)


def test_rare_ticks_leave_looking_to_the_drains_that_look_already(
    database_url: str, application: Session
) -> None:
    with limited(database_url, query="SELECT reason FROM gate") as engine:
        add_items(application, 10)
        application.execute("INSERT INTO gate VALUES ('not now')")
        held(engine, application)
        assert look(engine, None, 30.0).free == 2
        looked = one(application, f"SELECT looked_at FROM {own(application, 'throttle')}")
        held(engine, application)
        assert one(application, f"SELECT looked_at FROM {own(application, 'throttle')}") == looked, (
            "not again at once"
        )
        assert look(engine, None, 3600.0).free == 0
        application.execute(f"UPDATE {own(application, 'throttle')} SET looked_at = NULL")
        assert look(engine, None, 3600.0).free == 2


def test_pause_and_resume_by_the_command_line_while_a_process_runs(
    database_url: str, application: Session, tmp_path: Path
) -> None:
    cli = Cli(tmp_path, database_url)
    cli.call("apply")
    add_items(application, 10)
    with cli.started("run", "churn", "--for", "600s") as running:
        eventually(lambda: states(application).get(SCORED) == 10, "the process works")
        said = cli.run("pause", "--because", "closing", "--for", "2h")
        assert said.out == "churn: paused for 2 h.\n"
        running.says("throttled: paused by an operator: closing")
        add_items(application, 10)
        status = cli.call("status")
        assert ": closing; goes on with: rowscore resume churn" in status.out
        document = cli.call("status", "--json").document["predictions"][0]
        assert document["throttle"]["kind"] == "pause"
        assert document["throttle"]["pause_reason"] == "closing"
        assert states(application) == {SCORED: 10, PENDING: 10}
        assert leases(application) == 0
        assert cli.run("resume", "churn", "--json").document == {"resumed": ["churn"]}
        eventually(lambda: states(application).get(SCORED) == 20, "the process goes on")
        running.tell(signals.SIGINT)
        assert running.end().status == 130
    assert cli.call("resume").out == "churn: was not paused.\n"


def test_pause_of_what_was_never_applied_is_one_line(
    database_url: str, application: Session, tmp_path: Path
) -> None:
    cli = Cli(tmp_path, database_url)
    assert application is not None
    for command in ("pause", "resume"):
        assert "run `rowscore apply churn`" in cli.error(command, status=1)


def test_tables_of_an_older_rowscore_are_one_line_and_not_a_lost_row(
    database_url: str, application: Session
) -> None:
    with limited(database_url) as engine:
        add_items(application, 10)
        application.execute(f"DROP TABLE {own(application, 'throttle')}")
        database = engine.database(engine.prediction())
        for attempt in (
            lambda: drain(engine),
            lambda: look(engine),
            lambda: read_status(engine),
            lambda: throttle.pause(database, "churn", None, None),
            lambda: throttle.resume(database, "churn"),
        ):
            with pytest.raises(
                NotAppliedError, match=r"are older than this rowscore.*run `rowscore apply churn`"
            ):
                attempt()
    assert states(application) == {PENDING: 10}
    assert leases(application) == 0
