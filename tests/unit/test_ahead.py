"""What was found in advance: a window is taken once; that there is none is believed only of a run that ends."""

from __future__ import annotations

import pytest

from worker.ahead import Ahead, Claim
from worker.leases import Idle, Lease, Window
from worker.states import RunKind

CLAIM = Claim(Lease(1, RunKind.RESCORE, 1, Window(("1",), ("9",)), 9, 1, 1), None)
BUSY, EMPTY = Idle("the rest is leased to other workers", 1.0), Idle("no rows are waiting", empty=True)


@pytest.mark.parametrize(
    ("found", "once", "asked"),
    [
        (CLAIM, False, 1),
        (CLAIM, True, 1),
        (BUSY, False, 2),
        (BUSY, True, 2),
        (EMPTY, False, 2),
        (EMPTY, True, 1),
    ],
)
def test_what_is_final_is_not_asked_for_again(found: Claim | Idle, once: bool, asked: int) -> None:
    """Rows may have come since for a drain; of a run that ends another walk over the table would find the same."""
    sizes: list[int] = []

    def take(rows: int) -> Claim | Idle:
        sizes.append(rows)
        return found

    ahead = Ahead(take, lambda _: None, once=once)
    ahead.start(100)
    assert ahead.next(200) is found
    assert sizes == [100, 200][:asked]
    ahead.close()
