"""Tables that `apply` does not touch, each with its reason; nothing is changed."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.applied import resolved
from tests.support.catalogue import catalogue
from tests.support.databases import each
from worker.apply import apply
from worker.database import Database
from worker.errors import ConfigurationError, RefusedError

CONFORMANCE = True
VERSION = {"column": "model", "value": "it's"}
USUAL = "id bigint PRIMARY KEY, a double precision, b int"

EVERYWHERE = [
    ("id bigint, a double precision, b int)", "unique and NOT NULL"),
    (f"{USUAL}, churn_state smallint NOT NULL)", "not rowscore's"),
    (f"{USUAL}, p double precision GENERATED ALWAYS AS (a * 2) STORED)", "is generated"),
    (f"{USUAL}, churn_scored_at int)", "expected timestamp"),
    (f"{USUAL}, prediction_state int)", "view = false"),
]
TABLES = {
    "postgresql": [
        *EVERYWHERE,
        ("id text NOT NULL, a float8, b int, EXCLUDE (id WITH =))", "unique and NOT NULL"),
        (f"{USUAL}, p float8 NOT NULL)", 'ALTER COLUMN "p" DROP NOT NULL'),
        (f"{USUAL}, model int)", "expected (text|varchar)"),
    ],
    "mysql": [
        *EVERYWHERE,
        (f"{USUAL}) ENGINE=MyISAM", "InnoDB"),
        ("id varchar(50) NOT NULL, a double, b int, UNIQUE KEY (id(10)))", "unique and NOT NULL"),
        (f"{USUAL}, p double NOT NULL)", "MODIFY COLUMN `p` double NULL"),
        (f"{USUAL}, model int)", "expected varchar"),
    ],
}


@each("definition, why", TABLES)
def test_tables_that_are_not_touched(connect: Connect, database: Database, definition: str, why: str) -> None:
    connection = connect()
    connection.execute(f"CREATE TABLE items ({definition}")
    before = catalogue(connection)
    with pytest.raises((RefusedError, ConfigurationError), match=why):
        apply(database, resolved(database, version=VERSION))
    assert catalogue(connection) == before


@pytest.mark.parametrize("claim", ["p", "state", "scored_at"])
def test_a_column_that_decides_where_a_row_lives_is_not_written(
    connect: Connect, database: Database, claim: str
) -> None:
    connection = connect()
    connection.execute(
        "CREATE TABLE items (id bigint, part int, a double precision, PRIMARY KEY (id, part)) PARTITION BY RANGE (part)"
        + (
            ""
            if database.url.get_backend_name() == "postgresql"
            else " (PARTITION p0 VALUES LESS THAN (100))"
        )
    )
    before = catalogue(connection)
    shape = {"outputs": {"part": "int"}} if claim == "p" else {claim: "part"}
    with pytest.raises((RefusedError, ConfigurationError), match="part"):
        apply(database, resolved(database, inputs=["a"], **shape))
    assert catalogue(connection) == before
