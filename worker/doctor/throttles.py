"""Checks of the limits that hold work up: that each signal can be read, with the GRANT where it cannot."""

from __future__ import annotations

from worker.database import Database
from worker.doctor.findings import Findings, error, ok, warning
from worker.doctor.server import Server
from worker.engine import Engine
from worker.errors import ConfigurationError
from worker.limits import Reading, Signal, Unreadable
from worker.materialisation import Materialisation
from worker.throttle import UNNAMED, exists, read_standing

SUBJECT = "throttle"


def check_signals(engine: Engine, m: Materialisation, server: Server) -> Findings:
    """Read each configured signal once, as workers do before each batch."""
    limits = m.prediction.throttle
    try:
        readings = engine.watch(m.prediction).signals.read(m)
    except ConfigurationError as refusal:
        yield error(SUBJECT, str(refusal), "set the variable, or mend `replicas` under `throttle`")
        return
    for signal in limits.signals:
        if not exists(signal, server.dialect):
            if limits.asked_for(signal):
                message = f"{signal.value} holds nothing up: {server.product} has no such signal"
                yield warning(SUBJECT, message, f"leave {signal.value} out")
            continue
        yield from _check(signal, readings[signal], server, asked=limits.asked_for(signal))


def _check(signal: Signal, reading: Reading, server: Server, *, asked: bool) -> Findings:
    grant = server.remedy("grant_monitor", signal=signal.value)
    if isinstance(reading, Unreadable) and signal is Signal.REPLICA_LAG:
        message = f"{signal.value} cannot be read, so nothing is scored: {reading.why}"
        yield error(SUBJECT, message, 'replicas = ["$REPLICA_URL"]' if reading.why == UNNAMED else grant)
    elif isinstance(reading, Unreadable) and signal is Signal.QUERY:
        message = f"query cannot be read and holds nothing up: {reading.why}"
        yield warning(SUBJECT, message, "mend `query` under `throttle`, or grant what it reads")
    elif isinstance(reading, Unreadable) and asked:
        yield warning(SUBJECT, f"{signal.value} cannot be read and holds nothing up: {reading.why}", grant)
    elif isinstance(reading, Unreadable):
        yield ok(SUBJECT, f"{signal.value} is not watched: {grant.removesuffix(';')}")
    elif signal is Signal.REPLICA_LAG and reading is None:
        yield warning(SUBJECT, f"{signal.value} holds nothing up: no replica is connected")
    elif asked:
        yield ok(SUBJECT, f"{signal.value} can be read")


def check_pause(database: Database, name: str) -> Findings:
    """Whether an operator has paused the prediction."""
    standing = read_standing(database, name)
    if standing.pause is not None:
        because = f": {standing.pause.because}" if standing.pause.because else ""
        yield warning(SUBJECT, f"an operator has paused it{because}", f"rowscore resume {name}")
