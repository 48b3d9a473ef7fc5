"""`apply` where only PostgreSQL has such things: INVALID indexes, partitions that are tables, inheritance, owners."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.applied import STEADY, make_items, partition_items, resolved
from tests.support.catalogue import catalogue
from tests.support.databases import one
from tests.support.predictions import states
from worker.apply import apply
from worker.changes import Change
from worker.database import Database
from worker.errors import ConfigurationError, PrivilegeError, RefusedError
from worker.state import migrate
from worker.states import RowState

VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'rowscore_churn_pending'::regclass"


def test_the_state_of_old_rows_is_the_catalogues_default(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    apply(database, resolved(database))
    missing = "SELECT attmissingval::text FROM pg_attribute WHERE attname = 'churn_state' AND atthasmissing"
    assert one(connection, missing) == "{4}"


def test_an_index_that_a_crash_left_invalid_is_built_anew(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 2)
    wanted = resolved(database)
    apply(database, wanted)
    before = catalogue(connection)
    connection.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'rowscore_churn_pending'::regclass"
    )
    titles = [change.title.split()[0] for change in apply(database, wanted)]
    assert titles == ["drop", "build"]
    assert catalogue(connection) == before


def test_a_cancelled_index_build_is_taken_up_again(connect: Connect, database: Database) -> None:
    connection, holder = connect(), connect(autocommit=False)
    make_items(connection, 10)
    wanted = resolved(database)
    name = one(connection, "SELECT current_database()")
    connection.execute(f"ALTER DATABASE {name} SET lock_timeout = '50ms'")  # as a careful DBA might
    fresh = Database(str(database.url.render_as_string(hide_password=False)))
    waits: list[str] = []

    def hold(change: Change) -> None:
        if change.title.startswith("build") and not waits:
            holder.execute("INSERT INTO items (id) VALUES (77)")

    def release(message: str) -> None:
        waits.append(message)
        holder.commit()

    titles = [
        c.title.split()[0] for c in apply(fresh, wanted, patience=STEADY, on_change=hold, on_wait=release)
    ]
    fresh.dispose()
    assert waits
    assert titles.count("drop") == 1  # the INVALID one
    assert apply(database, wanted) == []
    assert one(connection, VALID)


def test_a_partition_that_is_attached_later_has_what_it_needs(connect: Connect, database: Database) -> None:
    connection = connect()
    partition_items(connection)
    wanted = resolved(database)
    apply(database, wanted)
    assert one(connection, VALID)
    connection.execute("CREATE TABLE loose (LIKE items INCLUDING DEFAULTS)")
    connection.execute("ALTER TABLE items ATTACH PARTITION loose FOR VALUES FROM (300) TO (400)")
    assert apply(database, wanted) == []
    connection.execute("INSERT INTO items (id, a, b) VALUES (120, 1, 1), (350, 1, 1)")
    assert states(connection) == {RowState.PENDING: 2, RowState.EXISTING: 100}
    plan = connection.execute(
        "SET enable_seqscan = off; EXPLAIN SELECT id FROM items WHERE churn_state = 0 ORDER BY id LIMIT 5"
    )
    assert plan.nextset()
    assert "Seq Scan" not in str(plan.fetchall())


def test_a_partition_attached_by_hand_while_an_index_is_unfinished(
    connect: Connect, database: Database
) -> None:
    connection = connect()
    partition_items(connection)
    wanted = resolved(database)
    apply(database, wanted)
    connection.execute("DROP INDEX rowscore_churn_pending")  # takes all parts along
    connection.execute("CREATE INDEX rowscore_churn_pending ON ONLY items (id, b) WHERE churn_state = 0")
    apply(database, wanted)
    assert one(
        connection,
        "SELECT bool_and(indisvalid) FROM pg_index WHERE pg_get_expr(indpred, indrelid) IS NOT NULL",
    )


def test_a_copy_of_the_table_is_never_needed(connect: Connect, database: Database) -> None:
    make_items(connect(), 1)
    with pytest.raises(ConfigurationError, match="without copying"):
        apply(database, resolved(database), allow_copy=True)


def test_a_partition_itself_and_inheritance_are_refused(connect: Connect, database: Database) -> None:
    connection = connect()
    partition_items(connection)
    with pytest.raises(RefusedError, match="name the partitioned table"):
        apply(database, resolved(database, table="items_1"))
    connection.execute(
        "CREATE TABLE parent (id int PRIMARY KEY, a int, b int); CREATE TABLE child () INHERITS (parent)"
    )
    with pytest.raises(RefusedError, match="INHERITS"):
        apply(database, resolved(database, table="parent"))


def test_only_the_owner_may_apply(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    name = one(connection, "SELECT 'app_' || current_database()")
    connection.execute(f"CREATE ROLE {name} LOGIN; GRANT ALL ON items TO {name}")
    as_app = Database(str(database.url.set(username=name).render_as_string(hide_password=False)))
    wanted = resolved(database)
    with pytest.raises(PrivilegeError, match="GRANT CREATE ON DATABASE"):
        apply(as_app, wanted)
    migrate(database)
    connection.execute(
        f"GRANT USAGE ON SCHEMA rowscore TO {name}; GRANT SELECT ON ALL TABLES IN SCHEMA rowscore TO {name}"
    )
    with pytest.raises(PrivilegeError, match="only its owner may alter it"):
        apply(as_app, wanted)
    connection.execute(f"ALTER TABLE items OWNER TO {name}")
    with pytest.raises(PrivilegeError, match='GRANT CREATE ON SCHEMA "public"'):
        apply(as_app, wanted)
    as_app.dispose()
    connection.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")
