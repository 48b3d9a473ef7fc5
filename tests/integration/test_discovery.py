"""`init` on real databases: what it finds, and that what it writes can be applied and scored as it stands."""

from __future__ import annotations

import tomllib

import pytest

from tests.conftest import Connect
from tests.support.databases import Session, dialect, each, is_postgresql, one, quote, schema_of
from tests.support.predictions import applied, drain, opened
from tests.support.routines import add_function, add_trigger, assign
from worker.config import Configuration, parse_configuration
from worker.database import Database
from worker.discovery.choices import Candidate, candidates, choose, propose
from worker.discovery.draft import to_toml
from worker.discovery.facts import read_surroundings

CONFORMANCE = True
OTHERS = {
    "postgresql": "CREATE TABLE pairs (a int NOT NULL, b int NOT NULL, c text, UNIQUE (a, b))",
    "mysql": "CREATE TABLE pairs (a int NOT NULL, b int NOT NULL, c text, UNIQUE KEY (a, b), UNIQUE KEY (c(10))); "
    "CREATE TABLE counters (id int PRIMARY KEY, n int) ENGINE = MyISAM",
}
ORDERS = {
    "postgresql": """CREATE TABLE orders (
        "order id" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        country char(2), amount decimal(10,2), items int, payload json, photo bytea,
        created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz,
        total decimal(10,2) GENERATED ALWAYS AS (amount * 2) STORED, fraud double precision)""",
    "mysql": """CREATE TABLE orders (
        `order id` bigint unsigned AUTO_INCREMENT PRIMARY KEY,
        country char(2), amount decimal(10,2), items int unsigned, payload json, photo blob,
        created_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), updated_at datetime,
        total decimal(10,2) AS (amount * 2) STORED, fraud double)""",
}


@pytest.fixture
def shop(connect: Connect) -> Session:
    """A table of orders whose INSERT trigger calls a model, and others that nothing speaks for."""
    connection: Session = connect()
    connection.execute(ORDERS[dialect(connection)])
    connection.execute(OTHERS[dialect(connection)])
    connection.execute("CREATE TABLE log (line text)")
    connection.execute("CREATE VIEW few AS SELECT * FROM orders")
    whole = "int" if is_postgresql(connection) else "int unsigned"
    add_function(
        connection, "predict_fraud", f"p_country char(2), amount decimal(10,2), items {whole}", "0.5"
    )
    add_function(connection, "twice", "n int", "n * 2", returns="int")
    called = "predict_fraud(NEW.country, NEW.amount, NEW.items)"
    add_trigger(
        connection,
        quote(connection, "ask it"),
        "BEFORE INSERT",
        assign(connection, "fraud", called),
        "orders",
    )
    return connection


def listed(database: Database) -> list[Candidate]:
    with database.transaction() as transaction:
        return candidates(read_surroundings(transaction))


def configured(database: Database, url: str, table: str | None = None) -> Configuration:
    """The configuration that `init` would write, with the test's own URL."""
    chosen = choose(listed(database), table)
    assert chosen is not None
    content = tomllib.loads(to_toml(propose(chosen)))
    assert content["database"] == "$DATABASE_URL"
    return parse_configuration({**content, "database": url, "broker": "redis://127.0.0.1:1/0"})


def test_a_table_whose_trigger_calls_a_model_is_configured_applied_and_scored(
    database_url: str, database: Database, shop: Session
) -> None:
    config = configured(database, database_url)
    prediction = config.prediction()
    assert prediction.name == "fraud"
    assert [item.column for item in prediction.inputs] == ["country", "amount", "items"]
    assert prediction.arrived_at == "created_at"
    kind = "double precision" if is_postgresql(shop) else "double"
    assert prediction.outputs == {"fraud_prediction": kind}
    with opened(config) as engine:
        applied(engine)
        shop.execute("INSERT INTO orders (country, amount, items) VALUES ('DE', 3, 1), ('FR', 4, 2)")
        assert drain(engine).scored == 2
    (row,) = shop.execute("SELECT DISTINCT fraud_prediction FROM orders").fetchall()
    assert row == (0.5,)


def test_the_pattern_to_come_away_from_is_recognised(database: Database, shop: Session) -> None:
    found = listed(database)[0]
    assert found.table.label == f"{schema_of(shop)}.orders"
    assert [trigger.name for trigger in found.triggers] == ["ask it"]
    shop.execute(found.triggers[0].removal)
    assert all(not candidate.triggers for candidate in listed(database))


def test_tables_without_a_usable_key_or_without_transactions_are_left_out(
    database: Database, shop: Session
) -> None:
    assert shop is not None
    keys = {item.table.name: item.table.key for item in listed(database)}
    assert keys == {"orders": ("order id",), "pairs": ("a", "b")}


def test_what_is_made_or_cannot_be_sent_is_no_input(
    database_url: str, database: Database, shop: Session
) -> None:
    shop.execute('DROP TRIGGER "ask it" ON orders' if is_postgresql(shop) else "DROP TRIGGER `ask it`")
    shop.execute("DROP FUNCTION predict_fraud")
    prediction = configured(database, database_url, "orders").prediction()
    assert [item.column for item in prediction.inputs] == ["country", "amount", "items", "fraud"]


def test_what_rowscore_made_is_not_offered_again(
    database_url: str, database: Database, shop: Session
) -> None:
    assert shop is not None
    config = configured(database, database_url)
    with opened(config) as engine:
        applied(engine)
    found = {item.table.name: item.table for item in listed(database)}
    assert set(found) == {"orders", "pairs"}
    ours = {column.name for column in found["orders"].columns if column.ours}
    assert ours == {"fraud_state", "fraud_prediction", "fraud_scored_at"}


def test_awkward_names_are_applied_as_they_were_found(
    database_url: str, database: Database, connect: Connect
) -> None:
    connection = connect()
    table, key, first, second = (quote(connection, name) for name in ('Ta"b`le', "K ey", "a\nb", "c'd"))
    connection.execute(
        f"CREATE TABLE {table} ({key} int PRIMARY KEY, {first} int, {second} double precision)"
    )
    config = configured(database, database_url)
    prediction = config.prediction()
    assert prediction.table.endswith('"Ta""b`le"')
    assert [item.column for item in prediction.inputs] == ["a\nb", "c'd"]
    with opened(config) as engine:
        applied(engine)
    view = quote(connection, 'Ta"b`le_scored')
    assert one(connection, f"SELECT count(*) FROM {view}") == 0


@pytest.mark.parametrize(
    ("definition", "key"),
    [
        ("id int PRIMARY KEY, code varchar(9) NOT NULL UNIQUE", ("id",)),
        ("a int NOT NULL, b int NOT NULL, c int, UNIQUE (b, a)", ("b", "a")),
    ],
)
def test_the_key_is_the_primary_key_else_a_unique_one(
    database: Database, connect: Connect, definition: str, key: tuple[str, ...]
) -> None:
    connect().execute(f"CREATE TABLE keyed ({definition})")
    assert [candidate.table.key for candidate in listed(database)] == [key]


KEYLESS = {
    "postgresql": [
        "CREATE TABLE t (a int)",
        "CREATE TABLE t (a int UNIQUE)",
        "CREATE TABLE t (a int NOT NULL); CREATE UNIQUE INDEX ON t (a) WHERE a > 0",
        "CREATE TABLE t (a int NOT NULL); CREATE UNIQUE INDEX ON t (abs(a))",
        "CREATE TABLE t (a int NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TABLE t (a int PRIMARY KEY); CREATE VIEW v AS SELECT * FROM t; DROP TABLE t CASCADE",
        "CREATE TEMPORARY TABLE t (a int PRIMARY KEY)",
    ],
    "mysql": [
        "CREATE TABLE t (a int)",
        "CREATE TABLE t (a int UNIQUE)",
        "CREATE TABLE t (a varchar(50) NOT NULL, UNIQUE KEY (a(10)))",
        "CREATE TABLE t (a int PRIMARY KEY) ENGINE = MyISAM",
        "CREATE VIEW v AS SELECT 1 AS a",
        "CREATE TEMPORARY TABLE t (a int PRIMARY KEY)",
    ],
}


@each("statement", KEYLESS)
def test_tables_without_a_usable_key_are_not_listed(
    database: Database, connect: Connect, statement: str
) -> None:
    connect().execute(statement)
    assert listed(database) == []
