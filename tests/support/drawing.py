"""A process that draws on rates as fast as they allow, and tells when it did, by the clock of Redis."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from worker.kinds.rates import parse_rates
from worker.models.protocol import Weight
from worker.rates import Rates
from worker.store import Store

THREADS = 3


class Noted(Rates):
    """Rates that note the moment of each draw, in microseconds."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.moments: list[int] = []

    def _draw(self, arguments: list[int]) -> tuple[float, int]:
        seconds, now = super()._draw(arguments)
        if seconds <= 0:
            self.moments.append(now)
        return seconds, now


def draw(url: str, rates: list[str], weight: Weight, times: int, started: Any, told: Any) -> None:
    """Draw so many times by several threads, together with other processes; tells the moments."""
    store, stop = Store(url), threading.Event()
    noted = Noted(store, "churn", parse_rates(rates))
    started.wait()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: noted.enter(weight, stop), range(times)))
    store.close()
    told.put(noted.moments)
