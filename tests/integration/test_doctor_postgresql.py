"""What `doctor` finds where only PostgreSQL has such things: policies, schemas, Aurora's extension, partitions."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.conftest import Connect
from tests.support.accounts import Account
from tests.support.findings import about, bad, findings, mended, the
from tests.support.predictions import applied, configuration, drain, make_items, opened, states
from worker.doctor.findings import Level
from worker.states import RowState


@pytest.fixture
def owner(connect: Connect) -> psycopg.Connection[Any]:
    """The application's connection; its table items has three rows."""
    connection = connect()
    make_items(connection, 3)
    return connection


@pytest.mark.parametrize("mode", ["update", "select"])
def test_a_schema_of_the_applications_own_needs_a_grant_as_well(
    database_url: str, owner: psycopg.Connection[Any], account: Account, mode: str
) -> None:
    owner.execute(
        "CREATE SCHEMA app; ALTER TABLE items SET SCHEMA app; ALTER FUNCTION predict SET SCHEMA app"
    )
    owner.execute(
        "REVOKE EXECUTE ON FUNCTION app.predict FROM PUBLIC; ALTER FUNCTION app.predict SECURITY DEFINER"
    )
    shape: dict[str, Any] = {"table": "app.items", "model": {"sql": "app.predict", "mode": mode}}
    with opened(configuration(database_url, **shape)) as engine:
        applied(engine)
    restricted = configuration(account.url, **shape)
    remedies = mended(owner, lambda: findings(restricted))
    quoted = account.quoted
    assert remedies == [
        f"GRANT USAGE ON SCHEMA app TO {quoted};",
        f"GRANT USAGE ON SCHEMA rowscore TO {quoted};",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rowscore TO {quoted};",
        f"GRANT USAGE ON SCHEMA app TO {quoted};",
        f"GRANT EXECUTE ON FUNCTION app.predict(a double precision, b integer) TO {quoted};",
        f"GRANT SELECT (id, a, b, churn_state, p, churn_scored_at) ON app.items TO {quoted};",
        f"GRANT UPDATE (churn_state, p, churn_scored_at) ON app.items TO {quoted};",
    ]
    owner.execute("INSERT INTO app.items (a, b) VALUES (1, 2), (3, 4)")
    with opened(restricted) as engine:
        assert drain(engine).scored == 2
    assert states(owner, "app.items") == {RowState.EXISTING: 3, RowState.SCORED: 2}
    assert bad(findings(restricted)) == []


def test_services_that_nobody_may_call_are_named(
    database_url: str, owner: psycopg.Connection[Any], account: Account
) -> None:
    owner.execute("CREATE SCHEMA aws_sagemaker")
    owner.execute(
        """CREATE FUNCTION aws_sagemaker.invoke_endpoint(endpoint_name varchar, max_rows_per_batch int,
           VARIADIC model_input "any", OUT model_output varchar) LANGUAGE internal AS 'pg_num_nonnulls'"""
    )
    owner.execute("REVOKE EXECUTE ON FUNCTION aws_sagemaker.invoke_endpoint FROM PUBLIC")
    owner.execute(
        """CREATE FUNCTION churn(a float8, b int) RETURNS float8 LANGUAGE sql AS
           $$ SELECT CAST(aws_sagemaker.invoke_endpoint('churn', 100, a, b) AS float8) $$"""
    )
    shape: dict[str, Any] = {"model": {"sql": "churn"}}
    with opened(configuration(database_url, **shape)) as engine:
        applied(engine)
    restricted = configuration(account.url, **shape)
    remedies = mended(owner, lambda: findings(restricted))
    assert f"GRANT USAGE ON SCHEMA aws_sagemaker TO {account.quoted};" in remedies
    assert any(
        remedy.startswith("GRANT EXECUTE ON FUNCTION aws_sagemaker.invoke_endpoint(") for remedy in remedies
    )
    found = findings(restricted)
    assert "stand-ins" in the(found, "aws_ml").message
    advice = about(found, "batch mode")
    assert [finding.level for finding in advice] == [Level.WARNING] * 2
    for finding in advice:
        owner.execute(str(finding.remedy))
    assert about(findings(restricted), "batch mode") == []


def test_policies_that_hide_rows_are_mended_by_a_policy(
    database_url: str, owner: psycopg.Connection[Any], account: Account
) -> None:
    owner.execute("ALTER FUNCTION predict SECURITY DEFINER")
    with opened(configuration(database_url)) as engine:
        applied(engine)
    restricted = configuration(account.url)
    mended(owner, lambda: findings(restricted))
    owner.execute("ALTER TABLE items ENABLE ROW LEVEL SECURITY")
    owner.execute("CREATE POLICY mine ON items USING (note = current_user)")
    owner.execute("INSERT INTO items (a, b) VALUES (1, 2)")
    found = the(findings(restricted), "row security")
    assert found.level is Level.WARNING
    with opened(restricted) as engine:
        assert drain(engine).scored == 0
    owner.execute(str(found.remedy))
    assert the(findings(restricted), "row security").level is Level.OK
    with opened(restricted) as engine:
        assert drain(engine).scored == 1


def test_a_restrictive_policy_stays_a_warning_until_the_role_bypasses_policies(
    owner: psycopg.Connection[Any], account: Account
) -> None:
    restricted = configuration(account.url, model={"python": "math:fsum"})
    mended(owner, lambda: findings(restricted))
    owner.execute("ALTER TABLE items ENABLE ROW LEVEL SECURITY")
    owner.execute("CREATE POLICY all_rows ON items USING (true)")
    owner.execute("CREATE POLICY few ON items AS RESTRICTIVE USING (a > 1)")
    found = the(findings(restricted), "row security")
    assert found.level is Level.WARNING
    assert found.remedy is not None
    owner.execute(found.remedy.partition("or, where restrictive policies remain: ")[2])
    assert about(findings(restricted), "row security") == []


def test_a_trigger_of_a_partition_that_calls_a_model_is_named(
    database_url: str, owner: psycopg.Connection[Any]
) -> None:
    owner.execute(
        """
        DROP TABLE items;
        CREATE TABLE items (id bigint PRIMARY KEY, a float8, b int) PARTITION BY RANGE (id);
        CREATE TABLE items_1 PARTITION OF items DEFAULT;
        CREATE TABLE others (id bigint PRIMARY KEY, a float8, b int);
        CREATE FUNCTION ask() RETURNS trigger LANGUAGE plpgsql AS
          'BEGIN PERFORM predict(NEW.a, NEW.b); RETURN NEW; END';
        CREATE TRIGGER here BEFORE INSERT ON items_1 FOR EACH ROW EXECUTE FUNCTION ask();
        CREATE TRIGGER elsewhere BEFORE INSERT ON others FOR EACH ROW EXECUTE FUNCTION ask();
        """
    )
    found = the(findings(configuration(database_url)), "inserts")
    assert "here (BEFORE INSERT)" in found.message


def test_a_role_that_cannot_write_is_an_error(owner: psycopg.Connection[Any], account: Account) -> None:
    owner.execute(f"ALTER ROLE {account.quoted} SET default_transaction_read_only = on")
    owner.execute(f"ALTER ROLE {account.quoted} SET default_transaction_isolation = serializable")
    config = configuration(account.url)
    found = findings(config)
    assert the(found, "connection").level is Level.ERROR
    assert "serializable" in the(found, "isolation").message
    owner.execute(str(the(found, "connection").remedy))
    assert the(findings(config), "connection").level is Level.OK


def test_autovacuum_that_is_off_is_named(database_url: str, owner: psycopg.Connection[Any]) -> None:
    owner.execute("ALTER TABLE items SET (autovacuum_enabled = off)")
    found = about(findings(configuration(database_url)), "vacuum")
    named = [item for item in found if "autovacuum is off for public.items" in item.message]
    assert [item.level for item in named] == [Level.WARNING]


def test_triggers_of_statements_and_conditions_are_told_apart(
    database_url: str, owner: psycopg.Connection[Any]
) -> None:
    owner.execute("CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    owner.execute("CREATE TRIGGER stamps BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION touch()")
    owner.execute("CREATE TRIGGER notes AFTER UPDATE OF note ON items FOR EACH ROW EXECUTE FUNCTION touch()")
    owner.execute("CREATE TRIGGER once AFTER UPDATE ON items FOR EACH STATEMENT EXECUTE FUNCTION touch()")
    owner.execute(
        """CREATE TRIGGER picky BEFORE UPDATE ON items FOR EACH ROW
           WHEN (OLD.note IS DISTINCT FROM NEW.note) EXECUTE FUNCTION touch()"""
    )
    found = about(findings(configuration(database_url)), "triggers")
    assert [(item.message.partition(" that rowscore")[0], item.remedy is None) for item in found] == [
        ("once (AFTER UPDATE, touch()) fires for each batch", False),
        ("picky (BEFORE UPDATE, touch()) fires for each row", True),
        ("stamps (BEFORE UPDATE, touch()) fires for each row", False),
    ]
