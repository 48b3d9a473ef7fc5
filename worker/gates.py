"""What a call passes before it is sent: rates are waited for, budgets are drawn on; it calls no model."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from worker.errors import ModelError
from worker.models.protocol import Weight

Failed = Callable[[ModelError], None]


class Gate(Protocol):
    """One of them; several threads may pass at once."""

    def enter(self, weight: Weight, stop: threading.Event) -> Failed:
        """Reserve what the call weighs; returns whom to tell if the call fails, who gives back what was not used.

        Raises:
            ModelError: the call may not be made now; nothing was reserved.
            StoppedError: `stop` was set while waiting.
        """
        ...


def enter_all(gates: Sequence[Gate], weight: Weight, stop: threading.Event) -> Failed:
    """Pass one gate after the other: those that wait first, so that nobody pays and then waits.

    Raises:
        ModelError: one of them refused; what the others had reserved is given back, where the call was not sent.
    """
    passed: list[Failed] = []

    def failed(error: ModelError) -> None:
        for tell in reversed(passed):
            tell(error)

    for gate in gates:
        try:
            passed.append(gate.enter(weight, stop))
        except ModelError as error:
            failed(error)
            raise
    return failed
