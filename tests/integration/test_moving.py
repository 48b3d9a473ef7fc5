"""Columns that MySQL moves by itself stay as they are, also those that it hides from the worker's account."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import event

from tests.conftest import Connect
from tests.integration.test_backfill import expire
from tests.support.accounts import Account
from tests.support.databases import INNODB, Session, one, own, schema_of
from tests.support.findings import bad, findings, mended
from tests.support.predictions import (
    WAYS,
    Barrier,
    add_items,
    add_up,
    applied,
    calls,
    configuration,
    drain,
    in_the_model,
    make_items,
    model_of,
    opened,
    states,
)
from worker import errors
from worker.doctor.grants import worker_grants
from worker.engine import Engine
from worker.models.protocol import Batch
from worker.plan import plan_changes
from worker.states import RowState
from worker.survey import read_facts

CONFORMANCE = INNODB
MOVING = "NOT NULL DEFAULT '2001-01-01 00:00:00' ON UPDATE CURRENT_TIMESTAMP"
STILL = "2002-02-02 00:00:00"
SEEN = ("touched", "changed at")


@pytest.fixture
def owner(connect: Connect) -> Session:
    """The application's connection; two columns of its table items move with every UPDATE that does not name them."""
    connection: Session = connect()
    make_items(connection)
    connection.execute(
        f"ALTER TABLE items ADD COLUMN touched timestamp {MOVING}, ADD COLUMN `changed at` datetime {MOVING}"
    )
    return connection


def still(owner: Session) -> bool:
    """Whether nothing has moved since `waiting`."""
    found = owner.execute(
        f"SELECT DISTINCT {', '.join(f'CAST(`{name}` AS CHAR)' for name in SEEN)} FROM items"
    )
    return found.fetchall() == [(STILL, STILL)]


def waiting(owner: Session, rows: int) -> None:
    """So many rows wait, as the application left them."""
    add_items(owner, rows)
    owner.execute(f"UPDATE items SET touched = '{STILL}', `changed at` = '{STILL}'")


def granted(engine: Engine, owner: Session, account: Account, *, but: str = "") -> None:
    """What `apply --grants` prints; then what is named is taken away."""
    prediction = engine.prediction()
    with engine.database(prediction).transaction() as transaction:
        statements = worker_grants(transaction, engine.materialisation(prediction), account.name)
    for statement in statements:
        for part in statement.split(";\n"):
            if "CREATE USER" not in part:
                owner.execute(part)
    if but:
        owner.execute(f"REVOKE {but} ON items FROM {account.quoted}")


def scoring(way: str, made: list[int]) -> Callable[[Batch], Any] | None:
    """The model in this process, which notes its calls, where the worker calls it."""

    def model(batch: Batch) -> list[tuple[float]]:
        made.append(len(batch))
        return add_up(batch)

    return model if way == "worker" else None


def noted(owner: Session) -> Any:
    """The names that are kept, and the generation."""
    table = own(owner, "prediction")
    return owner.execute(
        f"SELECT JSON_UNQUOTE(JSON_EXTRACT(definition, '$.held')), generation FROM {table}"
    ).fetchone()


TAKEN = {
    "hidden": "SELECT (touched, `changed at`), UPDATE (touched, `changed at`)",
    "read only": "UPDATE (touched, `changed at`)",
    "written only": "SELECT (touched, `changed at`)",
}


@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_written_or_paid_for_until_the_grant_that_is_named(
    database_url: str, owner: Session, account: Account, way: str, taken: str
) -> None:
    with opened(configuration(database_url, model=model_of(way))) as engine:
        applied(engine)
        granted(engine, owner, account, but=TAKEN[taken])
    waiting(owner, 5)
    made: list[int] = []
    with opened(configuration(account.url, model=model_of(way)), scoring(way, made)) as engine:
        with pytest.raises(errors.PrivilegeError) as refusal:
            drain(engine)
        assert "may not hold `touched`, `changed at` of" in str(refusal.value)
        assert "\n" not in str(refusal.value)
        assert states(owner) == {RowState.PENDING: 5}
        assert (made, calls(owner)) == ([], 0)
        assert still(owner)
        grant = str(refusal.value).partition("(ON UPDATE CURRENT_TIMESTAMP): ")[2]
        assert grant == (
            f"GRANT SELECT (`touched`, `changed at`), UPDATE (`touched`, `changed at`) "
            f"ON `{schema_of(owner)}`.`items` TO {account.quoted}"
        )
        owner.execute(grant)
        assert drain(engine).scored == 5
    assert states(owner) == {RowState.SCORED: 5}
    assert still(owner)


def test_doctor_names_the_same_and_its_remedies_mend_it(
    database_url: str, owner: Session, account: Account
) -> None:
    with opened(configuration(database_url)) as engine:
        applied(engine)
        granted(engine, owner, account, but=TAKEN["hidden"])
    owner.execute(f"GRANT SELECT (touched) ON items TO {account.quoted}")
    waiting(owner, 3)
    restricted = configuration(account.url)
    target = f"`{schema_of(owner)}`.`items`"
    assert mended(owner, lambda: findings(restricted)) == [
        f"GRANT SELECT (`changed at`) ON {target} TO {account.quoted};",
        f"GRANT UPDATE (`touched`, `changed at`) ON {target} TO {account.quoted};",
    ]
    assert bad(findings(restricted)) == []
    with opened(restricted) as engine:
        assert drain(engine).scored == 3
    assert still(owner)


def test_a_column_that_begins_to_move_is_noted_by_the_next_apply_and_stops_nobody(
    database_url: str, owner: Session
) -> None:
    owner.execute("ALTER TABLE items DROP COLUMN `changed at`")
    with opened(configuration(database_url)) as engine:
        applied(engine)
        assert noted(owner) == ('["touched"]', 1)
        owner.execute(f"ALTER TABLE items ADD COLUMN `changed at` datetime {MOVING}")
        assert titles(engine) == [
            f"note which columns of {schema_of(owner)}.items an UPDATE moves by itself: touched, changed at"
        ]
        applied(engine)
        assert noted(owner)[1] == 1, "leases and answers stay valid"
        assert titles(engine) == []
        waiting(owner, 4)
        assert drain(engine).scored == 4
    assert still(owner)


def titles(engine: Engine) -> list[str]:
    """What `apply` would change but the view, which shows each column."""
    prediction = engine.prediction()
    with engine.database(prediction).transaction() as transaction:
        facts = read_facts(transaction, engine.materialisation(prediction))
    return [change.title for change in plan_changes(facts) if "the view" not in change.title]


def test_a_worker_that_looked_before_the_column_came_writes_nothing_more(
    database_url: str, owner: Session
) -> None:
    owner.execute("ALTER TABLE items DROP COLUMN `changed at`")
    barrier = Barrier()
    with opened(configuration(database_url, model=model_of("worker")), barrier) as engine:
        applied(engine)
        add_items(owner, 4)
        with in_the_model(engine, barrier) as running:
            owner.execute(f"ALTER TABLE items ADD COLUMN `changed at` datetime {MOVING}")
            applied(engine)
            owner.execute(f"UPDATE items SET touched = '{STILL}', `changed at` = '{STILL}'")
            barrier.released.set()
            summary = running.result(60)
        assert (summary.scored, summary.ended) == (0, "a newer generation of the prediction began")
        assert states(owner) == {RowState.PENDING: 4}
        assert still(owner)
        expire(owner)
        assert drain(engine).scored == 4
    assert still(owner)


@pytest.mark.parametrize("change", ["DROP COLUMN touched", "MODIFY COLUMN touched timestamp NULL"])
def test_a_column_that_is_gone_or_stays_put_keeps_nobody_from_scoring(
    database_url: str, owner: Session, account: Account, change: str
) -> None:
    config = configuration(database_url)
    with opened(config) as engine:
        applied(engine)
        granted(engine, owner, account)
        owner.execute(f"ALTER TABLE items {change}")
        add_items(owner, 3)
    with opened(configuration(account.url)) as engine:
        assert drain(engine).scored == 3


def test_it_costs_no_statement_a_batch(database_url: str, owner: Session, account: Account) -> None:
    with opened(configuration(database_url)) as engine:
        applied(engine)
        granted(engine, owner, account)
    waiting(owner, 60)
    with opened(configuration(account.url, max_rows_per_claim=10)) as engine:
        summary, found = counted(engine)
        assert (summary.batches, summary.scored) == (6, 60)
        looks = [statement for statement in found if "information_schema.columns" in statement]
        add_items(owner, 10)
        few, fewer = counted(engine)
        assert few.batches == 1
        assert len([statement for statement in fewer if "information_schema.columns" in statement]) == len(
            looks
        )
    assert one(owner, "SELECT COUNT(*) FROM items WHERE churn_state = 1") == 70


def counted(engine: Engine) -> tuple[Any, list[str]]:
    """A drain, and the statements that it ran."""
    found: list[str] = []
    pool = engine.database(engine.prediction()).engine

    def note(*arguments: Any) -> None:
        found.append(arguments[2])

    event.listen(pool, "before_cursor_execute", note)
    try:
        return drain(engine), found
    finally:
        with suppress(Exception):
            event.remove(pool, "before_cursor_execute", note)
