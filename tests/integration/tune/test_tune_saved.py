"""What `tune` keeps for the drains, and what of it the file overrules; a model in Python, and money."""

from __future__ import annotations

import pytest

from tests.support.databases import Session, one, only, own
from tests.support.predictions import (
    add_up,
    applied,
    configuration,
    drain,
    opened,
    states,
)
from tests.support.service import Service
from tests.support.tuning import everything, over_http, point_of, trying
from worker.models.protocol import Batch
from worker.states import RowState
from worker.tune import Wishes, save

CONFORMANCE = True


def swallowing(batch: Batch) -> list[tuple[float]]:
    """A model that has no memory for more than 100 rows."""
    if len(batch) > 100:
        raise MemoryError
    return add_up(batch)


def test_a_model_that_runs_out_of_memory_takes_fewer_rows(database_url: str, items: Session) -> None:
    model = {
        "python": "tests.integration.tune.test_tune_saved:swallowing",
        "cost_per_call": 0.5,
        "cost_per_row": 0.001,
    }
    with opened(configuration(database_url, model=model, concurrency=1)) as engine:
        applied(engine)
        tuning = trying(engine, Wishes(calls=20, sizes=(50, 200), concurrencies=(1,)))
    assert point_of(tuning)[0] == 50
    assert any("do not fit into memory" in finding for finding in tuning.findings)
    assert tuning.money == pytest.approx(0.5 * tuning.paid.calls + 0.001 * tuning.paid.rows)
    assert len(states(items)) == 1


@pytest.mark.parametrize("best", [20, 1600])
def test_saved_sizes_are_those_that_drains_begin_with(
    database_url: str, items: Session, service: Service, best: int
) -> None:
    service.cost = lambda rows: 0.065 + 0.065 * (rows / best) ** 2
    with opened(over_http(database_url, service)) as engine:
        applied(engine)
        tuning = trying(
            engine, Wishes(calls=60, sizes=(5, 20, 100, 400, 1600), concurrencies=(1,)), clock=service.clock
        )
        assert point_of(tuning) == (best, 1)
        assert one(items, f"SELECT rows_per_call FROM {own(items, 'learned')}") is None
        assert save(engine, tuning)
        assert tuning.saved
        assert one(items, f"SELECT rows_per_call FROM {own(items, 'learned')}") == best
        items.execute(f"UPDATE items SET churn_state = {RowState.PENDING.value}")
        items.execute(f"UPDATE {own(items, 'learned')} SET rows_per_claim = 2000")
        service.sizes.clear()
        assert drain(engine).scored == 2000
    assert service.sizes[0] == best
    if best > 1000:
        assert one(items, f"SELECT rows_per_call FROM {own(items, 'learned')}") == best, "and it stays so"


def test_saved_claims_of_a_function_of_the_database(database_url: str, items: Session) -> None:
    with opened(configuration(database_url)) as engine:
        applied(engine)
        tuning = trying(engine, Wishes(calls=30, sizes=(50, 70)))
        assert tuning.setting == "max_rows_per_claim"
        assert save(engine, tuning)
        claim = one(items, f"SELECT rows_per_claim FROM {own(items, 'learned')}")
    assert claim == point_of(tuning)[0]
    assert claim in (50, 70)


def test_the_files_limit_is_not_overruled(database_url: str, items: Session, service: Service) -> None:
    with opened(over_http(database_url, service, max_rows_per_batch=100)) as engine:
        applied(engine)
        tuning = trying(engine, clock=service.clock)
        assert point_of(tuning)[0] > 100
        before = everything(items)
        assert not save(engine, tuning)
        assert everything(items) == before


@only("postgresql")
def test_a_function_that_is_told_its_batch_size_is_told_the_size_that_is_tried(
    database_url: str, items: Session
) -> None:
    """As Aurora's functions are; the size is then theirs, and not a claim's."""
    items.execute(
        """CREATE SEQUENCE told_rows;
        CREATE FUNCTION batched(a float8, b int, max_rows_per_batch int) RETURNS float8 LANGUAGE plpgsql AS $$ BEGIN
            IF max_rows_per_batch NOT IN (50, 500) THEN RAISE 'told %', max_rows_per_batch; END IF;
            PERFORM nextval('told_rows'); RETURN a + b; END $$"""
    )
    with opened(configuration(database_url, model={"sql": "batched"}, max_rows_per_batch=7)) as engine:
        applied(engine)
        tuning = trying(engine, Wishes(calls=20, sizes=(50, 500)))
        assert not tuning.findings
        assert (tuning.setting, tuning.present) == ("max_rows_per_batch", (7, None))
        assert point_of(tuning)[0] in (50, 500)
        assert one(items, "SELECT last_value FROM told_rows") == tuning.paid.rows
        assert not save(engine, tuning), "the file's number is part of the statement"
