"""Functions that call Aurora's services, on servers that are not Aurora: ordinary functions stand in for them.

What Aurora alone can parse is in `tests/unit/aurora/`; here is everything around it: what `apply` honours, refuses,
makes and drops, and that the functions are really called.
"""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import make_url

from tests.conftest import Connect
from tests.support.applied import prediction, resolved
from tests.support.databases import MySQLSession, databases
from tests.support.predictions import applied, configuration, drain, opened, states
from worker.apply import apply, remove
from worker.aurora import service_objects
from worker.database import Database
from worker.doctor.examination import examine
from worker.doctor.findings import Level
from worker.errors import ConfigurationError, PrivilegeError, RefusedError
from worker.evidence import gather
from worker.explain import explain
from worker.states import RowState

SAGEMAKER = {"sql": "predict", "aurora": {"sagemaker": "churn-endpoint"}}
SENTIMENT = {"sql": "mood", "mode": "select", "aurora": {"comprehend": "sentiment"}}
MOOD: dict[str, Any] = {"inputs": ["note"], "outputs": {"mood": "varchar(10)"}}
TITAN = {
    "sql": "ask",
    "aurora": {
        "bedrock": "amazon.titan-text-express-v1",
        "request": '{"inputText": "It\'s \\"{note}\\"", "n": ["{b}", {"t": 0.5}]}',
        "answer": "results.0.text",
    },
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Not for PostgreSQL, whose stand-ins another module makes."""
    if "database_url" in metafunc.fixturenames:
        here = [name for name in databases() if name != "postgresql"]
        metafunc.parametrize("database_url", here, indirect=True)


@pytest.fixture
def owner(connect: Connect) -> MySQLSession:
    """The application's connection, the table items, and a table that counts calls and knows no transactions."""
    connection: MySQLSession = connect()
    connection.execute(
        "CREATE TABLE items (id bigint PRIMARY KEY, a double, b int, note varchar(200)) DEFAULT CHARSET utf8mb4"
    )
    connection.execute("CREATE TABLE calls (n bigint NOT NULL) ENGINE = MyISAM")
    connection.execute("INSERT INTO calls VALUES (0)")
    return connection


def stand_in(connection: MySQLSession, name: str, arguments: str, returns: str, answer: str) -> None:
    """A function that counts its calls."""
    connection.execute(
        f"""CREATE FUNCTION {name}({arguments}) RETURNS {returns} NOT DETERMINISTIC MODIFIES SQL DATA
            BEGIN UPDATE calls SET n = n + 1; RETURN {answer}; END"""
    )


def by_hand(connection: MySQLSession) -> None:
    """The function that Aurora would have as an alias of its endpoint."""
    stand_in(connection, "predict", "a double, b int", "double", "a + b")


def add(connection: MySQLSession, rows: int) -> None:
    for number in range(1, rows + 1):
        connection.execute(
            "INSERT INTO items (id, a, b, note) VALUES (%s, %s, 10, 'great')", [number, number]
        )


def calls(connection: MySQLSession) -> int:
    (count,) = connection.execute("SELECT n FROM calls").fetchone() or (0,)
    return int(count)


def functions(connection: MySQLSession) -> list[tuple[str, str]]:
    return connection.execute(
        "SELECT routine_name, routine_comment FROM information_schema.routines "
        "WHERE routine_schema = DATABASE() ORDER BY 1"
    ).fetchall()


def test_a_function_made_by_hand_stands_in_and_is_left_as_it_is(
    database_url: str, owner: MySQLSession
) -> None:
    by_hand(owner)
    before = functions(owner)
    with opened(configuration(database_url, model=SAGEMAKER)) as engine:
        applied(engine)
        config = engine.prediction()
        assert apply(engine.database(config), engine.materialisation(config)) == []
        add(owner, 5)
        assert drain(engine).scored == 5
        remove(engine.database(config), config)
    assert owner.execute("SELECT p FROM items ORDER BY id").fetchall() == [
        (float(n + 10),) for n in range(1, 6)
    ]
    assert calls(owner) == 5
    assert functions(owner) == before


def test_without_one_the_server_is_said_to_have_no_such_services(
    database: Database, owner: MySQLSession
) -> None:
    before = owner.execute("SHOW CREATE TABLE items").fetchall()
    with pytest.raises(RefusedError) as caught:
        apply(database, resolved(database, model=SAGEMAKER))
    (schema,) = owner.execute("SELECT DATABASE()").fetchone() or ("",)
    assert str(caught.value) == (
        f"predictions.churn: this server has no machine learning services, which the function {schema}.predict is to "
        f"call: connect to an Aurora MySQL cluster, or make a function {schema}.predict by hand, which `apply` then "
        f"leaves as it is"
    )
    assert owner.execute("SHOW CREATE TABLE items").fetchall() == before


def test_one_that_does_not_fit_is_left_and_refused(database: Database, owner: MySQLSession) -> None:
    stand_in(owner, "predict", "a double", "double", "a")
    with pytest.raises(ConfigurationError, match=r"predict takes 1 arguments and .* lists 2"):
        apply(database, resolved(database, model=SAGEMAKER))
    assert [name for name, _ in functions(owner)] == ["predict"]


@pytest.mark.parametrize("call", ["predict(NEW.a, NEW.b)", "`predict` (NEW.a, 1)", "PREDICT(1, 2)"])
def test_a_trigger_that_calls_it_is_refused_until_it_is_dropped(
    database: Database, owner: MySQLSession, call: str
) -> None:
    by_hand(owner)
    owner.execute(f"CREATE TRIGGER score BEFORE INSERT ON items FOR EACH ROW SET NEW.note = {call}")
    owner.execute(
        "CREATE TRIGGER other BEFORE INSERT ON items FOR EACH ROW SET NEW.note = CONCAT('predict', my_predict(1))"
    )
    m = resolved(database, model=SAGEMAKER)
    with pytest.raises(
        RefusedError, match=r"trigger \w+\.score of .*items calls .*predict, and Aurora refuses"
    ):
        apply(database, m)
    owner.execute("DROP TRIGGER score")
    apply(database, m)


def test_an_output_column_in_another_charset_is_refused_and_the_remedy_mends_it(
    database: Database, owner: MySQLSession
) -> None:
    stand_in(owner, "predict", "a double, b int", "varchar(20) CHARSET utf8mb4", "'é'")
    owner.execute("ALTER TABLE items ADD COLUMN label varchar(20) CHARACTER SET latin1")
    overrides: dict[str, Any] = {"model": SAGEMAKER, "outputs": {"label": "varchar(20)"}}
    with pytest.raises(RefusedError, match="output column label is in latin1") as caught:
        apply(database, resolved(database, **overrides))
    owner.execute(str(caught.value).partition("; first ")[2])
    apply(database, resolved(database, **overrides))


def test_several_outputs_are_refused(database: Database, owner: MySQLSession) -> None:
    with pytest.raises(RefusedError, match="answers one value and 2 outputs are configured"):
        apply(database, resolved(database, model=SAGEMAKER, outputs={"p": "double", "q": "double"}))
    by_hand(owner)
    with pytest.raises(ConfigurationError, match="answers one double and 2 outputs are configured"):
        resolved(database, model=SAGEMAKER, outputs={"p": "double", "q": "double"})


@pytest.mark.parametrize("mode", ["select", "update"])
@pytest.mark.parametrize("size", [None, 25])
def test_comprehends_function_is_called_as_it_is(
    database_url: str, owner: MySQLSession, mode: str, size: int | None
) -> None:
    more = ", max_batch_size int" if size else ""
    answer = "CONCAT(IF(note = 'great', 'POS', 'NEG'), language_code" + (", max_batch_size)" if size else ")")
    arguments = f"note text, language_code varchar(5){more}"
    stand_in(owner, "aws_comprehend_detect_sentiment", arguments, "varchar(20) CHARSET utf8mb4", answer)
    overrides = {**MOOD, "model": {**SENTIMENT, "mode": mode}, "max_rows_per_batch": size}
    with opened(
        configuration(database_url, **{k: v for k, v in overrides.items() if v is not None})
    ) as engine:
        applied(engine)
        add(owner, 3)
        assert drain(engine).scored == 3
        owner.execute("UPDATE items SET note = 'bad' WHERE id = 2")
        drain(engine)
        found = explain(engine.database(engine.prediction()), engine.materialisation(engine.prediction()))
        assert found.by_index
    end = f"en{size or ''}"
    assert owner.execute("SELECT mood FROM items ORDER BY id").fetchall() == [
        (f"POS{end}",), (f"NEG{end}",), (f"POS{end}",),
    ]  # fmt: skip
    assert calls(owner) == 4
    assert [name for name, _ in functions(owner)] == ["aws_comprehend_detect_sentiment"]


def test_a_stand_in_of_the_configured_name_comes_before_comprehends_own(
    database_url: str, owner: MySQLSession
) -> None:
    stand_in(owner, "mood", "note text", "varchar(20) CHARSET utf8mb4", "'MIXED'")
    with opened(configuration(database_url, model=SENTIMENT, **MOOD)) as engine:
        applied(engine)
        add(owner, 1)
        drain(engine)
    assert owner.execute("SELECT mood FROM items").fetchall() == [("MIXED",)]


def test_without_comprehend_nothing_is_applied(database: Database, owner: MySQLSession) -> None:
    with pytest.raises(
        RefusedError, match=r"this server has no aws_comprehend_detect_sentiment, .* function mood by"
    ):
        apply(database, resolved(database, model=SENTIMENT, **MOOD))
    assert functions(owner) == []


ECHO = "JSON_OBJECT('results', JSON_ARRAY(JSON_OBJECT('text', request_body)))"


def test_the_function_that_makes_bedrocks_request_is_ours_from_apply_to_remove(
    database_url: str, owner: MySQLSession
) -> None:
    """The alias is made by hand here; what calls it is what Aurora would run, too."""
    stand_in(owner, "ask_bedrock", "request_body text CHARSET utf8mb4", "text CHARSET utf8mb4", ECHO)
    inputs = [{"column": "note", "default": "great"}, {"column": "b", "default": 10}]
    shape: dict[str, Any] = {"inputs": inputs, "outputs": {"reply": "json"}}
    with opened(configuration(database_url, model=TITAN, **shape)) as engine:
        config = engine.prediction()
        database = engine.database(config)
        titles = [change.title for change in apply(database, engine.materialisation(config))]
        assert titles[0].endswith(".ask") or titles[1].endswith(".ask"), titles
        assert apply(database, engine.materialisation(config)) == []
        owner.execute("INSERT INTO items (id, note, b) VALUES (1, 'great', 10), (2, NULL, NULL)")
        assert drain(engine).scored == 2
        assert calls(owner) == 2, "one call a row, though the answer is looked at twice"
        query = "SELECT JSON_VALUE(reply, '$.inputText'), JSON_VALUE(reply, '$.n[0]'), JSON_VALUE(reply, '$.n[1].t')"
        assert owner.execute(f"{query} FROM items").fetchall() == [('It\'s "great"', "10", "0.5")] * 2
        own = owner.execute("SELECT JSON_VALUE(ask(NULL, NULL), '$.n[0]')").fetchone()
        assert own == ("10",), "who calls it by hand gets the defaults, too"
        names = dict(functions(owner))
        assert names["ask"].startswith("maintained by rowscore: prediction churn, model ")
        assert names["ask_bedrock"] == ""
        other = {**TITAN, "aurora": {**TITAN["aurora"], "answer": "results"}}  # type: ignore[dict-item]
        again = apply(database, resolved(database, model=other, **shape))
        assert again[0].title.endswith(".ask")
        assert dict(functions(owner))["ask"] != names["ask"]
        remove(database, config)
    assert [name for name, _ in functions(owner)] == ["ask_bedrock"]


def test_an_account_that_may_not_make_functions_is_told_the_grant(
    database_url: str, owner: MySQLSession
) -> None:
    stand_in(owner, "ask_bedrock", "request_body text CHARSET utf8mb4", "text CHARSET utf8mb4", ECHO)
    (schema,) = owner.execute("SELECT DATABASE()").fetchone() or ("",)
    name = f"maker_{schema}"
    owner.execute(f"CREATE USER {name}@'%%' IDENTIFIED BY 'secret'", [])
    owner.execute(
        f"GRANT SELECT, INSERT, UPDATE, DELETE, ALTER, INDEX, TRIGGER, LOCK TABLES, CREATE, DROP, REFERENCES, "
        f"CREATE VIEW, SHOW VIEW, EXECUTE ON {schema}.* TO {name}@'%%'", []
    )  # fmt: skip
    url = make_url(database_url).set(username=name, password="secret").render_as_string(hide_password=False)
    shape: dict[str, Any] = {"model": TITAN, "inputs": ["note", "b"], "outputs": {"reply": "json"}}
    maker = Database(url)
    try:
        with pytest.raises(PrivilegeError) as caught:
            apply(maker, resolved(maker, **shape))
        grant = str(caught.value).partition(": ")[2]
        assert grant == f"GRANT ALTER ROUTINE, CREATE ROUTINE ON `{schema}`.* TO '{name}'@'%'"
        owner.execute(grant)
        maker.dispose()  # rights on a database hold from a session's next USE on
        apply(maker, resolved(maker, **shape))
        remove(maker, prediction(**shape))
    finally:
        maker.dispose()
        owner.execute(f"DROP USER {name}@'%%'", [])
    assert [made for made, _ in functions(owner)] == ["ask_bedrock"]


@pytest.mark.parametrize(
    ("reply", "kind", "expected"),
    [
        ('\'{"results": [{"text": null}]}\'', "varchar(20)", None),
        ('\'{"results": [{"text": null}]}\'', "double", None),
        ("'{\"results\": []}'", "text", None),
        ('\'{"results": [{"text": 0.25}]}\'', "double", 0.25),
        ('\'{"results": [{"text": "0.25"}]}\'', "double", 0.25),
        ('\'{"results": [{"text": "null"}]}\'', "text", "null"),
    ],
)
def test_what_the_reply_holds_becomes_the_answer(
    database_url: str, owner: MySQLSession, reply: str, kind: str, expected: Any
) -> None:
    stand_in(owner, "ask_bedrock", "request_body text CHARSET utf8mb4", "text CHARSET utf8mb4", reply)
    shape: dict[str, Any] = {"inputs": ["note", "b"], "outputs": {"reply": kind}}
    with opened(configuration(database_url, model=TITAN, **shape)) as engine:
        applied(engine)
        add(owner, 1)
        drain(engine)
    assert states(owner) == {RowState.SCORED.value: 1}
    assert owner.execute("SELECT reply FROM items").fetchall() == [(expected,)]


def test_a_function_of_ours_is_dropped_by_its_mark_alone(database: Database, owner: MySQLSession) -> None:
    """As on Aurora: the comment is the only thing by which an alias can be told from somebody else's."""
    m = resolved(database, model=SAGEMAKER)
    (item,) = service_objects(m)
    assert " COMMENT '" in item.create
    owner.execute(
        f"CREATE FUNCTION predict(a double, b int) RETURNS double DETERMINISTIC COMMENT '{item.mark}' RETURN a + b"
    )
    changes = apply(database, resolved(database, model=SAGEMAKER))
    assert not any("FUNCTION" in change.sql for change in changes), "it is as wanted"
    other = {"sql": "predict", "aurora": {"sagemaker": "other"}}
    with pytest.raises(RefusedError, match="this server has no machine learning services"):
        apply(database, resolved(database, model=other))
    assert len(functions(owner)) == 1, "what cannot be made again is not dropped"
    remove(database, prediction(model=SAGEMAKER))
    assert functions(owner) == []


def test_doctor_tells_comprehends_mode_and_that_there_are_no_counters_here(
    database_url: str, owner: MySQLSession
) -> None:
    stand_in(
        owner, "aws_comprehend_detect_sentiment", "t text, c varchar(5)", "varchar(20) CHARSET utf8mb4", "t"
    )
    model = {**SENTIMENT, "mode": "update"}
    with opened(configuration(database_url, model=model, **MOOD)) as engine:
        found = [item for item in examine(engine, [engine.prediction()]) if item.subject == "batch mode"]
    assert [item.level for item in found] == [Level.WARNING, Level.OK]
    assert "inside the UPDATE" in found[0].message
    assert found[0].remedy is not None
    assert found[0].remedy.startswith('mode = "select"')
    assert "is a stand-in here" in found[1].message


# --- whether calls go out in batches ------------------------------------------------------------------------


def test_what_calls_comprehend_row_by_row_is_found(database_url: str, owner: MySQLSession) -> None:
    arguments = "note text, language_code varchar(5)"
    stand_in(owner, "aws_comprehend_detect_sentiment", arguments, "varchar(20) CHARSET utf8mb4", "'POSITIVE'")
    with opened(configuration(database_url, model=SENTIMENT, **MOOD)) as engine:
        applied(engine)
        config = engine.prediction()
        assert explain(engine.database(config), engine.materialisation(config)).leaks == ()
        owner.execute("CREATE TABLE notes (note varchar(50), mood varchar(20))")
        owner.execute(
            "CREATE TRIGGER on_note BEFORE INSERT ON notes FOR EACH ROW "
            "SET NEW.mood = AWS_COMPREHEND_DETECT_SENTIMENT(NEW.note, 'en')"
        )
        owner.execute(
            "CREATE FUNCTION wrapped(t text) RETURNS varchar(20) READS SQL DATA "
            "RETURN `aws_comprehend_detect_sentiment` (t, 'en')"
        )
        found = explain(engine.database(config), engine.materialisation(config)).leaks
    (schema,) = owner.execute("SELECT DATABASE()").fetchone() or ("",)
    assert [leak.caller for leak in found] == [
        f"function {schema}.wrapped",
        f"trigger on_note of {schema}.notes",
    ]


@pytest.mark.parametrize("mode", ["update", "select"])
def test_a_sample_calls_the_function_and_leaves_nothing_behind(
    database_url: str, owner: MySQLSession, mode: str
) -> None:
    by_hand(owner)
    with opened(configuration(database_url, model={**SAGEMAKER, "mode": mode})) as engine:
        applied(engine)
        add(owner, 5)
        config = engine.prediction()
        found = gather(engine.database(config), engine.materialisation(config), 3)
    assert (found.rows, dict(found.calls), found.text) == (3, {}, ())
    assert not found.batching.batched
    assert calls(owner) == 3
    assert states(owner) == {RowState.PENDING.value: 5}
    assert owner.execute("SELECT COUNT(p) FROM items").fetchone() == (0,)
