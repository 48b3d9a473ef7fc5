"""What `doctor` finds on a real PostgreSQL, and that its advice mends it: each remedy is run."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from tests.conftest import Connect
from tests.support.predictions import applied, configuration, drain, make_items, opened, states
from worker.config import Configuration, parse_configuration
from worker.database import Database
from worker.demo.loopback import free_port
from worker.demo.servers import RedisServer, python_path
from worker.doctor.examination import examine
from worker.doctor.findings import Finding, Level
from worker.doctor.imports import check_imports
from worker.doctor.server import check_snapshots, read_server
from worker.doctor.services import check_broker, compare_workers
from worker.states import RowState

_roles = itertools.count(1)
OWN = Path(__file__).resolve().parents[2]


@pytest.fixture
def owner(connect: Connect) -> psycopg.Connection[Any]:
    """The application's connection; its table items has three rows."""
    connection = connect()
    make_items(connection, 3)
    return connection


@pytest.fixture
def role(connect: Connect) -> Iterator[str]:
    """A role that may log in and nothing else, with a name that needs quotes."""
    name = f"h7 Worker {next(_roles)}"
    connection = connect()
    connection.execute(f'CREATE ROLE "{name}" LOGIN')
    yield name
    connection.execute(f'DROP OWNED BY "{name}"')
    connection.execute(f'DROP ROLE "{name}"')


def as_role(url: str, role: str) -> str:
    return make_url(url).set(username=role).render_as_string(hide_password=False)


def findings(config: Configuration) -> list[Finding]:
    """All but the broker's, which these tests do without."""
    with opened(config) as engine:
        found = list(examine(engine, config.predictions.values()))
    assert [item.subject for item in found[-1:]] == ["broker"]
    return found[:-1]


def about(found: list[Finding], subject: str) -> list[Finding]:
    return [finding for finding in found if finding.subject == subject]


def the(found: list[Finding], subject: str) -> Finding:
    (finding,) = about(found, subject)
    return finding


def bad(found: list[Finding]) -> list[Finding]:
    """Errors and warnings; the tests' server has autovacuum off."""
    return [finding for finding in found if finding.level is not Level.OK and finding.subject != "vacuum"]


def mended(admin: psycopg.Connection[Any], ask: Callable[[], list[Finding]], rounds: int = 6) -> list[str]:
    """Runs the remedies of all errors until there is none; returns them in order. No remedy comes twice."""
    run: list[str] = []
    for _ in range(rounds):
        errors = [finding for finding in ask() if finding.level is Level.ERROR]
        if not errors:
            return run
        remedies = [finding.remedy for finding in errors]
        assert all(remedy and remedy.endswith(";") for remedy in remedies), errors
        assert not set(remedies) & set(run), f"a remedy did not mend it: {errors}"
        for remedy in remedies:
            admin.execute(remedy)
            run.append(str(remedy))
    raise AssertionError(f"still errors after {run}")


# --- all is well ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("owner")
def test_an_applied_prediction_is_well(database_url: str) -> None:
    config = configuration(database_url)
    with opened(config) as engine:
        applied(engine)
    found = findings(config)
    assert bad(found) == []
    subjects = [finding.subject for finding in found]
    assert subjects[:4] == ["configuration", "import names", "connection", "transactions"]
    assert {"table", "key", "privileges", "function", "applied", "pending index", "view", "triggers"} <= set(
        subjects
    )
    assert "PostgreSQL 1" in the(found, "connection").message


@pytest.mark.usefixtures("owner")
def test_before_apply_it_says_so_and_nothing_fails(database_url: str) -> None:
    found = findings(configuration(database_url))
    assert [finding.subject for finding in bad(found)] == ["applied"]
    assert the(found, "applied").remedy == "rowscore apply churn"


# --- privileges -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["update", "select"])
def test_the_grants_that_it_names_let_a_worker_score(
    database_url: str, owner: psycopg.Connection[Any], role: str, mode: str
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
    restricted = configuration(as_role(database_url, role), **shape)
    remedies = mended(owner, lambda: findings(restricted))
    quoted = f'"{role}"'
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


def test_expressions_need_the_columns_that_they_read(
    database_url: str, owner: psycopg.Connection[Any], role: str
) -> None:
    inputs = [{"name": "double", "sql": "a * 2"}, "b"]
    shape: dict[str, Any] = {"inputs": inputs, "where": "length(note) > 0"}
    with opened(configuration(database_url, **shape)) as engine:
        applied(engine)
    restricted = configuration(as_role(database_url, role), **shape)
    assert f'GRANT SELECT ON public.items TO "{role}";' in mended(owner, lambda: findings(restricted))
    assert bad(findings(restricted)) == []


def test_a_worker_that_does_not_own_the_table_may_score_but_not_apply(
    database_url: str, owner: psycopg.Connection[Any], role: str
) -> None:
    restricted = configuration(as_role(database_url, role), model={"python": "math:fsum"})
    mended(owner, lambda: findings(restricted))
    found = the(findings(restricted), "ownership")
    assert found.level is Level.WARNING
    assert found.remedy is not None
    assert "run `rowscore apply` as postgres" in found.remedy


def test_services_that_nobody_may_call_are_named(
    database_url: str, owner: psycopg.Connection[Any], role: str
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
    restricted = configuration(as_role(database_url, role), **shape)
    remedies = mended(owner, lambda: findings(restricted))
    assert f'GRANT USAGE ON SCHEMA aws_sagemaker TO "{role}";' in remedies
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
    database_url: str, owner: psycopg.Connection[Any], role: str
) -> None:
    owner.execute("ALTER FUNCTION predict SECURITY DEFINER")
    with opened(configuration(database_url)) as engine:
        applied(engine)
    restricted = configuration(as_role(database_url, role))
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
    database_url: str, owner: psycopg.Connection[Any], role: str
) -> None:
    restricted = configuration(as_role(database_url, role), model={"python": "math:fsum"})
    mended(owner, lambda: findings(restricted))
    owner.execute("ALTER TABLE items ENABLE ROW LEVEL SECURITY")
    owner.execute("CREATE POLICY all_rows ON items USING (true)")
    owner.execute("CREATE POLICY few ON items AS RESTRICTIVE USING (a > 1)")
    found = the(findings(restricted), "row security")
    assert found.level is Level.WARNING
    assert found.remedy is not None
    owner.execute(found.remedy.partition("or, where restrictive policies remain: ")[2])
    assert about(findings(restricted), "row security") == []


# --- the table and what apply made ------------------------------------------------------------------------


def broken(url: str, owner: psycopg.Connection[Any], statement: str, **overrides: Any) -> list[Finding]:
    """The findings after `apply` and then some statement of somebody's."""
    config = configuration(url, **overrides)
    with opened(config) as engine:
        applied(engine)
    owner.execute(statement)
    return findings(config)


@pytest.mark.parametrize(
    ("statement", "subject", "level", "words"),
    [
        ("DROP INDEX rowscore_churn_pending", "pending index", Level.ERROR, "is missing"),
        (
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'rowscore_churn_pending'::regclass",
            "pending index",
            Level.ERROR,
            "is invalid",
        ),
        ("DROP VIEW items_scored", "view", Level.WARNING, "is missing"),
        (
            "ALTER TABLE items SET (autovacuum_enabled = off)",
            "vacuum",
            Level.WARNING,
            "autovacuum is off for public.items",
        ),
        ("ALTER TABLE items DISABLE TRIGGER zzz_rowscore_churn", "applied", Level.WARNING, "trigger"),
    ],
)
def test_what_was_broken_since_is_found(
    *,
    database_url: str,
    owner: psycopg.Connection[Any],
    statement: str,
    subject: str,
    level: Level,
    words: str,
) -> None:
    found = [
        item for item in about(broken(database_url, owner, statement), subject) if item.level is not Level.OK
    ]
    assert [item.level for item in found if words in item.message] == [level]


@pytest.mark.parametrize("statement", ["DROP INDEX rowscore_churn_pending", "DROP VIEW items_scored"])
def test_apply_mends_what_it_is_said_to_mend(
    database_url: str, owner: psycopg.Connection[Any], statement: str
) -> None:
    config = configuration(database_url)
    found = bad(broken(database_url, owner, statement))
    assert {finding.remedy for finding in found} == {"rowscore apply churn"}
    with opened(config) as engine:
        applied(engine)
    assert bad(findings(config)) == []


def test_a_view_with_its_owners_rights_is_mended(database_url: str, owner: psycopg.Connection[Any]) -> None:
    found = the(broken(database_url, owner, "ALTER VIEW items_scored RESET (security_invoker)"), "view")
    assert found.level is Level.WARNING
    owner.execute(str(found.remedy))
    assert the(findings(configuration(database_url)), "view").level is Level.OK


@pytest.mark.usefixtures("owner")
def test_another_definition_than_the_applied_one_is_an_error(database_url: str) -> None:
    with opened(configuration(database_url)) as engine:
        applied(engine)
    found = the(findings(configuration(database_url, inputs=["a", {"column": "b", "default": 0}])), "applied")
    assert found.level is Level.ERROR
    assert "refuse to score" in found.message


def test_triggers_of_the_applications_that_a_prediction_fires_are_named(
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


# --- what does not fit ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "subject", "words"),
    [
        ({"table": "nowhere"}, "table", "there is no table nowhere"),
        ({"table": "hidden"}, "table", "is in schema elsewhere, which is not on the search path"),
        ({"inputs": ["a", "bb"]}, "definition", "has no column 'bb'"),
        ({"inputs": ["a", {"name": "x", "sql": "b +"}]}, "definition", "inputs: x: the database refuses it"),
        ({"inputs": ["a"]}, "definition", "takes 2 arguments"),
        ({"inputs": ["note", "b"]}, "function", "predict(text, integer) does not exist"),
        (
            {"outputs": {"p": "jsonb"}},
            "function",
            "answers double precision, which cannot be stored in p (jsonb)",
        ),
        ({"model": {"sql": "predicted"}}, "function", "there is no function predicted"),
        ({"table": "keyless"}, "table", "it has no key that is unique and NOT NULL"),
        ({"model": {"python": "no_such_module:predict"}}, "model", "cannot import no_such_module"),
    ],
)
def test_what_does_not_fit_is_named(
    database_url: str, owner: psycopg.Connection[Any], overrides: dict[str, Any], subject: str, words: str
) -> None:
    owner.execute(
        "CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.hidden (id int PRIMARY KEY, a float8, b int)"
    )
    owner.execute("CREATE TABLE keyless (a float8, b int)")
    found = [item for item in findings(configuration(database_url, **overrides)) if item.level is Level.ERROR]
    assert [(item.subject, words in item.message) for item in found] == [(subject, True)], found


@pytest.mark.usefixtures("owner")
def test_an_endpoint_that_does_not_answer_is_an_error(database_url: str) -> None:
    model = {"http": f"http://127.0.0.1:{free_port()}/invocations"}
    found = the(findings(configuration(database_url, model=model)), "model")
    assert found.level is Level.ERROR
    assert found.remedy is not None


def test_a_database_that_is_not_there_is_one_error_and_the_rest_is_checked() -> None:
    config = configuration(
        f"postgresql://nobody:secret@127.0.0.1:{free_port()}/nothing", model={"python": "math:fsum"}
    )
    found = findings(config)
    assert [item.subject for item in found if item.level is Level.ERROR] == ["connection"]
    assert the(found, "model").level is Level.OK
    assert "secret" not in str(found)


@pytest.mark.usefixtures("owner")
def test_an_unset_variable_is_named_and_several_predictions_share_one_connection(database_url: str) -> None:
    section = {
        "table": "items",
        "inputs": ["a", "b"],
        "outputs": {"p": "float8"},
        "model": {"sql": "predict"},
    }
    predictions = {"first": section, "second": {**section, "outputs": {"q": "float8"}}}
    found = findings(parse_configuration({"database": database_url, "predictions": predictions}))
    assert len(about(found, "connection")) == 1
    assert [item.prediction for item in about(found, "key")] == ["first", "second"]
    unset = parse_configuration({"database": "$H7_NOT_SET", "predictions": {"first": section}})
    assert "the environment variable H7_NOT_SET is not set" in the(findings(unset), "connection").message


@pytest.mark.parametrize("timing", ["BEFORE", "AFTER"])
def test_a_trigger_that_still_calls_the_model_in_every_insert_is_named_with_what_drops_it(
    database_url: str, owner: psycopg.Connection[Any], timing: str
) -> None:
    for name, body in (("ask", "PERFORM opaque(NEW.a, NEW.b)"), ("note", "NEW.note := 'x'")):
        owner.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$"
        )
        owner.execute(
            f'CREATE TRIGGER "{name} it" {timing} INSERT ON items FOR EACH ROW EXECUTE FUNCTION {name}()'
        )
    owner.execute("ALTER FUNCTION predict RENAME TO opaque")
    config = configuration(database_url, model={"sql": "opaque"})
    before = the(findings(config), "inserts")
    assert before.remedy == 'once rowscore scores the rows: DROP TRIGGER "ask it" ON items;'
    with opened(config) as engine:
        applied(engine)
    found = the(findings(config), "inserts")
    assert found.level is Level.WARNING
    assert found.message == f"every INSERT still waits for the model: ask it ({timing} INSERT) calls it"
    assert found.remedy == 'DROP TRIGGER "ask it" ON items;'
    owner.execute(found.remedy)
    assert the(findings(config), "inserts").level is Level.OK


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


# --- the server -------------------------------------------------------------------------------------------


def test_old_transactions_are_named_with_the_session_to_end(database: Database, connect: Connect) -> None:
    idle = connect(application_name="report")
    idle.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    idle.execute("SELECT 1")

    def ask(older_than: float) -> list[Finding]:
        with database.transaction() as transaction:
            return list(check_snapshots(transaction, read_server(transaction), older_than))

    assert [finding.level for finding in ask(600)] == [Level.OK]
    (found,) = ask(0)
    assert f"session {idle.info.backend_pid} (postgres, report, idle in transaction)" in found.message
    assert found.remedy is not None
    connect().execute(found.remedy.partition("or: ")[2])
    with pytest.raises(psycopg.OperationalError):
        idle.execute("SELECT 1")
    assert [finding.level for finding in ask(0)] == [Level.OK]


def test_a_role_that_cannot_write_is_an_error(
    database_url: str, owner: psycopg.Connection[Any], role: str
) -> None:
    owner.execute(f'ALTER ROLE "{role}" SET default_transaction_read_only = on')
    owner.execute(f'ALTER ROLE "{role}" SET default_transaction_isolation = serializable')
    config = configuration(as_role(database_url, role))
    found = findings(config)
    assert the(found, "connection").level is Level.ERROR
    assert "serializable" in the(found, "isolation").message
    owner.execute(str(the(found, "connection").remedy))
    assert the(findings(config), "connection").level is Level.OK


# --- around it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("marker", [True, False], ids=["package", "folder"])
def test_a_folder_that_shadows_a_package_is_named(tmp_path: Path, marker: bool) -> None:
    (tmp_path / "tasks").mkdir()
    if marker:
        (tmp_path / "tasks" / "__init__.py").touch()
    elsewhere = [path for path in sys.path if Path(path).resolve() not in (OWN, Path.cwd()) and path]
    found = list(check_imports(OWN, tmp_path, [*elsewhere, str(OWN)] if marker else elsewhere))
    assert [(item.level, str(tmp_path / "tasks") in item.message) for item in found] == [(Level.ERROR, True)]


def test_rowscores_own_folders_shadow_nothing() -> None:
    assert [item.level for item in check_imports(OWN, OWN, [str(OWN)])] == [Level.OK]


def test_a_shadowed_name_is_found_by_the_command_itself(tmp_path: Path) -> None:
    (tmp_path / "sql.py").write_text("x = 1\n")
    script = "from worker.doctor.imports import check_own_imports as c; print(*[f.message for f in c()])"
    # -P: like the installed script, Python itself does not look into the current folder; Celery does.
    words = [sys.executable, "-P", "-c", script]
    done = subprocess.run(
        words, cwd=tmp_path, env=python_path(), capture_output=True, text=True, check=True, timeout=60
    )
    assert f"`import sql` finds {tmp_path / 'sql.py'} instead of {OWN / 'sql'}" in done.stdout


def with_broker(url: str) -> Configuration:
    section = {"table": "items", "inputs": ["a"], "outputs": {"p": "float8"}, "model": {"sql": "predict"}}
    return parse_configuration(
        {"database": "postgresql:///x", "broker": url, "predictions": {"churn": section}}
    )


def test_a_broker_that_answers_and_has_no_worker(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        found = list(check_broker(with_broker(redis.url())))
    assert [(item.subject, item.level) for item in found] == [
        ("broker", Level.OK),
        ("workers", Level.WARNING),
    ]


def test_a_broker_that_does_not_answer_is_named_without_its_password() -> None:
    (found,) = check_broker(with_broker(f"redis://:hidden@127.0.0.1:{free_port()}/0"))
    assert found.level is Level.ERROR
    assert "hidden" not in found.message


def test_without_a_broker_run_still_works_and_it_says_so() -> None:
    (found,) = check_broker(with_broker("$H7_NO_BROKER"))
    assert found.level is Level.WARNING
    assert "`rowscore run` works" in found.message


def test_a_worker_with_another_definition_is_named() -> None:
    config = with_broker("redis://x")
    own = {"churn": {"definition": config.predictions["churn"].definition_hash, "version": ""}}
    same = {"one@host": {"predictions": own}}
    assert [item.level for item in compare_workers(config, same)] == [Level.OK]
    other = {"two@host": {"predictions": {"churn": {"definition": "0" * 12, "version": ""}}}}
    (found,) = compare_workers(config, {**same, **other})
    assert found.level is Level.ERROR
    assert found.message.startswith("two@host was started with another definition of churn")
