"""Rows that are too old are scored again on a schedule, on the day's budget; old runs go, and the view is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tasks.backfills import _RunProgress
from tests.conftest import Connect
from tests.integration.test_backfill import PENDING, SCORED, WAYS, double_of, model
from tests.integration.test_rescore import RESCORE, runs
from tests.support.databases import Session, ago, is_postgresql, one, own
from tests.support.predictions import (
    add_items,
    applied,
    calls,
    configuration,
    drain,
    make_items,
    opened,
    states,
)
from worker import backfill, errors, upkeep
from worker.app import create_app
from worker.backfill import BackfillRun
from worker.batch import BatchResult
from worker.drain import Summary
from worker.engine import Engine
from worker.options import Options
from worker.outlook import look_at_backfill
from worker.states import RunKind, RunStatus

CONFORMANCE = True
HOUR, DAY = 3600, 86400


def work(engine: Engine, run: BackfillRun | None) -> Summary:
    """Work on the run until it ends."""
    assert run is not None
    return backfill.work(engine, None, run, lambda *_: None, lambda _: None)


def scored_before(application: Session, seconds: float, first: int, last: int) -> None:
    """These rows were scored so long ago, and not with what the model answers now."""
    application.execute(
        f"UPDATE items SET churn_scored_at = {ago(application, seconds)}, p = -1 WHERE id BETWEEN {first} AND {last}"
    )


def since(application: Session, seconds: float) -> None:
    """The rescores began so much earlier."""
    run = own(application, "run")
    application.execute(f"UPDATE {run} SET started_at = {ago(application, seconds)} WHERE kind = 'rescore'")


@pytest.fixture
def rows(connect: Connect) -> Session:
    connection = connect()
    make_items(connection)
    return connection


@pytest.fixture
def engine(database_url: str, rows: Session) -> Iterator[Engine]:
    """Sixty scored rows, and a prediction whose rows live for thirty days."""
    with opened(configuration(database_url, max_age="30d", max_rows_per_claim=10)) as engine:
        applied(engine)
        add_items(rows, 60)
        drain(engine)
        calls(rows)
        yield engine


# --- by hand ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_rows_that_are_older_are_scored_again_once(database_url: str, rows: Session, way: str) -> None:
    """No version is needed; who does not know when a row was scored takes it for old."""
    config = configuration(database_url, model=model(way), max_rows_per_claim=10)
    with opened(config, double_of(way)) as engine:
        applied(engine)
        add_items(rows, 60)
        drain(engine)
        calls(rows)
        scored_before(rows, 31 * DAY, 1, 20)
        scored_before(rows, 29 * DAY, 21, 40)
        rows.execute("UPDATE items SET churn_scored_at = NULL, p = -1 WHERE id = 50")
        rows.execute("UPDATE items SET b = 11 WHERE id = 3")
        older = Options(older_than="30d")
        run = backfill.begin(engine, None, older, RESCORE)
        assert run.total == 20
        assert backfill.begin(engine, None, older, RESCORE).options.before == run.options.before
        assert work(engine, run).scored == 20
        assert states(rows) == {SCORED: 59, PENDING: 1}
        assert one(rows, "SELECT count(*) FROM items WHERE p = a + b AND id NOT BETWEEN 21 AND 40") == 39
        assert one(rows, "SELECT count(*) FROM items WHERE p = -1") == 21, (
            "the younger, and the one that waits"
        )
        assert work(engine, backfill.begin(engine, None, older, RESCORE)).scored == 0
        if way != "worker":
            assert calls(rows) == 20
        with pytest.raises(
            errors.ConfigurationError, match=r'--older-than: expected a duration such as "500ms"'
        ):
            Options(older_than="old")


def test_the_moment_is_decided_once_so_that_it_ends(engine: Engine, rows: Session) -> None:
    """A row that grows too old while the run goes on is the next one's."""
    scored_before(rows, 10 * DAY + 5, 1, 30)
    run = backfill.begin(engine, None, Options(older_than="10d"), RESCORE)
    scored_before(rows, 10 * DAY - 1, 31, 31)
    eldest = datetime.fromisoformat(str(run.options.before))
    rows.execute("UPDATE items SET churn_scored_at = %s WHERE id = 32", [eldest])
    assert run.total == 30
    with opened(engine.configuration) as later:
        again = backfill.begin(later, kind=RESCORE)
        assert (again.resumed, again.options.before) == (True, run.options.before)
        assert work(later, again).scored == 30


# --- by max_age -------------------------------------------------------------------------------------------


def test_max_age_begins_one_rescore_for_celery_and_not_another_too_soon(
    engine: Engine, rows: Session
) -> None:
    scored_before(rows, 31 * DAY, 1, 25)
    found = upkeep.refresh(engine)
    run = found.begun
    assert run is not None
    assert (found.reason, run.kind, run.total) == (None, RESCORE, 25)
    assert str(run.options) == "--celery --older-than 30d"
    assert upkeep.refresh(engine) == upkeep.Refreshed(None, "a rescore is under way")
    assert look_at_backfill(engine).free == 2, "a tick sends tasks for it"
    assert work(engine, run).scored == 25
    assert runs(rows) == [("finished", 25, 25, 0, 0)]
    scored_before(rows, 31 * DAY, 1, 5)
    assert str(upkeep.refresh(engine).reason).startswith("the last rescore began ")
    since(rows, DAY - 60)
    assert upkeep.refresh(engine).begun is None
    since(rows, DAY)
    assert work(engine, upkeep.refresh(engine).begun).scored == 5
    assert calls(rows) == 30


def test_where_no_row_is_too_old_the_run_is_over_at_once(engine: Engine, rows: Session) -> None:
    run = upkeep.refresh(engine).begun
    assert run is not None
    assert runs(rows) == [("finished", 0, 0, 0, 0)]
    assert backfill.live(engine) is None
    assert str(upkeep.refresh(engine).reason).startswith("the last rescore began ")
    assert calls(rows) == 0


@pytest.mark.parametrize("kind", [RunKind.BACKFILL, RESCORE])
def test_a_run_of_a_persons_has_precedence(engine: Engine, rows: Session, kind: RunKind) -> None:
    backfill.begin(engine, None, Options(older_than="1d") if kind is RESCORE else None, kind)
    backfill.change(engine, None, RunStatus.PAUSED, kind)
    assert upkeep.refresh(engine) == upkeep.Refreshed(None, f"a {kind.value} is under way")
    assert calls(rows) == 0


def test_a_person_is_told_of_the_one_by_max_age_and_may_end_it(engine: Engine, rows: Session) -> None:
    scored_before(rows, 31 * DAY, 1, 5)
    upkeep.refresh(engine)
    with pytest.raises(
        errors.RefusedError, match=r"by max_age is under way.*`rowscore rescore churn --cancel`"
    ):
        backfill.begin(engine, None, Options(older_than="30d"), RESCORE)
    backfill.change(engine, None, RunStatus.CANCELLED, RESCORE)
    assert runs(rows)[0][0] == "cancelled"
    assert work(engine, backfill.begin(engine, None, Options(older_than="30d"), RESCORE)).scored == 5


@pytest.mark.parametrize("way", WAYS)
def test_it_spends_the_days_budget_beside_the_rows_that_come(
    database_url: str, rows: Session, way: str
) -> None:
    paid = 0

    def counted(batch: Any) -> Any:
        nonlocal paid
        paid += len(batch)
        return [(row[0] + row[1],) for row in batch.rows]

    config = configuration(
        database_url, model=model(way), max_age="1d", daily_budget="100 rows", max_rows_per_claim=20
    )
    with opened(config, counted if way == "worker" else None) as engine:
        applied(engine)
        add_items(rows, 60)
        assert drain(engine).scored == 60
        scored_before(rows, 2 * DAY, 1, 60)
        run = upkeep.refresh(engine).begun
        summary = work(engine, run)
        assert (summary.scored, summary.spent) == (40, True)
        assert summary.ended == "the daily budget of 100 rows is spent"
        assert (paid if way == "worker" else calls(rows)) == 100
        add_items(rows, 5)
        assert drain(engine).scored == 0, "it is spent for rows that come as well"
        spent = f"SELECT spent_rows FROM {own(rows, 'run')} WHERE kind = %s"
        assert (one(rows, spent, ["drain"]), one(rows, spent, ["rescore"])) == (100, 0)
        rows.execute(f"UPDATE {own(rows, 'run')} SET spent_on = NULL WHERE kind = 'drain'")
        assert drain(engine).scored == 5
        assert work(engine, run).scored == 20, "and goes on the next day"
    assert runs(rows) == [("finished", 60, 60, 0, 0)]


# --- as tasks ---------------------------------------------------------------------------------------------


def asked(engine: Engine, task: str) -> Any:
    """What the task answers, run in this process without a broker."""
    app = create_app(engine.configuration)
    app.loader.import_default_modules()
    try:
        return app.tasks[f"rowscore.{task}"].apply(("churn",)).get()
    finally:
        app.engine.dispose()


def test_the_tasks_say_what_they_did(engine: Engine, rows: Session) -> None:
    found = asked(engine, "refresh")
    assert found == {"prediction": "churn", "run": found["run"], "rows": 0, "reason": None}
    assert asked(engine, "refresh")["reason"].startswith("the last rescore began ")
    scored_before(rows, 2 * DAY, 1, 5)
    backfill.begin(engine, None, Options(older_than="1d", celery=True), RESCORE)
    done = asked(engine, "backfill")
    assert (done["kind"], done["scored"], done["ended"]) == ("rescore", 5, "no rows are waiting")
    assert asked(engine, "backfill")["kind"] is None
    assert asked(engine, "view")["fits"] is True


def test_its_progress_names_it(engine: Engine, rows: Session) -> None:
    scored_before(rows, 2 * DAY, 1, 15)
    run = backfill.begin(engine, None, Options(older_than="1d"), RESCORE)
    work(engine, run)
    told = _RunProgress(None, engine, run)
    progress, text = told.describe(Summary("churn", scored=15), BatchResult(taken=5), 100)
    assert (progress["kind"], progress["rows_done"], progress["rows_total"]) == ("rescore", 15, 15)
    assert text == "rescore: 15 of 15 rows done; 15 rows scored, 100 a second, 5 in the last batch"


def test_old_runs_go_and_live_ones_stay(engine: Engine, rows: Session) -> None:
    for _ in range(4):
        work(engine, backfill.begin(engine, None, Options(older_than="1h"), RESCORE))
    live = backfill.begin(engine, None, Options(older_than="1h"), RESCORE)
    assert upkeep.prune(engine, keep_runs=2).runs == 2
    kept = rows.execute(f"SELECT kind, status FROM {own(rows, 'run')} ORDER BY id").fetchall()
    assert kept == [
        ("drain", "running"), ("rescore", "finished"), ("rescore", "finished"), ("rescore", "running"),
    ]  # fmt: skip
    assert upkeep.prune(engine, keep_runs=2).runs == 0
    assert work(engine, live).empty


# --- the view ---------------------------------------------------------------------------------------------


def test_a_view_that_the_table_has_outgrown_is_noticed_and_left_as_it_is(
    engine: Engine, rows: Session
) -> None:
    assert upkeep.look_at_view(engine).fits is True
    rows.execute("ALTER TABLE items ADD COLUMN later integer")
    found = upkeep.look_at_view(engine)
    assert found.fits is False
    assert "is not of the table's columns as they are now; run `rowscore apply churn`" in str(found.reason)
    assert upkeep.look_at_view(engine).fits is False, "only apply makes it anew"
    applied(engine)
    assert upkeep.look_at_view(engine).fits is True
    rows.execute("DROP VIEW items_scored")
    gone = upkeep.look_at_view(engine)
    assert gone.fits is (False if is_postgresql(rows) else None)
    assert gone.reason
    with opened(configuration(str(engine.configuration.database), view=False)) as other:
        assert upkeep.look_at_view(other).fits is None
