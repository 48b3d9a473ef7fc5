"""Checks of the server and this session: version, writable, binary log, transactions that are open for long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sql
from worker.attempts import attempt
from worker.capabilities import capabilities_of
from worker.capabilities.counsel import Counsel
from worker.database import Database, Transaction
from worker.doctor.findings import Findings, error, ok, remedy, warning
from worker.errors import PrivilegeError

OLD_SNAPSHOT = (
    600.0  # seconds; every batch leaves dead rows, which nothing removes while an older snapshot is open
)
LONG_HISTORY = 1_000_000  # transactions whose old row versions wait; reads slow down long before


@dataclass(frozen=True, slots=True)
class Server:
    """The server, and what this role and this session are to it.

    Attributes:
        local: a Unix socket leads to it.
        readers_rights: its views can check their reader's rights instead of their owner's.
        autovacuum: None where there is no such thing.
    """

    dialect: str
    product: str
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
    readers_rights: bool
    autovacuum: bool | None = None

    @property
    def label(self) -> str:
        """The product and its version."""
        return f"{self.product} {self.version}"

    @property
    def counsel(self) -> Counsel:
        """The words for this kind of database."""
        return capabilities_of(self.dialect).counsel

    def remedy(self, name: str, **names: object) -> str:
        """SQL of `remedies.sql` for this role."""
        return remedy(self.dialect, name, role=self.quoted_role, **names)


def read_server(transaction: Transaction) -> Server:
    """Ask the server what it is."""
    row: Any = transaction.row(sql.load(transaction.capabilities.dialect)["find_server"].render())
    return Server(dialect=transaction.capabilities.dialect, **row._mapping)


def check_connection(server: Server, database: Database) -> Findings:
    """That the server is new enough, and that rows may be written here."""
    subject = "connection"
    where = f"{database.label}: {server.label}, role {server.role}"
    oldest = server.counsel.oldest_label
    if server.version_number < server.counsel.oldest:
        yield error(subject, f"{where} is older than {oldest}", f"upgrade to {oldest} or later")
    elif server.replica:
        yield error(
            subject, f"{where} is a read replica: nothing can be written", "connect to the writer (primary)"
        )
    elif server.read_only:
        yield error(subject, f"{where}: transactions are read-only by default", server.remedy("allow_writes"))
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
            f"{server.counsel.pooler}",
        )


def check_snapshots(transaction: Transaction, server: Server, older_than: float = OLD_SNAPSHOT) -> Findings:
    """Transactions that have been open for so many seconds; dead rows pile up behind them."""
    subject = "transactions"
    statements = sql.load(transaction.capabilities.dialect)
    try:
        rows = attempt(transaction, statements["find_old_snapshots"].render(), older_than=older_than)
    except PrivilegeError:
        message = f"role {server.role} may not see those of others: {server.remedy('grant_sessions')}"
        yield ok(subject, message)
        return
    for row in rows:
        yield warning(subject, *_old_snapshot(row, server))
    history = transaction.value(statements["find_history"].render()) if "find_history" in statements else 0
    if history > LONG_HISTORY:
        message = (
            f"old row versions of {history:,} transactions wait for {server.counsel.cleaner}: reads slow down"
        )
        yield warning(
            subject, message, "end long transactions, and give the server time, or more purge threads"
        )
    if rows or history > LONG_HISTORY:
        return
    shortly = f"none is older than {older_than / 60:.0f} min"
    if "count_hidden_sessions" in statements:
        hidden = transaction.value(statements["count_hidden_sessions"].render())
        if hidden:
            grant = server.remedy("grant_sessions").removesuffix(";")
            shortly += f"; {hidden} sessions of other roles are hidden: {grant}"
    yield ok(subject, shortly)


def _old_snapshot(row: Any, server: Server) -> tuple[str, str]:
    """What to say of a transaction that has been open for long, and what ends it."""
    if row.gid is not None:
        who, end = (
            f"prepared transaction {row.gid} ({row.role or 'no session'})",
            server.remedy("end_prepared", gid=row.gid),
        )
    else:
        name = row.application or "no name"
        who = f"session {row.pid} ({row.role}, {name}, {row.state})"
        end = server.remedy("end_session", pid=row.pid)
    open_for = f"has been open for {row.seconds // 60} min"
    return (
        f"{who} {open_for}: no {server.counsel.cleaner} removes dead rows meanwhile",
        f"let it end, or: {end}",
    )


def check_binary_log(transaction: Transaction, server: Server) -> Findings:
    """That the binary log, where one is written, takes what rowscore writes."""
    statements = sql.load(transaction.capabilities.dialect)
    if "find_replication" not in statements:
        return
    settings = dict(map(tuple, transaction.rows(statements["find_replication"].render())))
    subject, form = "binary log", settings.get("binlog_format", "ROW")
    if settings.get("log_bin") != "ON":
        yield ok(subject, "none is written")
    elif form == "STATEMENT":
        message = (
            "binlog_format = STATEMENT: InnoDB then refuses writes at READ COMMITTED, and a replica would call the "
            "function once more for each row, and might get other answers"
        )
        yield error(subject, message, server.remedy("log_rows"))
    else:
        yield ok(subject, f"binlog_format = {form}: replicas get the predictions, and call no model")
