"""Reads a window's rows for scoring, around rows on which an input's or `where`'s own expression fails."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from worker import errors, rows
from worker.bisection import isolate
from worker.database import Database, Transaction
from worker.indatabase import identify
from worker.leases import Lease, Window, share_prediction
from worker.materialisation import Materialisation
from worker.models.protocol import RowFailure
from worker.rows import Taken
from worker.writeback import mark_failed

NARROW = 16_000_000  # characters in the texts of a window
PACKED_FROM = 1000  # rows: with 20 columns a packed read begins 0.3 ms of processor time later
_SAMPLE = 100  # rows


@dataclass(frozen=True, slots=True)
class Reading:
    """A window's rows as they were read.

    Attributes:
        share: the prediction's row (see `share_prediction`).
        skipped: rows that `where` excluded.
        failed: rows that could not be read and were quarantined.
        seconds: how long that kept the database busy.
        began: when, by the monotonic clock: the window was leased just before.
    """

    share: Any
    skipped: int
    failed: int
    taken: Taken
    seconds: float
    began: float


class Reader:
    """Reads windows of one prediction; every read is one short transaction.

    Column by column, unless there are texts and it has not seen yet that they are short: the server holds packed
    columns in its memory, and 1 GB is too much for it.
    """

    def __init__(self, database: Database, materialisation: Materialisation) -> None:
        self.database = database
        self.m = materialisation
        packings = materialisation.packings or ()
        self._narrow = all(packing.narrow for packing in packings[len(materialisation.key) + 1 :])

    def skip(self, lease: Lease) -> tuple[Any, int]:
        """The prediction's row (see `share_prediction`), and how many rows `where` excluded.

        None are where its expression fails on some row: that row is found when the window is scored, and the others
        are skipped on the next pass.
        """
        try:
            with self._open() as transaction:
                share = share_prediction(transaction, self.m, lease.generation)
                return share, rows.skip(transaction, self.m, lease)
        except errors.DataError:
            with self._open() as transaction:
                return share_prediction(transaction, self.m, lease.generation), 0

    def read(self, lease: Lease) -> Reading:
        """The rows of the window that are to be scored."""
        began = time.monotonic()
        try:
            with self._open() as transaction:
                share = share_prediction(transaction, self.m, lease.generation)
                skipped = rows.skip(transaction, self.m, lease)
                packed = self._narrow and lease.rows >= PACKED_FROM
                taken = rows.read(transaction, self.m, lease, lease.window, lease.rows, packed=packed)
            failed = 0
        except errors.DataError:
            share, failed, taken = self._around(lease)
            skipped = 0
        if len(taken):
            self._narrow = _characters(taken) <= NARROW
        return Reading(share, skipped, failed, taken, time.monotonic() - began, began)

    def _around(self, lease: Lease) -> tuple[Any, int, Taken]:
        """One row's expression fails (a division by zero): quarantine it, read the others."""
        known = identify(self.database, self.m, lease, lease.window, lease.rows)
        parts: list[Taken] = []
        poison: dict[int, RowFailure] = {}

        def attempt(start: int, stop: int) -> None:
            try:
                with self._open() as transaction:
                    parts.append(self._part(transaction, lease, known.window(start, stop), stop - start))
            except errors.DataError as error:
                raise errors.RowRejectedError(f"an input's expression fails: {error}") from error

        def convict(place: int, error: errors.RowFaultError) -> None:
            poison[place] = RowFailure(error.failure, str(error))

        isolate(len(known), attempt, convict, proven=True)
        bad = known.pick(list(poison))
        failed, _ = mark_failed(self.database, self.m, lease, bad, list(poison.values()))
        with self._open() as transaction:
            share = share_prediction(transaction, self.m, lease.generation)
        return share, failed, rows.merged([*parts, known.pick([])])

    def _part(self, transaction: Transaction, lease: Lease, window: Window, limit: int) -> Taken:
        return rows.read(transaction, self.m, lease, window, limit)

    def _open(self) -> Any:
        return self.database.transaction(**self.database.capabilities.plan_pins, lock_timeout="5s")


def _characters(taken: Taken) -> float:
    """About how many the texts among the inputs have, by a sample of the rows."""
    sample = taken.values[:: len(taken) // _SAMPLE + 1]
    counted = sum(len(value) for row in sample for value in row if isinstance(value, str))
    return counted / len(sample) * len(taken)
