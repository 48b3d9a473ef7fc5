"""The staleness trigger where only MySQL and MariaDB are so: clocks in a column's definition, an order of triggers."""

from __future__ import annotations

from tests.conftest import Connect
from tests.integration.test_trigger import WRITE, state
from tests.support.applied import make_items, resolved
from tests.support.databases import INNODB, one
from worker.apply import apply
from worker.database import Database

CONFORMANCE = INNODB


def test_a_clock_among_the_inputs_and_one_that_is_none(connect: Connect, database: Database) -> None:
    items = connect()
    clock = "timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)"
    make_items(items, 1, f", touched {clock}, seen {clock}")
    apply(database, resolved(database, inputs=["seen"]))
    held = f"{WRITE}, seen = seen"  # as rowscore writes
    items.execute(held)
    assert one(items, "SELECT churn_state FROM items") == 1
    items.execute("UPDATE items SET note = 'x', seen = seen")  # touched alone moves
    assert one(items, "SELECT churn_state FROM items") == 1
    items.execute("UPDATE items SET note = 'y'")
    assert one(items, "SELECT churn_state FROM items") == 0


def test_a_column_that_is_generated_from_a_generated_one(connect: Connect, database: Database) -> None:
    items = connect()
    make_items(items, 1, ", g int AS (b * 2) VIRTUAL, h int AS (g + 1) STORED")
    apply(database, resolved(database, inputs=["h"]))
    assert state(items, "UPDATE items SET b = b + 1") == 0
    assert state(items, "UPDATE items SET a = a + 1") == 1


def test_two_of_rowscores_own_do_not_push_each_other_back(connect: Connect, database: Database) -> None:
    make_items(connect(), 1)
    wanted, fraud = resolved(database), resolved(database, "fraud", outputs={"f": "int"}, view=False)
    apply(database, wanted)
    apply(database, fraud)
    assert [change.title.split()[2] for change in apply(database, wanted)] == ["view"]
    assert apply(database, fraud) == []
