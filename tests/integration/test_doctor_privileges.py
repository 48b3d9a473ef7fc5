"""Privileges that `doctor` misses, each as the GRANT that gives it: with them a worker scores, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import Connect
from tests.support.accounts import Account
from tests.support.databases import Session, is_postgresql, schema_of
from tests.support.findings import bad, findings, mended, the
from tests.support.predictions import add_items, applied, configuration, drain, make_items, opened, states
from worker.doctor.findings import Level
from worker.states import RowState

CONFORMANCE = True


@pytest.fixture
def owner(connect: Connect) -> Session:
    """The application's connection; its table items has three rows, and only its owner may call predict."""
    connection: Session = connect()
    make_items(connection, 3)
    if is_postgresql(connection):
        connection.execute(
            "ALTER FUNCTION predict SECURITY DEFINER; REVOKE EXECUTE ON FUNCTION predict FROM PUBLIC"
        )
    else:
        connection.execute("CREATE TABLE other (id int PRIMARY KEY)")
    return connection


@pytest.fixture
def worker(owner: Session, account: Account) -> Account:
    """An account that may log in to the database; in MySQL that means to see some table."""
    if not is_postgresql(owner):
        owner.execute(f"GRANT SELECT ON other TO {account.quoted}")
    return account


def grants(owner: Session, role: str) -> list[str]:
    """All that a worker needs, in the order in which `doctor` comes upon it."""
    if is_postgresql(owner):
        return [
            f"GRANT USAGE ON SCHEMA rowscore TO {role};",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rowscore TO {role};",
            f"GRANT EXECUTE ON FUNCTION public.predict(a double precision, b integer) TO {role};",
            f"GRANT SELECT (id, a, b, churn_state, p, churn_scored_at) ON public.items TO {role};",
            f"GRANT UPDATE (churn_state, p, churn_scored_at) ON public.items TO {role};",
        ]
    schema = f"`{schema_of(owner)}`"
    own = [f"GRANT SELECT ON {schema}.`rowscore_alembic_version` TO {role};"]
    own += [
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.`{name}` TO {role};"
        for (name,) in owner.execute("SHOW TABLES LIKE 'rowscore\\_%'").fetchall()
        if name != "rowscore_alembic_version"
    ]
    return [
        f"GRANT SELECT ON {schema}.`items` TO {role};",
        "\n".join(own),
        f"GRANT EXECUTE ON FUNCTION {schema}.`predict` TO {role};",
        f"GRANT UPDATE (`churn_state`, `p`, `churn_scored_at`) ON {schema}.`items` TO {role};",
    ]


@pytest.mark.parametrize("mode", ["update", "select"])
def test_the_grants_that_it_names_let_a_worker_score(
    database_url: str, owner: Session, worker: Account, mode: str
) -> None:
    shape: dict[str, Any] = {"model": {"sql": "predict", "mode": mode}}
    with opened(configuration(database_url, **shape)) as engine:
        applied(engine)
    restricted = configuration(worker.url, **shape)
    remedies = mended(owner, lambda: findings(restricted))
    assert sorted(remedies) == sorted(grants(owner, worker.quoted))
    add_items(owner, 2)
    with opened(restricted) as engine:
        assert drain(engine).scored == 2
    assert states(owner) == {RowState.EXISTING: 3, RowState.SCORED: 2}
    found = findings(restricted)
    assert bad(found) == []
    if not is_postgresql(owner):
        assert "it may not `apply`" in the(found, "ownership").message
        assert "GRANT PROCESS ON *.* TO" in the(found, "transactions").message


def test_expressions_need_the_columns_that_they_read(
    database_url: str, owner: Session, worker: Account
) -> None:
    inputs = [{"name": "double", "sql": "a * 2"}, "b"]
    shape: dict[str, Any] = {"inputs": inputs, "where": "length(note) > 0"}
    with opened(configuration(database_url, **shape)) as engine:
        applied(engine)
    restricted = configuration(worker.url, **shape)
    remedies = mended(owner, lambda: findings(restricted))
    table = "public.items" if is_postgresql(owner) else f"`{schema_of(owner)}`.`items`"
    assert f"GRANT SELECT ON {table} TO {worker.quoted};" in remedies
    assert bad(findings(restricted)) == []


def test_an_account_that_may_score_but_not_apply_is_told_who_may_or_what_it_lacks(
    owner: Session, worker: Account
) -> None:
    restricted = configuration(worker.url, model={"python": "math:fsum"})
    if not is_postgresql(owner):
        owner.execute(f"GRANT SELECT, UPDATE, EXECUTE ON `{schema_of(owner)}`.* TO {worker.quoted}")
    mended(owner, lambda: findings(restricted))
    found = the(findings(restricted), "ownership")
    assert found.level is Level.WARNING
    assert found.remedy is not None
    expected = "run `rowscore apply` as postgres" if is_postgresql(owner) else "ALTER"
    assert expected in found.message + found.remedy
