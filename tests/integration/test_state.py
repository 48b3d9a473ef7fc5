"""rowscore's own tables: migrations, registration, and whose column is whose."""

from __future__ import annotations

import threading

import pytest

from tests.conftest import Connect
from tests.support.applied import make_items, one, resolved
from worker.apply import apply
from worker.database import Database
from worker.errors import PrivilegeError, RefusedError
from worker.state import migrate, pending_migrations


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


def test_migrations_are_idempotent_and_stop_at_a_newer_version(connect: Connect, database: Database) -> None:
    connection = connect()
    assert migrate(database) is True
    assert migrate(database) is False
    with database.transaction() as transaction:
        assert pending_migrations(transaction) == ""
    connection.execute("UPDATE rowscore.alembic_version SET version_num = '9999'")
    with pytest.raises(RefusedError, match="not of this version"):
        migrate(database)


def test_two_migrations_at_once_do_no_harm(database: Database) -> None:
    start = threading.Barrier(3)
    results: list[bool] = []

    def run() -> None:
        start.wait()
        results.append(migrate(database))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, False, True]


def test_another_version_begins_a_generation_and_voids_leases(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    apply(database, resolved(database, version={"column": "model", "value": "1"}))
    connection.execute(
        """INSERT INTO rowscore.lease (run_id, token, lo, hi, owner, expires_at)
           SELECT id, 1, '["1"]', '["2"]', 'w', now() FROM rowscore.run;
           UPDATE rowscore.run SET pos = '["5"]';
           INSERT INTO rowscore.run (prediction, kind) VALUES ('churn', 'backfill')"""
    )
    apply(database, resolved(database, version={"column": "model", "value": "2"}))
    assert connection.execute("SELECT generation, version FROM rowscore.prediction").fetchall() == [(2, "2")]
    assert one(connection, "SELECT count(*) FROM rowscore.lease") == 0
    kept = connection.execute("SELECT kind, status, pos FROM rowscore.run ORDER BY id").fetchall()
    assert kept == [("drain", "running", ["5"]), ("backfill", "running", None)]
    apply(database, resolved(database, version={"column": "model", "value": "2"}, inputs=["a"]))
    assert one(connection, "SELECT generation FROM rowscore.prediction") == 3
    ended = connection.execute("SELECT kind, status, pos FROM rowscore.run ORDER BY id").fetchall()
    assert ended == [("drain", "running", None), ("backfill", "cancelled", None)]


def test_two_predictions_share_a_table_but_no_column(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    apply(database, resolved(database))
    apply(database, resolved(database, "fraud", outputs={"f": "boolean"}, view="fraud_view"))
    assert apply(database, resolved(database, "fraud", outputs={"f": "boolean"}, view="fraud_view")) == []
    with pytest.raises(RefusedError, match="column p is written by prediction churn"):
        apply(database, resolved(database, "third", outputs={"p": "double precision"}, view=False))
    columns = one(
        connection,
        "SELECT string_agg(attname, ',') FROM pg_attribute WHERE attrelid = 'fraud_view'::regclass",
    )
    assert "state" not in columns.replace("prediction_state", "")


def test_a_prediction_does_not_wander_to_another_table_or_column(
    connect: Connect, database: Database
) -> None:
    connection = connect()
    make_items(connection, 1)
    connection.execute("CREATE TABLE other (LIKE items INCLUDING ALL)")
    apply(database, resolved(database))
    with pytest.raises(RefusedError, match=r"applied to public\.items"):
        apply(database, resolved(database, table="other"))
    with pytest.raises(RefusedError, match='RENAME COLUMN "churn_state" TO "s"'):
        apply(database, resolved(database, state="s"))


def test_a_renamed_table_is_followed(connect: Connect, database: Database) -> None:
    connection = connect()
    make_items(connection, 1)
    apply(database, resolved(database))
    connection.execute("ALTER TABLE items RENAME TO things")
    apply(database, resolved(database, table="things"))
    assert apply(database, resolved(database, table="things")) == []
    assert one(connection, "SELECT count(*) FROM pg_views WHERE schemaname = 'public'") == 1
    assert one(connection, "SELECT count(*) FROM pg_indexes WHERE tablename = 'things'") == 2
