"""A function that hangs: its statement is ended before the lease is, on every database, and nothing else ever is."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.databases import Session, is_postgresql, own
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
from tests.support.routines import add_function
from worker.database import Database
from worker.errors import StatementTimeoutError
from worker.leases import Leases
from worker.states import RowState

CONFORMANCE = True
PENDING, SCORED = RowState.PENDING.value, RowState.SCORED.value


def nap(connection: Session, seconds: float) -> str:
    """A statement of a function that takes so long."""
    return f"PERFORM pg_sleep({seconds});" if is_postgresql(connection) else f"DO SLEEP({seconds});"


@pytest.mark.parametrize("mode", ["update", "select"])
def test_a_function_that_hangs_is_ended_before_the_lease_is(
    database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    application = connect()
    make_items(application)
    arguments = "a double precision, b int"
    count = "PERFORM nextval('calls');" if is_postgresql(application) else "UPDATE calls SET n = n + 1;"
    add_function(application, "predict", arguments, "a + b", before=f"{nap(application, 60)} {count}")
    handed_back: list[int] = []
    abandon = Leases.abandon

    def noted(leases: Leases, lease: object) -> None:
        out = f"SELECT count(*) FROM {own(application, 'lease')} WHERE expires_at > "
        clock = "clock_timestamp()" if is_postgresql(application) else "UTC_TIMESTAMP(6)"
        handed_back.extend(application.execute(out + clock).fetchone() or ())
        abandon(leases, lease)  # type: ignore[arg-type]

    with opened(
        configuration(database_url, model={"sql": "predict", "mode": mode}, lease_time="3s")
    ) as engine:
        applied(engine)
        add_items(application, 5)
        with monkeypatch.context() as patch:
            patch.setattr(Leases, "abandon", noted)
            summary = drain(engine, seconds=0)
        assert handed_back == [1], "its lease was still out"
        assert summary.scored == 0
        assert calls(application) == 0, "no call came to its end"
        assert states(application) == {PENDING: 5}
        add_function(application, "predict", arguments, "a + b", calls=True)
        assert drain(engine).scored == 5, "by the same sessions"
        assert calls(application) == 5
        assert states(application) == {SCORED: 5}


def test_any_statement_of_the_block_is_ended_and_none_after_it(database: Database, connect: Connect) -> None:
    application = connect()
    application.execute("CREATE TABLE t (a int)")
    application.execute("INSERT INTO t VALUES (1)")
    add_function(application, "hang", "a int", "a", returns="int", before=nap(application, 60))
    add_function(application, "nap", "a int", "a", returns="int", before=nap(application, 0.6))

    def change() -> None:
        with database.transaction(statement_timeout="300ms") as transaction:
            transaction.execute("UPDATE t SET a = 3")
            transaction.execute("UPDATE t SET a = hang(a)")

    with pytest.raises(StatementTimeoutError):
        change()
    with database.transaction(statement_timeout="300ms") as transaction:
        transaction.execute("UPDATE t SET a = a + 1")
    with database.transaction() as transaction:  # the same session, which is past the limit of the one before
        assert transaction.value("SELECT nap(a) FROM t") == 2
    assert application.execute("SELECT a FROM t").fetchall() == [(2,)]
