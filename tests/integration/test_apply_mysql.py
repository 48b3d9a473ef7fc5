"""`apply` and `remove` on MySQL and MariaDB: what they make, what they leave alone, that they can stop anywhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymysql import MySQLError
from sqlalchemy import make_url

from tests.conftest import Connect
from tests.support.applied import HURRIED, STEADY, prediction, resolved
from tests.support.databases import databases, session
from worker.apply import apply, drift, remove
from worker.changes import Change
from worker.database import Database
from worker.errors import (
    ConfigurationError,
    DatabaseError,
    LockTimeoutError,
    MissingObjectError,
    PrivilegeError,
    RefusedError,
)

VERSION = {"column": "model", "value": "it's"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Not for PostgreSQL, of whose `apply` other modules speak."""
    here = [name for name in databases() if name != "postgresql"]
    if "database_url" in metafunc.fixturenames:
        metafunc.parametrize("database_url", here, indirect=True)


def make_items(connection: Any, rows: int = 0, columns: str = "") -> None:
    """The table items with so many rows."""
    connection.execute(
        f"CREATE TABLE items (id bigint PRIMARY KEY, a double, b int, note varchar(200) {columns})"
        " DEFAULT CHARSET utf8mb4"
    )
    for number in range(1, rows + 1):
        connection.execute("INSERT INTO items (id, a, b, note) VALUES (%s, %s, 10, 'x')", [number, number])


def one(connection: Any, query: str, parameters: Any = None) -> Any:
    """The first column of the first row."""
    row = connection.execute(query, parameters).fetchone()
    return None if row is None else row[0]


def catalogue(connection: Any) -> dict[str, Any]:
    """Everything that `apply` may change, as the server itself would write it."""
    found: dict[str, Any] = {}
    tables = connection.execute(
        "SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1"
    )
    for name, kind in tables:
        quoted = "`" + name.replace("`", "``") + "`"
        found[name] = connection.execute(
            f"SHOW CREATE {'VIEW' if kind == 'VIEW' else 'TABLE'} {quoted}"
        ).fetchone()
    found["triggers"] = connection.execute(
        "SELECT trigger_name, event_object_table, action_statement, action_order FROM information_schema.triggers "
        "WHERE trigger_schema = DATABASE() ORDER BY 1"
    ).fetchall()
    if "rowscore_circuit" in found:
        query = "SELECT name, generation, definition_hash, version FROM rowscore_prediction"
        found["predictions"] = connection.execute(query).fetchall()
        found["runs"] = connection.execute("SELECT prediction, kind, status FROM rowscore_run").fetchall()
    return found


def states(connection: Any, table: str = "items") -> dict[int, int]:
    """How many rows are in each state."""
    return dict(connection.execute(f"SELECT churn_state, COUNT(*) FROM {table} GROUP BY 1").fetchall())


# --- apply --------------------------------------------------------------------------------------------------


def test_rows_from_before_are_existing_and_new_ones_pending(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 20)
    made = apply(database, resolved(database))
    connection.execute("INSERT INTO items (id, a, b) VALUES (1000, 1, 1)")
    assert states(connection) == {0: 1, 4: 20}
    (columns,) = [change for change in made if change.title.startswith("add")]
    assert "ALGORITHM=INSTANT" in columns.sql


def test_a_second_time_changes_nothing(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 3)
    wanted = resolved(database, version=VERSION, where="note LIKE 'a%:b' OR b > 0")
    assert len(apply(database, wanted)) == 6
    before = catalogue(connection)
    assert apply(database, wanted) == []
    assert catalogue(connection) == before
    with database.transaction() as transaction:
        assert drift(transaction, wanted) == []


def test_a_dry_run_changes_nothing_and_its_sql_by_hand_does_the_same(
    connect: Connect, database: Database
) -> None:
    connection = connect()
    make_items(connection, 3)
    empty = catalogue(connection)
    wanted = resolved(
        database,
        inputs=["a", {"name": "t", "sql": r"CONCAT(note, ':x %s %% \\ \'')"}],
        outputs={"p": "double", "Label": "varchar(20)"},
        version={"column": "model", "value": r"\'v"},
    )
    planned = apply(database, wanted, dry_run=True)
    assert catalogue(connection) == empty
    for change in planned:
        connection.execute(change.script)
    by_hand = catalogue(connection)
    assert apply(database, wanted) == []
    for change in remove(database, wanted, drop_outputs=True, dry_run=True):
        connection.execute(change.script)
    assert catalogue(connection) == empty
    assert apply(database, wanted) == planned
    assert catalogue(connection) == by_hand


@pytest.mark.parametrize(
    "names",
    [
        ('Order "x" %s :y \' ` `', "select", "user", "group"),
        ("größe", "Schlüssel ä", "日本", "états " * 7 + "é"),
        ("t.u", "Key", "$x$", "$rowscore$"),
    ],
)
def test_names_of_any_kind(
    connect: Connect, database: Database, database_url: str, names: tuple[str, str, str, str]
) -> None:
    connection = connect()
    table, key, value, state = names
    other = f"{make_url(database_url).database} other `db`"

    def quoted(name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    def written(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    target = f"{quoted(other)}.{quoted(table)}"
    escaped = target.replace("%", "%%")
    connection.execute(f"CREATE DATABASE {quoted(other)} CHARACTER SET utf8mb4")
    try:
        connection.execute(
            f"CREATE TABLE {target} ({quoted(key)} bigint PRIMARY KEY, {quoted(value)} varchar(20))"
        )
        before = connection.execute(f"SHOW CREATE TABLE {target}").fetchone()
        connection.execute(f"INSERT INTO {escaped} VALUES (%s, 'x')", [1])
        wanted = resolved(
            database,
            table=f"{written(other)}.{written(table)}",
            inputs=[value],
            outputs={"Out %s `q`": "json"},
            state=state,
            view=f"{written(other)}.{written('V :v % `')}",
        )
        assert apply(database, wanted)
        assert apply(database, wanted) == []
        connection.execute(f"UPDATE {target} SET {quoted(value)} = 'y'")
        view = f"{quoted(other)}.{quoted('V :v % `')}"
        assert one(connection, f"SELECT prediction_state FROM {view}") == "pending"
        remove(database, wanted, drop_outputs=True)
        assert connection.execute(f"SHOW CREATE TABLE {target}").fetchone() == before
    finally:
        connection.execute(f"DROP DATABASE {quoted(other)}")


TYPES = [
    "tinyint", "smallint unsigned", "int", "integer", "bigint", "float", "double", "double precision", "real",
    "numeric", "decimal(10,2)", "boolean", "bool", "text", "mediumtext", "varchar(10)", "char(3)", "date",
    "datetime(3)", "timestamp", "time", "year", "json", "blob", "varbinary(16)", "bit(3)", "enum('Yes','it''s')",
    "varchar(5) character set latin1",
]  # fmt: skip


def test_every_type_of_output_is_a_column_that_is_null(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    outputs = {f"o{number}": kind for number, kind in enumerate(TYPES)}
    wanted = resolved(database, outputs=outputs)
    apply(database, wanted)
    assert apply(database, wanted) == []
    connection.execute("UPDATE items SET note = 'touched'")
    row = connection.execute(f"SELECT {', '.join(outputs)} FROM items_scored").fetchone()
    assert row == (None,) * len(TYPES)


@pytest.mark.parametrize(
    "kind", ["serial", "nonsense", "double DEFAULT 1", "varchar(10) DEFAULT 'x'", "int, ADD COLUMN x int"]
)
def test_what_is_not_a_type_is_refused(connect: Connect, database: Database, kind: str) -> None:
    connection = connect()
    make_items(connection, 1)
    before = catalogue(connection)
    with pytest.raises(MissingObjectError):
        apply(database, resolved(database, outputs={"p": kind}))
    assert catalogue(connection) == before


def test_a_column_that_was_there_keeps_its_values_type_and_comment(
    connect: Connect, database: Database
) -> None:
    connection = connect()
    make_items(connection, 2, ", p float COMMENT 'ours since 1999', KEY (p)")
    connection.execute("UPDATE items SET p = 0.5")
    before = catalogue(connection)
    apply(database, resolved(database))
    assert connection.execute("SELECT DISTINCT p FROM items").fetchall() == [(0.5,)]
    remove(database, resolved(database), drop_outputs=True)
    assert catalogue(connection) == before


@pytest.mark.parametrize("over", ["(churn_state, b)", "(id, churn_state)", "(churn_state, id, note(3))"])
def test_an_index_over_another_key_is_built_anew(connect: Connect, database: Database, over: str) -> None:
    connection = connect()
    make_items(connection, 2)
    wanted = resolved(database)
    apply(database, wanted)
    before = catalogue(connection)
    connection.execute(
        f"ALTER TABLE items DROP KEY rowscore_churn_pending, ADD KEY rowscore_churn_pending {over}"
    )
    titles = [change.title.split()[0] for change in apply(database, wanted)]
    assert titles == ["drop", "build"]
    assert catalogue(connection) == before


@pytest.mark.parametrize("kind", ["RANGE (id)", "KEY (id) PARTITIONS 4"])
def test_partitioned_tables(connect: Connect, database: Database, kind: str) -> None:
    connection = connect()
    parts = "(PARTITION p0 VALUES LESS THAN (100), PARTITION p1 VALUES LESS THAN MAXVALUE)"
    connection.execute(
        "CREATE TABLE items (id bigint, a double, b int, note varchar(10), PRIMARY KEY (id, b)) "
        f"PARTITION BY {kind} {parts if kind.startswith('RANGE') else ''}"
    )
    connection.execute("INSERT INTO items VALUES (1, 1, 1, 'x'), (150, 1, 1, 'x')")
    wanted = resolved(database)
    apply(database, wanted)
    assert apply(database, wanted) == []
    connection.execute("INSERT INTO items (id, a, b) VALUES (2, 1, 1)")
    connection.execute("UPDATE items SET a = 7 WHERE id = 150")
    assert states(connection) == {0: 2, 4: 1}
    with pytest.raises(RefusedError, match="part of the key"):
        apply(database, resolved(database, inputs=["a"], outputs={"b": "int"}))


# --- crashes ------------------------------------------------------------------------------------------------


class CrashError(Exception):
    """The process dies between two steps."""


def crash_at(step: int) -> Callable[[Change], None]:
    """Dies before the step of that number."""
    seen: list[Change] = []

    def told(change: Change) -> None:
        seen.append(change)
        if len(seen) == step:
            raise CrashError

    return told


def test_a_crash_before_any_change_is_mended_by_the_next_run(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 5)
    before = catalogue(connection)
    wanted = resolved(database)
    for _ in range(len(apply(database, wanted, dry_run=True)) - 1):  # one step further each time
        with pytest.raises(CrashError):
            apply(database, wanted, on_change=crash_at(2))
    assert len(apply(database, wanted)) == 1
    assert apply(database, wanted) == []
    for _ in range(len(remove(database, wanted, drop_outputs=True, dry_run=True)) - 1):
        with pytest.raises(CrashError):
            remove(database, wanted, drop_outputs=True, on_change=crash_at(2))
    remove(database, wanted, drop_outputs=True)
    assert catalogue(connection) == before


def statements_of(changes: list[Change]) -> Iterator[str]:
    """Each statement that a server runs by itself, as `apply` sends them; rows of one change are one transaction."""
    for change in changes:
        if change.transactional:
            yield change.script
            continue
        yield from (statement for text in change.statements for statement in text.split(";\n\n"))


def test_a_crash_between_any_two_statements_is_mended_by_the_next_run(
    connect: Connect, database: Database
) -> None:
    """A server that dies takes the session with it, and with the session what it locked."""
    connection = connect()
    make_items(connection, 1)
    empty = catalogue(connection)
    wanted = resolved(database, version=VERSION)
    url = database.url.render_as_string(hide_password=False)
    steps = list(statements_of(apply(database, wanted, dry_run=True)))
    apply(database, wanted)
    whole = catalogue(connection)
    undone = list(statements_of(remove(database, wanted, drop_outputs=True, dry_run=True)))
    for stop in range(len(undone)):
        run_and_die(url, undone[:stop])
        remove(database, wanted, drop_outputs=True)
        assert catalogue(connection) == empty
        run_and_die(url, steps[: min(stop * 3, len(steps) - 1)])
        apply(database, wanted)
        assert catalogue(connection) == whole
    remove(database, wanted, drop_outputs=True)
    for stop in range(1, len(steps)):
        run_and_die(url, steps[:stop])
        apply(database, wanted)
        assert catalogue(connection) == whole
        remove(database, wanted, drop_outputs=True)
        assert catalogue(connection) == empty


def run_and_die(url: str, statements: list[str]) -> None:
    """A session that runs the statements and ends."""
    with session(url) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.execute("UNLOCK TABLES")  # as the end of the session does, but now


def test_between_the_columns_and_their_default_nobody_inserts(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 50)
    wanted = resolved(database)
    begun, done = threading.Event(), threading.Event()
    inserted: list[int] = []

    def insert() -> None:
        writer = connect()
        while not done.is_set():
            number = 1000 + len(inserted)
            writer.execute("INSERT INTO items (id, a, b) VALUES (%s, 1, 1)", [number])
            inserted.append(number)
            begun.set()

    writer = threading.Thread(target=insert)
    writer.start()
    assert begun.wait(30)
    apply(database, wanted, patience=STEADY)
    for _ in range(2):  # the first insert that ends may have begun before
        begun.clear()
        assert begun.wait(30)
    done.set()
    writer.join()
    assert one(connection, "SELECT COUNT(*) FROM items WHERE churn_state NOT IN (0, 4)") == 0
    last = one(connection, "SELECT MAX(id) FROM items WHERE churn_state = 4")
    assert one(connection, "SELECT MIN(id) FROM items WHERE churn_state = 0") > last


def test_a_default_that_a_crash_left_is_mended(
    connect: Connect, database: Database, database_url: str
) -> None:
    connection = connect()
    make_items(connection, 1)
    wanted = resolved(database)
    (columns,) = [c for c in apply(database, wanted, dry_run=True) if c.title.startswith("add")]
    run_and_die(database_url, list(columns.statements[:2]))
    connection.execute("INSERT INTO items (id) VALUES (2)")
    titles = [change.title for change in apply(database, wanted)]
    assert any(title.startswith("let new rows wait") for title in titles)
    connection.execute("INSERT INTO items (id) VALUES (3)")
    assert states(connection) == {4: 2, 0: 1}


# --- others at work -----------------------------------------------------------------------------------------


def test_a_lock_that_is_never_granted_names_its_holder(connect: Connect, database: Database) -> None:
    connection, holder = connect(), connect(autocommit=False)
    make_items(connection, 1)
    wanted = resolved(database)
    holder.execute("SELECT COUNT(*) FROM items")
    waits: list[str] = []
    with pytest.raises(LockTimeoutError) as caught:
        apply(database, wanted, patience=HURRIED, on_wait=waits.append)
    assert f"session {one(holder, 'SELECT CONNECTION_ID()')} " in str(caught.value)
    assert len(waits) == HURRIED.attempts - 1
    connection.execute("INSERT INTO items (id) VALUES (2)")  # what the attempts locked is given back
    holder.rollback()
    assert apply(database, wanted)
    assert apply(database, wanted) == []


def test_a_lock_that_is_released_lets_apply_go_on(connect: Connect, database: Database) -> None:
    connection, holder = connect(), connect(autocommit=False)
    make_items(connection, 1)
    wanted = resolved(database)
    holder.execute("SELECT COUNT(*) FROM items")
    apply(database, wanted, patience=STEADY, on_wait=lambda _: holder.rollback())
    assert apply(database, wanted) == []


def test_two_at_once_end_with_one_result(connect: Connect, database: Database) -> None:
    make_items(connect(), 10)
    wanted = resolved(database)
    start = threading.Barrier(2)
    results: list[int] = []

    def run() -> None:
        start.wait()
        results.append(len(apply(database, wanted, patience=STEADY)))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, 6]


# --- refusals -----------------------------------------------------------------------------------------------


def test_a_copy_of_the_table_is_refused_unless_asked_for(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 3)
    connection.execute("ALTER TABLE items ADD FULLTEXT KEY (note)")
    wanted = resolved(database)
    with pytest.raises(RefusedError, match="--allow-copy"):
        apply(database, wanted)
    connection.execute("INSERT INTO items (id) VALUES (7)")  # no lock is left
    apply(database, wanted, allow_copy=True)
    connection.execute("INSERT INTO items (id) VALUES (8)")
    assert states(connection) == {4: 4, 0: 1}
    assert apply(database, wanted) == []


@pytest.mark.parametrize(
    ("definition", "why"),
    [
        ("id bigint PRIMARY KEY, a double, b int) ENGINE=MyISAM", "InnoDB"),
        ("id bigint, a double, b int)", "unique and NOT NULL"),
        ("id varchar(50) NOT NULL, a double, b int, UNIQUE KEY (id(10)))", "unique and NOT NULL"),
        ("id bigint PRIMARY KEY, a double, b int, churn_state smallint NOT NULL)", "not rowscore's"),
        ("id bigint PRIMARY KEY, a double, b int, p double AS (a * 2))", "is generated"),
        ("id bigint PRIMARY KEY, a double, b int, p double NOT NULL)", "MODIFY COLUMN `p` double NULL"),
        ("id bigint PRIMARY KEY, a double, b int, churn_scored_at int)", "expected timestamp"),
        ("id bigint PRIMARY KEY, a double, b int, model int)", "expected varchar"),
        ("id bigint PRIMARY KEY, a double, b int, prediction_state int)", "view = false"),
    ],
)
def test_tables_that_are_not_touched(connect: Connect, database: Database, definition: str, why: str) -> None:
    connection = connect()
    connection.execute(f"CREATE TABLE items ({definition}")
    before = catalogue(connection)
    with pytest.raises((RefusedError, ConfigurationError), match=why):
        apply(database, resolved(database, version=VERSION))
    assert catalogue(connection) == before


def test_privileges_that_are_missing_are_named_before_anything_is_done(
    connect: Connect, database_url: str
) -> None:
    connection = connect()
    make_items(connection, 1)
    before = catalogue(connection)
    name = make_url(database_url).database
    user = f"u_{name}"[:32]
    connection.execute(f"CREATE USER {user}@'%' IDENTIFIED BY 'secret'")
    connection.execute(f"GRANT SELECT, INSERT, UPDATE ON {name}.* TO {user}@'%'")
    limited = Database(
        make_url(database_url).set(username=user, password="secret").render_as_string(hide_password=False)
    )
    try:
        wanted = resolved(limited)
        with pytest.raises(PrivilegeError) as caught:
            apply(limited, wanted)
        assert catalogue(connection) == before
        grants = str(caught.value).split("needed: ")[1].split("; ")
        assert any("TRIGGER" in grant and f"`{name}`.`items`" in grant for grant in grants)
        for grant in grants:
            connection.execute(grant)
        limited.dispose()  # a session asks for its database's privileges when it begins
        apply(limited, wanted)
        assert apply(limited, wanted) == []
    finally:
        limited.dispose()
        connection.execute(f"DROP USER {user}@'%'")


def test_another_prediction_and_another_table(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    connection.execute("CREATE TABLE others LIKE items")
    apply(database, resolved(database))
    with pytest.raises(RefusedError, match="written by prediction churn"):
        apply(database, resolved(database, "fraud", view=False))
    with pytest.raises(RefusedError, match="run `rowscore remove churn`"):
        apply(database, resolved(database, table="others"))
    connection.execute("ALTER TABLE items RENAME COLUMN churn_scored_at TO t")
    with pytest.raises(RefusedError, match="RENAME COLUMN `t` TO `churn_scored_at`"):
        apply(database, resolved(database))


def test_marks_in_other_databases_are_not_this_ones(
    connect: Connect, database: Database, database_url: str
) -> None:
    connection = connect()
    name = make_url(database_url).database
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    connection.execute(f"CREATE DATABASE {name}_copy")
    copy = Database(make_url(database_url).set(database=f"{name}_copy").render_as_string(hide_password=False))
    try:
        connection.execute(f"CREATE TABLE {name}_copy.items (id bigint PRIMARY KEY, a double, b int)")
        apply(copy, resolved(copy))
        before = catalogue(connection)
        assert apply(database, wanted) == []
        remove(copy, prediction(), drop_outputs=True)
        assert catalogue(connection) == before
    finally:
        copy.dispose()
        connection.execute(f"DROP DATABASE {name}_copy")


# --- the trigger --------------------------------------------------------------------------------------------

WRITE = "UPDATE items SET p = 1, churn_state = 1, churn_scored_at = CURRENT_TIMESTAMP(6)"


def state(connection: Any, statement: str) -> int:
    """The state after the statement of a row that was scored before it."""
    connection.execute(WRITE)
    connection.execute(statement)
    return int(one(connection, "SELECT churn_state FROM items"))


def test_changed_inputs_and_nothing_else(connect: Connect, database: Database) -> None:
    items = connect()
    make_items(items, 1)
    apply(database, resolved(database))
    assert state(items, "DO 1") == 1  # rowscore's own write
    assert state(items, "UPDATE items SET a = a + 1") == 0
    assert state(items, "UPDATE items SET b = NULL") == 0
    assert state(items, "UPDATE items SET b = NULL") == 1
    assert state(items, "UPDATE items SET a = a, note = 'other', p = 7") == 1
    assert state(items, "UPDATE items SET id = id + 1000") == 1
    upsert = "INSERT INTO items (id, a) SELECT * FROM (SELECT id, 9 FROM items) AS i ON DUPLICATE KEY UPDATE a = 99"
    assert state(items, upsert) == 0
    assert state(items, "UPDATE items SET a = a + 1, churn_state = 3") == 3
    assert state(items, "UPDATE items SET churn_state = 0") == 0


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci", ("'e'", "'e'", "'E'")),
        ("varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci", ("'e'", "'e'", "'é'")),
        ("varchar(20)", ("'e'", "'e'", "'e '")),
        ("text", ("'x'", "'x'", "'X'")),
        ("json", ("""'{"a": "x"}'""", """'{"a": "x"}'""", """'{"a": "X"}'""")),
        ("blob", (r"x'00'", r"x'00'", r"x'01'")),
        ("float", ("16777215", "16777215", "16777216")),
        ("decimal(30,10)", ("1.0000000001", "1.0000000001", "1.0000000002")),
        ("datetime(6)", ("'2024-01-01'", "'2024-01-01 00:00:00'", "'2024-01-01 00:00:00.000001'")),
        ("enum('a','B')", ("'a'", "'a'", "NULL")),
        ("set('a','b')", ("'a,b'", "'b,a'", "'a'")),
        (
            "point",
            (
                "ST_GeomFromText('POINT(1 2)')",
                "ST_GeomFromText('POINT(1 2)')",
                "ST_GeomFromText('POINT(1 3)')",
            ),
        ),
        ("bit(5)", ("b'101'", "5", "6")),
    ],
)
def test_inputs_of_every_kind(
    connect: Connect, database: Database, kind: str, values: tuple[str, str, str]
) -> None:
    items = connect()
    old, same, other = values
    make_items(items, 1, f", x {kind}")
    items.execute(f"UPDATE items SET x = {old}")
    apply(database, resolved(database, inputs=["x"]))
    assert state(items, f"UPDATE items SET x = {same}") == 1
    assert state(items, f"UPDATE items SET x = {other}") == 0


def test_expressions_where_and_generated_columns(connect: Connect, database: Database) -> None:
    items = connect()
    make_items(
        items,
        1,
        ", g int AS (b * 2) VIRTUAL, h int AS (g + 1) STORED, other varchar(9), `odd ``x` int, `length` int",
    )
    inputs = ["h", {"name": "n", "sql": "CONCAT(c.NOTE, 'other', `odd ``x`, LENGTH(\"other\")) /* other */"}]
    apply(database, resolved(database, inputs=inputs, where="a > 0"))
    assert state(items, "UPDATE items SET b = b + 1") == 0
    assert state(items, "UPDATE items SET note = 'changed'") == 0
    assert state(items, "UPDATE items SET `odd ``x` = 5") == 0
    assert state(items, "UPDATE items SET a = -1") == 0
    assert state(items, "UPDATE items SET other = 'changed', `length` = 5") == 1


def test_rowscores_output_as_an_input_is_refused(connect: Connect, database: Database) -> None:
    make_items(connect(), 1, ", p double, g double AS (p * 2)")
    with pytest.raises(RefusedError, match="computed from column p"):
        apply(database, resolved(database, inputs=["g"]))


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


def test_it_runs_after_the_applications_triggers_and_moves_behind_later_ones(
    connect: Connect, database: Database
) -> None:
    items = connect()
    make_items(items, 1)
    items.execute("CREATE TRIGGER derive BEFORE UPDATE ON items FOR EACH ROW SET NEW.a = LENGTH(NEW.note)")
    wanted = resolved(database)
    apply(database, wanted)
    assert state(items, "UPDATE items SET note = 'longer'") == 0
    items.execute("CREATE TRIGGER later BEFORE UPDATE ON items FOR EACH ROW SET NEW.b = LENGTH(NEW.note)")
    with database.transaction() as transaction:
        assert len(drift(transaction, wanted)) == 1
    apply(database, wanted)
    assert apply(database, wanted) == []
    fraud = resolved(database, "fraud", outputs={"f": "int"}, view=False)
    apply(database, fraud)  # two of rowscore's own do not push each other back
    assert [change.title.split()[2] for change in apply(database, wanted)] == ["view"]
    assert apply(database, fraud) == []


def test_other_inputs_make_another_trigger_and_ignore_none(connect: Connect, database: Database) -> None:
    items = connect()
    make_items(items, 1)
    apply(database, resolved(database, inputs=["a"]))
    apply(database, resolved(database, inputs=["b"]))
    assert state(items, "UPDATE items SET a = a + 1") == 1
    assert state(items, "UPDATE items SET b = b + 1") == 0
    apply(database, resolved(database, inputs=["b"], on_input_change="ignore"))
    assert state(items, "UPDATE items SET b = b + 1") == 1
    assert apply(database, resolved(database, inputs=["b"], on_input_change="ignore")) == []


# --- the view -----------------------------------------------------------------------------------------------


def test_the_view_says_how_each_row_stands_and_hides_the_state(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    apply(database, resolved(database))
    connection.execute("INSERT INTO items (id, a) VALUES (2, 2), (3, 3)")
    connection.execute(
        "UPDATE items SET p = a / 2, churn_state = 1, churn_scored_at = CURRENT_TIMESTAMP(6) WHERE churn_state = 0"
    )
    connection.execute("UPDATE items SET a = 7 WHERE id = 3")
    connection.execute("INSERT INTO items (id, a, churn_state) VALUES (4, 4, 0), (5, 5, 2), (6, 6, 3)")
    columns = connection.execute(
        "SELECT column_name FROM information_schema.columns "
        "WHERE table_schema = DATABASE() AND table_name = 'items_scored' ORDER BY ordinal_position"
    )
    assert [name for (name,) in columns] == [
        "prediction_state", "id", "a", "b", "note", "p", "churn_scored_at",
    ]  # fmt: skip
    assert connection.execute("SELECT prediction_state, id, p FROM items_scored ORDER BY id").fetchall() == [
        ("existing", 1, None), ("scored", 2, 1.0), ("stale", 3, 1.5),
        ("pending", 4, None), ("failed", 5, None), ("skipped", 6, None),
    ]  # fmt: skip


def test_each_row_is_in_one_branch_in_any_snapshot(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection)
    apply(database, resolved(database))
    connection.execute(
        "INSERT INTO items (id, a) WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 200) "
        "SELECT i, i FROM s"
    )
    done, turned = threading.Event(), threading.Event()

    def turn() -> None:
        writer = connect()
        while not done.is_set():
            writer.execute("UPDATE items SET churn_state = 1 - churn_state WHERE id MOD 3 = 0")
            turned.set()

    writer = threading.Thread(target=turn)
    writer.start()
    assert turned.wait(30)
    for _ in range(200):
        rows = connection.execute("SELECT COUNT(*), COUNT(DISTINCT id) FROM items_scored").fetchone()
        assert rows == (200, 200)
    done.set()
    writer.join()


def test_the_reader_sees_what_the_reader_may(connect: Connect, database: Database, database_url: str) -> None:
    connection = connect()
    make_items(connection, 2)
    apply(database, resolved(database))
    name = make_url(database_url).database
    user = f"r_{name}"[:32]
    connection.execute(f"CREATE USER {user}@'%' IDENTIFIED BY 'secret'")
    connection.execute(f"GRANT SELECT ON {name}.items_scored TO {user}@'%'")
    url = make_url(database_url).set(username=user, password="secret").render_as_string(hide_password=False)
    try:
        with session(url) as reader:
            with pytest.raises(MySQLError, match="rights"):
                reader.execute("SELECT id FROM items_scored")
            connection.execute(f"GRANT SELECT ON {name}.items TO {user}@'%'")
            assert reader.execute("SELECT COUNT(*) FROM items_scored").fetchone() == (2,)
    finally:
        connection.execute(f"DROP USER {user}@'%'")


def test_a_waiting_row_is_read_by_its_key(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection)
    apply(database, resolved(database))
    connection.execute(
        "INSERT INTO items (id, a) WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < 900) "
        "SELECT i, i FROM s"
    )
    connection.execute("FLUSH STATUS")
    connection.execute("SELECT * FROM items_scored WHERE id = 5")
    read = "SHOW SESSION STATUS WHERE Variable_name IN ('Handler_read_next', 'Handler_read_rnd_next')"
    assert sum(int(count) for _, count in connection.execute(read)) < 20


def test_columns_that_come_go_and_change_their_names(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    connection.execute("ALTER TABLE items ADD COLUMN extra text, RENAME COLUMN note TO remark")
    with database.transaction() as transaction:
        assert drift(transaction, wanted) == [
            f"make the view {database.url.database}.items_scored over scored and unscored rows"
        ]
    (change,) = apply(database, wanted)
    assert "CREATE OR REPLACE" in change.sql
    connection.execute("SELECT extra, remark FROM items_scored")
    assert apply(database, wanted) == []


@pytest.mark.parametrize("kind", ["VIEW items_scored AS SELECT 1 AS one", "TABLE items_scored (one int)"])
def test_somebody_elses_view_or_table_is_left_alone(connect: Connect, database: Database, kind: str) -> None:
    connection = connect()
    make_items(connection, 1)
    connection.execute(f"CREATE {kind}")
    with pytest.raises(RefusedError, match="is there already"):
        apply(database, resolved(database))
    apply(database, resolved(database, view="other"))
    connection.execute("SELECT one FROM items_scored")


def test_another_name_or_none_takes_the_old_view_away(
    connect: Connect, database: Database, database_url: str
) -> None:
    connection = connect()
    make_items(connection, 1)
    reports = f"{make_url(database_url).database}_reports"
    views = "SELECT table_name FROM information_schema.views WHERE table_schema IN (DATABASE(), %s)"
    connection.execute(f"CREATE DATABASE {reports}")
    try:
        apply(database, resolved(database))
        apply(database, resolved(database, view=f"{reports}.items"))
        assert connection.execute(views, [reports]).fetchall() == [("items",)]
        apply(database, resolved(database, view=False))
        assert connection.execute(views, [reports]).fetchall() == []
    finally:
        connection.execute(f"DROP DATABASE {reports}")


def make_function(connection: Any) -> None:
    """predict(a, b) answers a + b as a text and counts its calls."""
    connection.execute("CREATE TABLE calls (id int AUTO_INCREMENT PRIMARY KEY) ENGINE=MyISAM")
    connection.execute(
        """CREATE FUNCTION predict(a double, b int) RETURNS varchar(20) NOT DETERMINISTIC MODIFIES SQL DATA
           BEGIN INSERT INTO calls VALUES (NULL); RETURN a + b; END"""
    )


def calls(connection: Any) -> int:
    count = one(connection, "SELECT COUNT(*) FROM calls")
    connection.execute("DELETE FROM calls")
    return int(count)


def test_live_calls_the_function_once_for_each_waiting_row(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    make_function(connection)
    wanted = resolved(database, model={"sql": "predict"}, live=True, where="note <> 'no'")
    apply(database, wanted)
    assert apply(database, wanted) == []
    connection.execute(
        """INSERT INTO items (id, a, b, note, churn_state, churn_scored_at, p) VALUES
           (2, 2, 1, 'yes', 0, NULL, NULL), (3, 3, 1, 'yes', 0, '2024-01-01', 9), (4, 4, 1, 'no', 0, NULL, NULL),
           (5, 5, 1, NULL, 0, NULL, NULL), (6, 6, 1, 'yes', 1, '2024-01-01', 9), (7, 7, 1, 'yes', 2, NULL, NULL)"""
    )
    assert connection.execute("SELECT id, prediction_state, p FROM items_scored ORDER BY id").fetchall() == [
        (1, "existing", None), (2, "pending", 3.0), (3, "stale", 4.0), (4, "pending", None), (5, "pending", None),
        (6, "scored", 9.0), (7, "failed", None),
    ]  # fmt: skip
    assert calls(connection) == 2


# --- remove -------------------------------------------------------------------------------------------------


def test_nothing_is_left(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 5)
    before = catalogue(connection)
    wanted = resolved(database, version=VERSION)
    apply(database, wanted)
    removed = remove(database, wanted, drop_outputs=True)
    assert any(change.destructive for change in removed)
    assert catalogue(connection) == before
    assert remove(database, wanted) == []


@pytest.mark.parametrize(
    "kind", ["double", "json", "varchar(20) CHARACTER SET latin1", "enum('a','it''s, b')", "timestamp(3)"]
)
def test_outputs_stay_unless_asked_and_are_the_users_then(
    connect: Connect, database: Database, kind: str
) -> None:
    connection = connect()
    make_items(connection, 2)
    wanted = resolved(database, outputs={"p": kind}, version=VERSION)
    apply(database, wanted)
    marked = catalogue(connection)["items"][1]
    remove(database, wanted)
    left = catalogue(connection)["items"][1].splitlines()
    before = next(line for line in marked.splitlines() if line.startswith("  `p`"))
    after = next(line for line in left if line.startswith("  `p`"))
    mark = " COMMENT 'maintained by rowscore: prediction churn, output'"
    assert before.replace(mark, "").rstrip(",") == after.rstrip(",")
    assert len([line for line in left if line.startswith("  `")]) == 5
    apply(database, wanted)
    remove(database, wanted, drop_outputs=True)
    connection.execute("SELECT p FROM items")


@pytest.mark.parametrize(
    "ruin",
    [
        "DROP TABLE items",
        "DROP VIEW items_scored",
        "DROP INDEX rowscore_churn_pending ON items",
        "DROP TRIGGER zzz_rowscore_churn",
        "ALTER TABLE items DROP COLUMN churn_scored_at",
        "DELETE FROM rowscore_prediction",
        "DROP TABLE rowscore_batch",
        "DELETE FROM rowscore_prediction; DROP TABLE rowscore_alembic_version",
    ],
)
def test_ruins_are_cleared(connect: Connect, database: Database, ruin: str) -> None:
    connection = connect()
    make_items(connection, 1)
    before = catalogue(connection)
    apply(database, resolved(database))
    connection.execute(ruin)
    remove(database, prediction(), drop_outputs=True)
    if ruin != "DROP TABLE items":
        assert catalogue(connection) == before
    else:
        assert catalogue(connection) == {"triggers": []}


@pytest.mark.parametrize(
    "build",
    [
        "CREATE VIEW report AS SELECT prediction_state FROM items_scored",
        "CREATE VIEW report AS SELECT p FROM items",
    ],
)
def test_what_users_built_upon_it_is_named_and_nothing_is_changed(
    connect: Connect, database: Database, build: str
) -> None:
    connection = connect()
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    connection.execute("CREATE VIEW harmless AS SELECT a, b FROM items")
    connection.execute(build)
    before = catalogue(connection)
    with pytest.raises(RefusedError, match=r"view .*report depends on it|view .*report depends on what"):
        remove(database, wanted, drop_outputs=True)
    assert catalogue(connection) == before


def test_a_generated_column_upon_it_stops_the_server(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    connection.execute("ALTER TABLE items ADD COLUMN sure boolean AS (p > 0.9)")
    with pytest.raises(DatabaseError, match=r"(?i)generated"):
        remove(database, wanted, drop_outputs=True)
    connection.execute("ALTER TABLE items DROP COLUMN sure")
    remove(database, wanted, drop_outputs=True)


def test_the_last_prediction_takes_rowscores_tables_along(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    fraud = resolved(database, "fraud", outputs={"f": "boolean"}, view=False)
    apply(database, resolved(database))
    apply(database, fraud)
    remove(database, prediction())
    assert one(connection, "SELECT GROUP_CONCAT(name) FROM rowscore_prediction") == "fraud"
    assert [change.title for change in apply(database, fraud)] == []
    remove(database, fraud)
    assert not [name for name in catalogue(connection) if name.startswith("rowscore_")]


def test_tables_that_lost_their_version_are_not_made_anew(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    wanted = resolved(database)
    apply(database, wanted)
    connection.execute("DELETE FROM rowscore_alembic_version")
    with pytest.raises(RefusedError, match="restore"):
        apply(database, wanted)
    assert one(connection, "SELECT COUNT(*) FROM rowscore_prediction") == 1
