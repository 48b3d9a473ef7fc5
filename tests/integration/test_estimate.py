"""What a backfill would cost is said without beginning it, and without a call unless a sample is asked for."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.integration.test_backfill import EXISTING, WAYS, double_of, model
from tests.integration.test_backfill_options import runs
from tests.support.predictions import applied, calls, configuration, make_items, opened, states
from worker import errors
from worker.estimate import estimate
from worker.models.protocol import Batch
from worker.options import Options

CONFORMANCE = True


@pytest.mark.parametrize("way", WAYS)
def test_rows_calls_and_money_without_a_call(database_url: str, connect: Connect, way: str) -> None:
    application = connect()
    make_items(application, 250)
    prices = {**model(way), "cost_per_call": 0.5, "cost_per_row": 0.01}
    config = configuration(database_url, model=prices, max_rows_per_claim=100, max_rows_per_batch=20)

    def never(_: Batch) -> list[tuple[float]]:
        raise AssertionError("the model was called")

    with opened(config, double_of(way) and never) as engine:
        applied(engine)
        found = estimate(engine, None, Options(where="a <= 105"))
        size = 20 if way == "worker" else 100
        number = -(-105 // size)
        assert (found.rows, found.calls, found.rows_per_call) == (105, number, size)
        assert found.money == pytest.approx(number * 0.5 + 105 * 0.01)
        assert (found.seconds, found.sample) == (None, None)
        assert estimate(engine, None, Options(max_rows=40)).rows == 40
        assert estimate(engine, None, Options(from_key="11", to_key="20")).rows == 10
    assert states(application) == {EXISTING: 250}
    assert runs(application) == []
    if way != "worker":
        assert calls(application) == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_sample_measures_and_writes_nothing(database_url: str, connect: Connect, way: str) -> None:
    application = connect()
    make_items(application, 100)
    config = configuration(database_url, model={**model(way), "cost_per_row": 2.0}, max_rows_per_batch=10)
    with opened(config, double_of(way)) as engine:
        applied(engine)
        found = estimate(engine, None, Options(where="id > 50"), 30)
        assert found.sample is not None
        assert (found.sample.rows, found.sample.money) == (30, 60.0)
        assert found.sample.calls == (3 if way == "worker" else 1)
        assert found.seconds == pytest.approx(found.sample.seconds / 30 * 50)
        paced = estimate(engine, None, Options(rate="1/m"), 5)
        assert paced.seconds == 100 * 60
        with pytest.raises(errors.RowscoreError, match="there is no row to sample"):
            estimate(engine, None, Options(where="id > 1000"), 5)
    assert states(application) == {EXISTING: 100}
    assert runs(application) == []
    if way != "worker":
        assert calls(application) == 35


def test_a_model_that_fails_on_the_sample_is_one_line(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application, 10)

    def refuse(_: Batch) -> list[tuple[float]]:
        raise errors.ServiceRefusedError("401 the key is not valid")

    with opened(configuration(database_url, model=model("worker")), refuse) as engine:
        applied(engine)
        with pytest.raises(errors.RowscoreError, match="the model failed on the sample: 401"):
            estimate(engine, None, Options(), 5)
    assert states(application) == {EXISTING: 10}
