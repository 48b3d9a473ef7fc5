"""The circuit: how long a model at fault is left alone, and that one outage counts once."""

from __future__ import annotations

from tests.conftest import Connect
from tests.support.databases import own
from tests.support.predictions import add_items, applied, configuration, make_items, opened
from worker.circuit import LONGEST_PAUSE, open_circuit, pause
from worker.errors import FailureClass, ServiceUnavailableError, ThrottledError

CONFORMANCE = True


def test_the_pause_doubles_to_a_minute_and_throttling_never_counts() -> None:
    pauses = [pause(failures, FailureClass.SERVICE_TEMPORARY) for failures in range(1, 10)]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert pause(1, FailureClass.SERVICE_PERMANENT) == LONGEST_PAUSE
    assert pause(0, FailureClass.THROTTLED) == pause(9, FailureClass.THROTTLED)
    assert pause(1, FailureClass.THROTTLED, retry_after=17.0) == 17.0


def test_one_outage_counts_once_however_many_workers_meet_it(database_url: str, connect: Connect) -> None:
    application = connect()
    make_items(application)
    config = configuration(database_url, model={"python": "tests.support.predictions:add_up"})
    with opened(config) as engine:
        applied(engine)
        add_items(application, 1)
        prediction = engine.prediction()
        m = engine.materialisation(prediction)
        fault = ServiceUnavailableError("connection refused")
        with engine.database(prediction).transaction() as transaction:
            assert open_circuit(transaction, m, fault, 0, already_open=False) == 1.0
            assert open_circuit(transaction, m, fault, 1, already_open=True) == 1.0
            assert open_circuit(transaction, m, fault, 1, already_open=False) == 2.0
            open_circuit(transaction, m, ThrottledError("slow down"), 2, already_open=False)
        row = application.execute(
            f"SELECT failures, failure_class, reason FROM {own(application, 'circuit')}"
        ).fetchone()
        assert row == (2, "throttled", "slow down")
