"""The transition tables say what the SQL does: every statement that changes a state is read, and the sum compared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sql
from tests.support.statements import sample
from worker.states import ROW_TRANSITIONS, RUN_TRANSITIONS, RowState, RunKind, RunStatus

STATEMENTS = sql.load("postgresql")
CONTEXT = sample().context
STATE = '"churn_state"'
_TARGET = re.compile(rf"SET[^;]*?{STATE} = (\d)", re.DOTALL)
_GUARD = re.compile(rf"(?:WHERE|AND|WHEN) \(?c\.{STATE} = (\d)")
# Each statement that writes a row's state, with the runs that use it: its guard names the state that it changes.
WRITERS = {
    "skip_rows": RunKind,
    "write_rows": RunKind,
    "write_rows_past_locks": RunKind,
    "mark_failed": RunKind,
    "score_rows": RunKind,
    "score_rows_in_place": RunKind,
    "retry_failures": [RunKind.DRAIN],
}


VERIFIED = "mark_changed"  # those that `verify` found


def written(name: str, kind: RunKind) -> tuple[RowState, RowState]:
    """The transition that the statement makes."""
    text = STATEMENTS[name].show(**{**CONTEXT, "claims": kind.claims, "guarded": True, "everything": False})
    guards = {int(state) for state in _GUARD.findall(text)}
    assert len(guards) == 1, f"{name} changes rows in the states {guards}"
    return RowState(guards.pop()), RowState(int(_TARGET.findall(text)[0]))


def test_rows_move_as_the_table_says() -> None:
    moves = {written(name, kind) for name, kinds in WRITERS.items() for kind in kinds}
    trigger = STATEMENTS["create_staleness_trigger"].show(
        table="t",
        state="churn_state",
        scored_at="churn_scored_at",
        pending=RowState.PENDING.value,
        trigger="t",
        function="f",
        changed=["true"],
    )
    assert f"NEW.{STATE} <> 0" in trigger, "of every state but pending, a row becomes"
    assert f"NEW.{STATE} := 0" in STATEMENTS["staleness_body"].show(state="churn_state", pending=0), "pending"
    moves |= {(state, RowState.PENDING) for state in RowState if state is not RowState.PENDING}
    verified = STATEMENTS[VERIFIED].show(**sample(fingerprint="churn_inputs").context)
    assert f"SET {STATE} = 0" in verified, "as the trigger does it"
    assert f"CASE WHEN c.{STATE} NOT IN (1, 2, 3) THEN 0" in verified, (
        "neither rows that wait nor existing ones"
    )
    assert moves == ROW_TRANSITIONS


def test_no_other_statement_writes_the_state() -> None:
    writers = {
        name
        for name, statement in STATEMENTS.items()
        if re.search(r"SET[^;]*\{\{ state\|id \}\} = |written\(", statement.text)
    }
    assert writers == {*WRITERS, VERIFIED}


def test_a_rescore_alone_leaves_a_state_for_itself_and_every_state_can_be_reached() -> None:
    assert {before for before, after in ROW_TRANSITIONS if before is after} == {RunKind.RESCORE.claims}
    assert {after for _, after in ROW_TRANSITIONS} | {RowState.EXISTING} == set(RowState)
    assert {before for before, _ in ROW_TRANSITIONS} == set(RowState), "and every state can be left"


def test_runs_move_as_the_table_says() -> None:
    """One statement changes a status, where the table has the edge; another definition, version or model cancels it."""
    writers = {
        name: statement.text
        for name, statement in STATEMENTS.items()
        if re.search(r"UPDATE rowscore\.run\b.*SET status", statement.text, re.DOTALL)
    }
    cancelling = {"cancel_outdated_backfills", "cancel_runs"}
    assert set(writers) == {"change_run", *cancelling}
    assert "status = :before" in writers["change_run"]
    for name in cancelling:
        assert "status = 'cancelled'" in writers[name]
        assert "status IN ('running', 'paused')" in writers[name]
    live = (RunStatus.RUNNING, RunStatus.PAUSED)
    assert {(status, RunStatus.CANCELLED) for status in live} <= RUN_TRANSITIONS
    over = {RunStatus.FINISHED, RunStatus.CANCELLED}
    assert not {before for before, _ in RUN_TRANSITIONS} & over, "what is over stays over"
    assert {after for _, after in RUN_TRANSITIONS} == set(RunStatus), "every status can be reached"


@pytest.mark.parametrize("table", ["ROW_TRANSITIONS", "RUN_TRANSITIONS"])
def test_each_edge_has_its_comment(table: str) -> None:
    source = Path(str(sql.__file__)).parents[1].joinpath("worker", "states.py").read_text(encoding="utf-8")
    body = source.split(f"{table}: ")[1].split("\n)\n")[0]
    edges = [line for line in body.splitlines() if re.match(r"\s+\(R\w+\.\w+, R\w+\.\w+\)", line)]
    uncommented = [line for line in edges if "#" not in line]
    assert len(edges) == len(ROW_TRANSITIONS if table.startswith("ROW") else RUN_TRANSITIONS)
    assert {line.strip() for line in uncommented} <= {
        "(RowState.EXISTING, RowState.FAILED),", "(RowState.EXISTING, RowState.SKIPPED),",
    }, "those are the backfill's, as the edge above them says"  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (RunKind.DRAIN, RowState.PENDING),
        (RunKind.BACKFILL, RowState.EXISTING),
        (RunKind.RESCORE, RowState.SCORED),
    ],
)
def test_a_run_claims_one_state(kind: RunKind, state: RowState) -> None:
    assert kind.claims is state
