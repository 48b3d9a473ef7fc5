"""`rowscore` as a user meets it: real processes on a real database, their words, statuses and signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.cli import Cli
from tests.support.databases import Session, columns_of, is_postgresql, one, quote, schema_of
from tests.support.deadlines import eventually
from tests.support.predictions import add_items, fail_at, states
from tests.support.scorer import Scorer
from worker.cli import app, run
from worker.demo.servers import python_path
from worker.states import RowState

CONFORMANCE = True
COMMANDS = [
    "apply", "backfill", "demo", "diff", "doctor", "explain", "export", "failures", "init", "pause", "remove",
    "rescore", "resume", "run", "sql", "status", "tune", "verify",
]  # fmt: skip
SLOW = {"concurrency": 1, "max_rows_per_batch": 50, "max_rows_per_claim": 200, "lease_time": "1s"}


def over_http(cli: Cli, scorer: Scorer, **options: Any) -> None:
    cli.configure(inputs=["id", "a", "b"], model={"http": scorer.url}, **{**SLOW, **options})


# --- help -------------------------------------------------------------------------------------------------


def test_help_is_grouped_and_quick_to_load() -> None:
    heavy = ["alembic", "celery", "numpy", "psycopg", "pydantic", "rich", "sqlalchemy", "worker.config"]
    code = "import sys; from worker.cli import run; status = run(['--help']); "
    code += f"print(set({heavy!r}) & set(sys.modules), status)"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=python_path(), capture_output=True, text=True, check=True, timeout=60)
    panels = ["Set up:", "Run:", "Look:", "Other:", "Options:"]
    assert sorted(panels, key=done.stdout.index) == panels
    assert done.stdout.endswith("set() 0\n"), "a command imports what it works with when it is called"


def test_all_commands_are_there() -> None:
    assert (
        sorted(command.name or command.callback.__name__ for command in app.registered_commands) == COMMANDS
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Usage: rowscore {command}" in text
    assert f"Example:\n    rowscore {command}" in text
    assert run(["help", command]) == 0
    assert capsys.readouterr().out == text


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("rowscore ")


# --- from apply to remove ---------------------------------------------------------------------------------


def test_the_whole_way(cli: Cli, rows: Session) -> None:
    applied = cli.run("apply").out
    table = f"{schema_of(rows)}.items"
    assert f"add churn_state, p, churn_scored_at to {table}" in applied
    assert f"churn is applied to {table}" in applied
    assert cli.call("apply", "churn").out == f"churn is applied to {table}: nothing to do.\n"
    assert states(rows) == {RowState.EXISTING: 1000}
    add_items(rows, 500)
    assert "500 rows scored" in cli.run("run").out
    assert "nothing to score; no rows are waiting" in cli.call("run").out
    assert "backfill finished: 1,000 rows scored" in cli.run("backfill").out
    assert "1,500: 1,500 scored, 0 existing" in cli.run("status").out
    assert states(rows) == {RowState.SCORED: 1500}
    assert "nobody is there to be asked" in cli.error("remove", status=2)
    assert "churn is removed" in cli.run("remove", "--yes").out
    assert cli.call("remove", "--yes").out == "churn is removed: nothing to do.\n"
    assert rows.execute("SELECT count(p) FROM items").fetchone() == (1500,), "predictions are kept"


def test_from_init_over_failures_to_doctor(cli: Cli, rows: Session) -> None:
    (cli.folder / "rowscore.toml").unlink()
    cli.call("init")
    written = tomllib.loads((cli.folder / "rowscore.toml").read_text())["predictions"]["predict"]
    assert written["model"] == {"sql": "predict"}
    kind = "double precision" if is_postgresql(rows) else "double"
    assert written["outputs"] == {"predict_prediction": kind}
    cli.configure()
    assert "not yet" in cli.call("doctor").out
    assert "churn is applied" in cli.call("apply").out
    add_items(rows, 500)
    fail_at(rows, 7)
    out = cli.call("run").out
    assert "499 rows scored" in out
    assert "1 failed" in out
    assert "a = 7 is poison" in cli.call("failures").out
    (failure,) = cli.call("failures", "--json").document["failures"]
    assert (failure["key"], failure["attempts"]) == (["1007"], 1)
    assert failure["last_failed_at"].endswith("+00:00")
    fail_at(rows, -1)
    assert "1 row waits" in cli.call("failures", "--retry").out
    cli.call("run")
    assert "backfill finished: 1,000 rows scored" in cli.call("backfill").out
    assert states(rows) == {RowState.SCORED.value: 1500}
    (status,) = cli.call("status", "--json").document["predictions"]
    assert status["rows"]["scored"] == 1500
    assert status["definition"]["applied_at"].endswith("+00:00")
    assert "1,500 scored" in cli.call("status").out
    assert "batch mode: no" in cli.call("explain").out
    assert "0 failures" in cli.call("doctor").out
    if is_postgresql(rows):
        return
    assert "FORCE INDEX (`rowscore_churn_pending`)" in cli.call("sql", "score_rows").out
    assert "try_delete" in cli.call("sql").out, "the statements of the configured database are listed"


def test_json_is_one_document(cli: Cli, rows: Session) -> None:
    assert len(cli.call("apply", "--dry-run", "--json").document["changes"]) == 6
    assert cli.call("apply", "--json").document["dry_run"] is False
    add_items(rows, 10)
    summary = cli.call("run", "--json").document
    assert (summary["scored"], summary["fault"], summary["interrupted"]) == (10, None, False)
    backfill = cli.call("backfill", "--json").document
    assert (backfill["finished"], backfill["rows_done"], backfill["rows_total"]) == (True, 1000, 1000)
    found = cli.call("status", "--json").document["predictions"][0]
    assert (found["prediction"], found["rows"]["scored"], found["freshness"]) == ("churn", 1010, None)
    assert cli.call("status", "--config", "--json").document["predictions"]["churn"]["every"] == "30s"
    assert cli.call("failures", "--json").document == {
        "prediction": "churn",
        "rows": 0,
        "due": 0,
        "final": 0,
        "failures": [],
    }
    assert "UPDATE" in cli.call("sql", "write_rows", "--json").document["sql"]
    assert len(cli.call("remove", "--yes", "--json").document["changes"]) > 3


def test_a_dry_run_prints_what_can_be_run_by_hand(cli: Cli, rows: Session) -> None:
    before = cli.call("remove", "--dry-run").out
    assert before == "-- rowscore remove churn: nothing to do\n"
    script = cli.call("apply", "--dry-run").out
    assert columns_of(rows, "items") == ["id", "a", "b", "note"], "nothing was changed"
    by_hand(rows, script)
    assert "nothing to do" in cli.call("apply").out
    by_hand(rows, cli.call("remove", "--dry-run", "--drop-outputs").out)
    assert "nothing to do" in cli.call("remove", "--yes").out


def by_hand(rows: Session, script: str) -> None:
    """As the DBA runs it, with psql; where MySQL's client is not at hand, as one text with its comments."""
    if not isinstance(rows, psycopg.Connection):
        rows.execute(script)
        return
    programs = Path(one(rows, "SELECT setting FROM pg_config WHERE name = 'BINDIR'"))
    words = [programs / "psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", rows.info.dsn]
    done = subprocess.run(words, input=script, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_global_options_may_stand_anywhere(cli: Cli) -> None:
    (cli.folder / "rowscore.toml").rename(cli.folder / "other.toml")
    for words in (
        ("-c", "other.toml", "status"),
        ("status", "-c", "other.toml"),
        ("sql", "--config", "other.toml"),
    ):
        cli.call(*words)
    assert "every" in cli.call("--config", "other.toml", "status", "--config").out
    cli.run("status", ROWSCORE_CONFIG="other.toml")


def test_failures_are_listed_and_retried(cli: Cli, rows: Session, scorer: Scorer) -> None:
    over_http(cli, scorer)
    cli.call("apply")
    scorer.poison = {1003}
    add_items(rows, 20)
    done = cli.call("run")
    assert "19 rows scored" in done.out
    assert "1 failed" in done.out
    listed = cli.call("failures").out
    assert "churn: 1 row failed" in listed
    assert "1003" in listed
    document = cli.call("failures", "--json").document
    assert (document["rows"], document["failures"][0]["key"]) == (1, ["1003"])
    assert cli.call("failures", "--retry").out == "churn: 1 row waits to be scored again.\n"
    scorer.poison.clear()
    assert "1 row scored" in cli.call("run").out
    assert cli.call("failures").out == "churn: no row has failed.\n"


def test_a_run_does_not_wait_for_rows_that_others_hold(cli: Cli, rows: Session, connect: Connect) -> None:
    cli.call("apply")
    add_items(rows, 3)
    holder = connect(autocommit=False)
    holder.execute("SELECT id FROM items WHERE id = 1002 FOR UPDATE")
    ended = cli.call("run")
    assert "2 rows scored" in ended.out
    assert "held by other sessions" in ended.out
    holder.rollback()
    assert "1 row scored" in cli.call("run").out


def test_sql_lists_the_statements_and_renders_each(cli: Cli, rows: Session) -> None:
    listed = cli.call("sql", "--json").document
    assert listed["write_rows"].startswith("The guarded write")
    assert (
        "there is no statement 'write_row'; did you mean write_rows"
        in cli.call("sql", "write_row", status=2).err
    )
    target = f"{quote(rows, schema_of(rows))}.{quote(rows, 'items')}"
    assert target in cli.call("sql", "write_rows").out
    assert "apply --dry-run" in cli.call("sql", "drop_view").out
    for name in ("probe_window", "first_claimable", "read_rows", "score_rows", "count_pending"):
        assert "{" not in cli.call("sql", name).out, f"{name} is rendered"


# --- signals ----------------------------------------------------------------------------------------------


def in_the_middle(scorer: Scorer) -> None:
    """Let some calls through, then keep the next one inside the model."""
    eventually(lambda: len(scorer.scored) >= 200, "the first calls")
    scorer.hold()
    assert scorer.entered.wait(20), "another call"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_backfill_that_is_stopped_goes_on(
    cli: Cli, rows: Session, scorer: Scorer, number: signal.Signals
) -> None:
    over_http(cli, scorer)
    scorer.delay = 0.02
    cli.call("apply")
    with cli.started("backfill") as running:
        in_the_middle(scorer)
        running.tell(number)
        running.says("stopping")
        scorer.release()
        stopped = running.end()
    assert stopped.status == 130, stopped
    done = states(rows)[RowState.SCORED]
    assert f"stopped: {done:,} of 1,000 done; `rowscore backfill churn` goes on from there" in stopped.out
    assert "Traceback" not in stopped.err
    scorer.delay = 0.0
    finished = cli.call("backfill")
    assert f"resuming: {done:,} of 1,000 done" in finished.err
    assert f"backfill finished: {1000 - done:,} rows scored" in finished.out
    assert states(rows) == {RowState.SCORED: 1000}
    assert set(scorer.scored.values()) == {1}, "each row was paid for once"


def test_a_backfill_that_is_killed_goes_on(cli: Cli, rows: Session, scorer: Scorer) -> None:
    over_http(cli, scorer)
    scorer.delay = 0.02
    cli.call("apply")
    with cli.started("backfill") as running:
        in_the_middle(scorer)
        running.tell(signal.SIGKILL)
        assert running.end().status == -signal.SIGKILL
    scorer.delay = 0.0
    scorer.release()
    finished = cli.call("backfill")
    assert "resuming" in finished.err
    assert "backfill finished" in finished.out
    assert states(rows) == {RowState.SCORED: 1000}
    twice = [key for key, times in scorer.scored.items() if times > 1]
    assert 0 < len(twice) <= SLOW["max_rows_per_claim"], "the batch in flight is paid for again, nothing else"


def test_a_run_keeps_looking_and_ends_when_told(cli: Cli, rows: Session) -> None:
    cli.call("apply")
    with cli.started("run", "--for", "60s", "--json") as running:
        for number in (1, 2):
            add_items(rows, 10)
            eventually(lambda: states(rows).get(RowState.SCORED) == 10 * number, "the rows scored")  # noqa: B023
        running.tell(signal.SIGTERM)
        ended = running.end()
    assert ended.status == 130, ended
    summary = json.loads(ended.out)
    assert (summary["scored"], summary["interrupted"]) == (20, True)


def test_ctrl_c_elsewhere_is_one_line(cli: Cli, rows: Session, connect: Connect) -> None:
    holder = connect(autocommit=not is_postgresql(rows))
    holder.execute("LOCK TABLE items" if is_postgresql(rows) else "LOCK TABLES items WRITE")
    blocked = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'items'::regclass"
        if is_postgresql(rows)
        else "SELECT COUNT(*) FROM information_schema.processlist WHERE state LIKE '%metadata lock%'"
    )
    with cli.started("status") as running:
        eventually(lambda: one(rows, blocked), "a status that waits for the table")
        running.tell(signal.SIGINT)
        ended = running.end()
    assert (ended.status, ended.out, ended.err) == (130, "", "rowscore: interrupted\n")


def test_a_reader_that_leaves_is_no_error(cli: Cli) -> None:
    words = [sys.executable, "-m", "worker.cli", "sql"]
    with subprocess.Popen(
        words, cwd=cli.folder, env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
