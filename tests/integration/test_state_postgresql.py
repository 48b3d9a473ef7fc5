"""Whose column is whose in PostgreSQL, where tables have owners and objects have comments."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.applied import make_items, one, resolved
from worker.apply import apply
from worker.database import Database
from worker.errors import PrivilegeError, RefusedError
from worker.state import migrate


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
