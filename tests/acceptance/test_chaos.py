"""A backfill whose processes are killed at random, again and again: it finishes, and pays twice for little."""

from __future__ import annotations

import os
import random
import signal
from contextlib import suppress
from functools import partial

import psutil
import pytest

from tests.support.cli import Cli, Running
from tests.support.databases import Session, one
from tests.support.deadlines import eventually
from tests.support.predictions import add_items, states
from tests.support.scorer import Scorer
from worker.states import RowState

KILLS = int(os.environ.get("ROWSCORE_TEST_KILLS", "2"))
SEED = int(os.environ.get("ROWSCORE_TEST_SEED", "1"))
ROWS_A_KILL = 3000
CLAIM = 200
WORKERS = 2


def crew_of(running: Running) -> list[psutil.Process]:
    """The processes that work, as many as there are now."""
    with suppress(psutil.NoSuchProcess):
        below = psutil.Process(running.process.pid).children()
        return [process for process in below if "spawn_main" in command_of(process)]
    return []


def command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def progressed(scorer: Scorer, running: Running, sent: int) -> list[psutil.Process]:
    """The crew, once so many rows have been sent."""
    return crew_of(running) if scorer.scored.total() >= sent else []


def ended(crew: list[psutil.Process]) -> bool:
    return not any(member.is_running() for member in crew)


@pytest.mark.timeout(120 + 20 * KILLS)
def test_killed_at_random_it_finishes_and_pays_twice_for_what_was_in_flight_alone(
    cli: Cli, rows: Session, scorer: Scorer
) -> None:
    chance = random.Random(SEED)
    total = 1000 + KILLS * ROWS_A_KILL
    add_items(rows, total - 1000)
    sizes = {"concurrency": 1, "max_rows_per_batch": 100, "max_rows_per_claim": CLAIM, "lease_time": "5s"}
    cli.configure(inputs=["id", "a", "b"], model={"http": scorer.url}, **sizes)
    cli.call("apply")
    scorer.delay = 0.01
    in_flight = kills = 0
    while kills < KILLS:
        with cli.started("backfill", "--workers", str(WORKERS)) as running:
            alive = True
            while alive and kills < KILLS:
                sent = scorer.scored.total() + chance.randrange(1, ROWS_A_KILL)
                crew = eventually(partial(progressed, scorer, running, sent), "it goes on", 60.0)
                victim = chance.choice([running.process.pid, *(member.pid for member in crew)])
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                kills += 1
                alive = victim != running.process.pid
                in_flight += 1 if alive else WORKERS
            if not alive:
                eventually(partial(ended, crew), "nobody is left", 60.0)
    document = cli.run("backfill", "--workers", str(WORKERS), "--json").document
    assert document["finished"], document
    assert states(rows) == {RowState.SCORED: total}
    assert one(rows, "SELECT count(*) FROM items WHERE p <> a + b OR p IS NULL") == 0
    assert len(scorer.scored) == total
    twice = scorer.scored.total() - total
    assert twice <= in_flight * CLAIM, f"{twice} rows were paid for twice after {kills} kills (seed {SEED})"
    print(f"{kills} kills, {total:,} rows, {twice:,} of them paid for twice, {in_flight * CLAIM:,} at most")
