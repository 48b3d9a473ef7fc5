"""Checks of the database server and this session: version, writable, transactions that hold vacuum back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sql
from worker.database import Database, Transaction
from worker.doctor.findings import Findings, error, ok, warning

OLDEST_VERSION = 14
OLD_SNAPSHOT = (
    600.0  # seconds; every batch leaves dead rows, which no vacuum removes while an older snapshot is open
)


@dataclass(frozen=True, slots=True)
class Server:
    """The server, and what this role and this session are to it; `local` where a Unix socket leads to it."""

    version_number: int
    version: str
    aurora: bool
    role: str
    quoted_role: str
    database: str
    replica: bool
    read_only: bool
    isolation: str
    port: int
    local: bool
    autovacuum: bool

    @property
    def label(self) -> str:
        """The product and its version."""
        return f"{'Aurora PostgreSQL' if self.aurora else 'PostgreSQL'} {self.version}"


def read_server(transaction: Transaction) -> Server:
    """Ask the server what it is."""
    row: Any = transaction.row(sql.load(transaction.capabilities.dialect)["find_server"].render())
    return Server(**row._mapping)


def check_connection(server: Server, database: Database) -> Findings:
    """That the server is new enough, and that rows may be written here."""
    subject = "connection"
    where = f"{database.label}: {server.label}, role {server.role}"
    if server.version_number < OLDEST_VERSION * 10_000:
        remedy = f"upgrade to PostgreSQL {OLDEST_VERSION} or later"
        yield error(subject, f"{where} is older than {OLDEST_VERSION}", remedy)
    elif server.replica:
        yield error(
            subject, f"{where} is a read replica: nothing can be written", "connect to the writer (primary)"
        )
    elif server.read_only:
        remedy = f"ALTER ROLE {server.quoted_role} SET default_transaction_read_only = off;"
        yield error(subject, f"{where}: transactions are read-only by default", remedy)
    else:
        yield ok(subject, where)
    if server.isolation != "read committed":
        yield ok(
            "isolation", f"the default is {server.isolation}; rowscore's own transactions are READ COMMITTED"
        )
    port = database.url.port
    if port is not None and not server.local and port != server.port:
        yield ok(
            "pooler",
            f"port {port} leads to a server on port {server.port}, so a proxy or pooler stands between: "
            f"PgBouncer in transaction mode works, because rowscore keeps nothing in a session",
        )


def check_snapshots(transaction: Transaction, server: Server, older_than: float = OLD_SNAPSHOT) -> Findings:
    """Transactions that have been open for so many seconds; dead rows pile up behind them."""
    subject = "transactions"
    statements = sql.load(transaction.capabilities.dialect)
    rows = transaction.rows(statements["find_old_snapshots"].render(), older_than=older_than)
    for row in rows:
        who = f"session {row.pid} ({row.role}, {row.application or 'no name'}, {row.state})"
        end = f"SELECT pg_terminate_backend({row.pid});"
        if row.gid is not None:
            who, end = f"prepared transaction {row.gid} ({row.role})", f"ROLLBACK PREPARED '{row.gid}';"
        message = f"{who} has been open for {row.seconds // 60} min: no vacuum removes dead rows meanwhile"
        yield warning(subject, message, f"let it end, or: {end}")
    if rows:
        return
    hidden = transaction.value(statements["count_hidden_sessions"].render())
    shortly = f"none is older than {older_than / 60:.0f} min"
    if hidden:
        shortly += (
            f"; {hidden} sessions of other roles are hidden: GRANT pg_read_all_stats TO {server.quoted_role}"
        )
    yield ok(subject, shortly)
