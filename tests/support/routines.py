"""Functions and triggers of the application's, written once for all databases; and a gate that a function waits at."""

from __future__ import annotations

from tests.support.databases import Session, is_postgresql, one


def add_function(
    connection: Session,
    name: str,
    arguments: str,
    expression: str,
    *,
    returns: str = "double precision",
    calls: bool = False,
    before: str = "",
) -> None:
    """A function that answers an expression over its arguments, in place of one of that name if there is one.

    Args:
        connection: where.
        name: as SQL has it, with its schema if need be.
        arguments: names and types, such as "a double precision, b int".
        expression: over the arguments' names.
        returns: its type.
        calls: whether it counts its calls in what `make_items` made for that.
        before: what it does then, in the language of the database's routines; ends with a semicolon.
    """
    if is_postgresql(connection):
        count = "PERFORM nextval('calls');" if calls else ""
        connection.execute(f"DROP FUNCTION IF EXISTS {name}")
        connection.execute(
            f"""CREATE FUNCTION {name}({arguments}) RETURNS {returns} LANGUAGE plpgsql SET lock_timeout = 0 AS
            $f$ BEGIN {count} {before} RETURN {expression}; END $f$"""
        )
        return
    count = "UPDATE calls SET n = n + 1;" if calls else ""
    connection.execute(f"DROP FUNCTION IF EXISTS {name}")
    connection.execute(
        f"CREATE FUNCTION {name}({arguments}) RETURNS {returns} NOT DETERMINISTIC MODIFIES SQL DATA "
        f"BEGIN {count} {before} RETURN {expression}; END"
    )


def refuse(connection: Session, condition: str, message: str, sqlstate: str | None = None) -> str:
    """A statement of a function or a trigger that fails on a condition, of one row's data unless SQLSTATE says more."""
    if is_postgresql(connection):
        using = f" USING ERRCODE = '{sqlstate}'" if sqlstate else ""
        return f"IF {condition} THEN RAISE '{message}'{using}; END IF;"
    return (
        f"IF {condition} THEN SIGNAL SQLSTATE '{sqlstate or '45000'}' SET MESSAGE_TEXT = '{message}'; END IF;"
    )


def assign(connection: Session, column: str, expression: str) -> str:
    """A statement of a trigger that gives a column of the new row another value."""
    return (
        f"NEW.{column} := {expression};" if is_postgresql(connection) else f"SET NEW.{column} = {expression};"
    )


def add_trigger(connection: Session, name: str, moment: str, body: str, table: str = "items") -> None:
    """A trigger of each row.

    Args:
        connection: where.
        name: as SQL has it.
        moment: one such as "BEFORE UPDATE"; PostgreSQL alone knows "BEFORE INSERT OR UPDATE".
        body: statements, each ending with a semicolon.
        table: as SQL has it.
    """
    if is_postgresql(connection):
        function = name.strip('"').replace(" ", "_") + "_body"
        connection.execute(
            f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN {body} RETURN NEW; END $f$"
        )
        connection.execute(
            f"CREATE TRIGGER {name} {moment} ON {table} FOR EACH ROW EXECUTE FUNCTION {function}()"
        )
    else:
        connection.execute(f"CREATE TRIGGER {name} {moment} ON {table} FOR EACH ROW BEGIN {body} END")


class Gate:
    """Where functions wait while a session of its own keeps it closed.

    Args:
        holder: a session for this alone.
    """

    def __init__(self, holder: Session) -> None:
        self._holder = holder
        self._postgresql = is_postgresql(holder)
        lock = (
            "SELECT pg_advisory_lock(1)"
            if self._postgresql
            else "SELECT GET_LOCK(CONCAT(DATABASE(), '.gate'), 10)"
        )
        holder.execute(lock)

    @property
    def passage(self) -> str:
        """Statements of a function that waits at the gate, and leaves it as it is."""
        if self._postgresql:
            return "PERFORM pg_advisory_lock_shared(1); PERFORM pg_advisory_unlock_shared(1);"
        name = "CONCAT(DATABASE(), '.gate')"
        return f"DO GET_LOCK({name}, 60); DO RELEASE_LOCK({name});"

    def waiting(self) -> int:
        """How many sessions wait at it."""
        query = (
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            if self._postgresql
            else "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND state = 'User lock'"
        )
        return int(one(self._holder, query))

    def open(self) -> None:
        """Let them through."""
        unlock = (
            "SELECT pg_advisory_unlock(1)"
            if self._postgresql
            else "SELECT RELEASE_LOCK(CONCAT(DATABASE(), '.gate'))"
        )
        self._holder.execute(unlock)
