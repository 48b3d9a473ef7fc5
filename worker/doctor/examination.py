"""The checks in order, from the file to the workers; one that fails does not keep others from being made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from worker.config import Configuration, Prediction
from worker.database import Database, Transaction
from worker.doctor import functions, imports, privileges, relations, services, throttles
from worker.doctor.findings import Finding, Findings, Level, error, ok
from worker.doctor.server import (
    Server,
    check_binary_log,
    check_connection,
    check_snapshots,
    read_server,
)
from worker.engine import Engine
from worker.errors import ConfigurationError, DatabaseError, RowscoreError
from worker.materialisation import Materialisation, resolve

_STATEMENT_TIMEOUT = "30s"
Check = Callable[[Transaction], Findings]


def examine(engine: Engine, predictions: Iterable[Prediction]) -> Findings:
    """All findings about these predictions, each as soon as it is made."""
    configuration = engine.configuration
    yield from check_configuration(configuration)
    yield from imports.check_own_imports()
    servers: dict[str, Server | None] = {}
    for prediction in predictions:
        for finding in _examine_prediction(engine, prediction, servers):
            shared = finding.subject in _SHARED
            yield finding if shared else replace(finding, prediction=prediction.name)
    yield from services.check_broker(configuration)


_SHARED = ("connection", "isolation", "pooler", "transactions", "binary log")


def check_configuration(configuration: Configuration) -> Findings:
    """The file was read and checked by then; say which it is."""
    yield ok("configuration", f"{configuration.path}: {', '.join(configuration.predictions)}")


def _examine_prediction(
    engine: Engine, prediction: Prediction, servers: dict[str, Server | None]
) -> Findings:
    try:
        database = engine.database(prediction)
    except ConfigurationError as refusal:
        yield error("connection", str(refusal), "set the variable, or mend `database`")
    else:
        if database.label not in servers:
            servers[database.label] = yield from _connect(database)
        server = servers[database.label]
        if server is not None:
            yield from _Examination(engine, database, prediction, server).run()
    yield from services.check_model(engine, prediction)
    yield from services.check_store(engine, prediction)


def _connect(database: Database) -> Any:
    """Yields the findings about the server, and returns it; None where there is no connection."""
    try:
        with database.transaction() as transaction:
            server = read_server(transaction)
            found = [*check_connection(server, database), *check_snapshots(transaction, server)]
            found += check_binary_log(transaction, server)
    except DatabaseError as refusal:
        yield error(
            "connection", str(refusal), "is the server up, and are host, user, password and database right?"
        )
        return None
    yield from found
    return server


@dataclass
class _Examination:
    """One prediction's checks; each is a transaction of its own, so that none spoils another."""

    engine: Engine
    database: Database
    prediction: Prediction
    server: Server
    worst: Level = field(default=Level.OK, init=False)

    def run(self) -> Findings:
        with self._transaction() as transaction:
            located = privileges.locate_table(transaction, self.prediction)
            hidden = (
                privileges.hidden_table(transaction, self.prediction, self.server)
                if located is None
                else None
            )
        access = list(privileges.check_table_access(self.prediction, self.server, located, hidden))
        yield from access
        yield from self._check("own tables", lambda t: privileges.check_own_tables(t, self.server))
        yield from self._check("function", self._function)
        if located is None or any(finding.level is Level.ERROR for finding in access):
            return
        yield from self._check("table", lambda t: self._table(t, located))
        if (
            self.worst is Level.ERROR
        ):  # the rest reads what could not be read, and would say the same in other words
            return
        try:
            with self._transaction() as transaction:
                m = resolve(transaction, self.prediction)
        except RowscoreError as refusal:
            yield from relations.explain_refusal(refusal, self.server, located)
            return
        yield from self._materialisation(m, located)

    def _function(self, transaction: Transaction) -> Findings:
        yield from privileges.check_function_privileges(transaction, self.prediction, self.server)

    def _table(self, transaction: Transaction, located: Any) -> Findings:
        table, key = relations.describe_table(transaction, self.prediction)
        yield from relations.check_table(table, key)
        names = [column.name for column in key]
        moving = [column.name for column in table.columns.values() if column.moves]
        yield from privileges.check_table_privileges(
            transaction, self.prediction, self.server, located, names, moving
        )

    def _materialisation(self, m: Materialisation, located: Any) -> Findings:
        yield from self._check("function", lambda t: functions.check_function(t, m))
        yield from self._check("batch mode", lambda t: functions.check_batching(t, m, self.server))
        applied = self._check("applied", lambda t: relations.check_applied(t, m))
        yield from applied
        there = m.prediction.state_column in m.table.columns
        needed = any(finding.level is not Level.OK for finding in applied)
        if located.owner is None:
            yield from self._check(
                "ownership", lambda t: relations.check_rights(t, m, self.server, needed=needed)
            )
        else:
            yield from privileges.check_ownership(self.server, located, needed=needed)
        if there:
            yield from self._check("pending index", lambda t: relations.check_index(t, m))
            yield from self._check("view", lambda t: relations.check_view(t, m, self.server))
        yield from self._check("row security", lambda t: relations.check_row_security(t, m, self.server))
        yield from relations.check_triggers(m, self.server)
        yield from self._check("inserts", lambda t: relations.check_inserts(t, m, applied=there))
        yield from self._check("vacuum", lambda t: relations.check_vacuum(t, m, self.server))
        yield from self._check("throttle", lambda _: throttles.check_signals(self.engine, m, self.server))
        if there:
            yield from self._check("throttle", lambda _: throttles.check_pause(self.database, m.name))

    def _transaction(self) -> Any:
        return self.database.transaction(statement_timeout=_STATEMENT_TIMEOUT, lock_timeout="2s")

    def _check(self, subject: str, check: Check) -> list[Finding]:
        """What one check finds; what stops it is a finding as well."""
        found: list[Finding] = []
        try:
            with self._transaction() as transaction:
                found.extend(check(transaction))
        except RowscoreError as refusal:
            found.append(error(subject, str(refusal)))
        if any(finding.level is Level.ERROR for finding in found):
            self.worst = Level.ERROR
        return found
