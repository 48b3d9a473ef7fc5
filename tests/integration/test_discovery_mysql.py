"""`init` on MySQL and MariaDB: what it finds, and that what it writes can be applied and scored as it stands."""

from __future__ import annotations

import tomllib

import pytest

from tests.conftest import Connect
from tests.support.databases import MySQLSession, databases, schema_of
from tests.support.predictions import applied, drain, opened
from worker.config import Configuration, parse_configuration
from worker.database import Database
from worker.discovery.choices import Candidate, candidates, choose, propose
from worker.discovery.draft import to_toml
from worker.discovery.facts import read_surroundings


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Not for PostgreSQL, of whose `init` another module speaks."""
    if "database_url" in metafunc.fixturenames:
        here = [name for name in databases() if name != "postgresql"]
        metafunc.parametrize("database_url", here, indirect=True)


@pytest.fixture
def shop(connect: Connect) -> MySQLSession:
    """A table of orders whose INSERT trigger calls a model, and others that nothing speaks for."""
    connection: MySQLSession = connect()
    connection.execute(
        """CREATE TABLE orders (
             `order id` bigint unsigned AUTO_INCREMENT PRIMARY KEY,
             country char(2), amount decimal(10,2), items int unsigned, payload json, photo blob,
             created_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), updated_at datetime,
             total decimal(10,2) AS (amount * 2) STORED, fraud double);
           CREATE TABLE pairs (a int NOT NULL, b int NOT NULL, c text, UNIQUE KEY (a, b), UNIQUE KEY (c(10)));
           CREATE TABLE log (line text);
           CREATE TABLE counters (id int PRIMARY KEY, n int) ENGINE = MyISAM;
           CREATE VIEW few AS SELECT * FROM orders"""
    )
    connection.execute(
        """CREATE FUNCTION predict_fraud(p_country char(2), amount decimal(10,2), items int unsigned) RETURNS double
           DETERMINISTIC NO SQL RETURN 0.5"""
    )
    connection.execute("CREATE FUNCTION twice(n int) RETURNS int DETERMINISTIC NO SQL RETURN n * 2")
    connection.execute(
        """CREATE TRIGGER `ask it` BEFORE INSERT ON orders FOR EACH ROW
           SET NEW.fraud = `predict_fraud`(NEW.country, NEW.amount, NEW.items)"""
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
    return parse_configuration({**content, "database": url, "broker": "redis://127.0.0.1:1/0"})


def test_a_table_whose_trigger_calls_a_model_is_configured_applied_and_scored(
    database_url: str, database: Database, shop: MySQLSession
) -> None:
    config = configured(database, database_url)
    prediction = config.prediction()
    assert prediction.name == "fraud"
    assert [item.column for item in prediction.inputs] == ["country", "amount", "items"]
    assert prediction.arrived_at == "created_at"
    assert prediction.outputs == {"fraud_prediction": "double"}
    with opened(config) as engine:
        applied(engine)
        shop.execute("INSERT INTO orders (country, amount, items) VALUES ('DE', 3, 1), ('FR', 4, 2)")
        assert drain(engine).scored == 2
    (row,) = shop.execute("SELECT DISTINCT fraud_prediction FROM orders").fetchall()
    assert row == (0.5,)


def test_the_pattern_to_come_away_from_is_recognised(database: Database, shop: MySQLSession) -> None:
    found = listed(database)[0]
    assert found.table.label == f"{schema_of(shop)}.orders"
    assert [trigger.name for trigger in found.triggers] == ["ask it"]
    shop.execute(found.triggers[0].removal)
    assert all(not candidate.triggers for candidate in listed(database))


def test_tables_without_a_usable_key_or_without_transactions_are_left_out(
    database: Database, shop: MySQLSession
) -> None:
    assert shop is not None
    keys = {item.table.name: item.table.key for item in listed(database)}
    assert keys == {"orders": ("order id",), "pairs": ("a", "b")}


def test_what_is_made_or_cannot_be_sent_is_no_input(
    database_url: str, database: Database, shop: MySQLSession
) -> None:
    shop.execute("DROP TRIGGER `ask it`; DROP FUNCTION predict_fraud")
    prediction = configured(database, database_url, "orders").prediction()
    assert [item.column for item in prediction.inputs] == ["country", "amount", "items", "fraud"]


def test_what_rowscore_made_is_not_offered_again(
    database_url: str, database: Database, shop: MySQLSession
) -> None:
    assert shop is not None
    config = configured(database, database_url)
    with opened(config) as engine:
        applied(engine)
    found = {item.table.name: item.table for item in listed(database)}
    assert set(found) == {"orders", "pairs"}
    ours = {column.name for column in found["orders"].columns if column.ours}
    assert ours == {"fraud_state", "fraud_prediction", "fraud_scored_at"}
