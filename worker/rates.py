"""The rates at which a model may be called, held by all workers together through Redis; it sends no request.

A rate holds in every window of its length, wherever that begins: what was drawn is kept for as long as the window, in
slices of a hundredth of it, and a slice counts until all of it is over. So a rate is never exceeded, and 100/101 of it
can be used. Time is Redis's own, so workers' clocks do not matter.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from worker.errors import ModelError, PayloadTooLargeError, StoreError, ThrottledError
from worker.gates import Failed
from worker.kinds.rates import Rate
from worker.models.protocol import Weight
from worker.patience import StoppedError
from worker.store import Store

LONGEST_WAIT = 65.0
"""Seconds that a call waits for its turn. A whole window of a minute is waited out; for more, others come back."""

LONGEST_REST = 600.0  # seconds that all workers leave a service alone because it told one of them to
# KEYS: until when nobody calls, then a key for each rate. ARGV: for each rate its amount, its window in microseconds,
# and what is drawn. Returns the microseconds to wait, nothing being drawn unless that is 0, and the time.
_DRAW = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local wait = (tonumber(redis.call('GET', KEYS[1]) or 0)) - now
for i = 2, #KEYS do
  local amount, window, asked = tonumber(ARGV[3*i-5]), tonumber(ARGV[3*i-4]), tonumber(ARGV[3*i-3])
  local slice = window / 100
  local oldest = math.floor(now / slice) - 100
  local drawn, used = 0, {}
  local found = redis.call('HGETALL', KEYS[i])
  for j = 1, #found, 2 do
    local number, weight = tonumber(found[j]), tonumber(found[j+1])
    if number < oldest then
      redis.call('HDEL', KEYS[i], found[j])
    else
      drawn = drawn + weight
      used[#used+1] = {number, weight}
    end
  end
  table.sort(used, function(one, other) return one[1] < other[1] end)
  for j = 1, #used do
    if drawn + asked <= amount then break end
    drawn = drawn - used[j][2]
    wait = math.max(wait, (used[j][1] + 101) * slice - now)
  end
end
if wait > 0 then return {math.ceil(wait), now} end
for i = 2, #KEYS do
  local window, asked = tonumber(ARGV[3*i-4]), tonumber(ARGV[3*i-3])
  redis.call('HINCRBY', KEYS[i], string.format('%.0f', math.floor(now / (window / 100))), asked)
  redis.call('PEXPIRE', KEYS[i], math.ceil(window * 1.02 / 1000))
end
return {0, now}
"""

# The same keys and arguments, and last the time at which it was drawn.
_GIVE_BACK = """
local at = tonumber(ARGV[#ARGV])
for i = 2, #KEYS do
  local slice = string.format('%.0f', math.floor(at / (tonumber(ARGV[3*i-4]) / 100)))
  if redis.call('HEXISTS', KEYS[i], slice) == 1 then
    redis.call('HINCRBY', KEYS[i], slice, -tonumber(ARGV[3*i-3]))
  end
end
"""

# KEYS: until when nobody calls. ARGV: microseconds from now. A rest that lasts longer already stays.
_REST = """
local clock = redis.call('TIME')
local till = clock[1] * 1000000 + clock[2] + tonumber(ARGV[1])
if till > tonumber(redis.call('GET', KEYS[1]) or 0) then
  redis.call('SET', KEYS[1], string.format('%.0f', till), 'PX', math.ceil(tonumber(ARGV[1]) / 1000))
end
"""


def fitting(rates: Sequence[Rate], rows: int) -> int:
    """The most rows of a call, at most `rows`, with which whole calls fill each rate of rows.

    2,000 rows a call at 5,000 rows a second would be two calls a second; 1,666 are three.
    """
    for rate in rates:
        if rate.unit == "rows":
            rows = min(rows, rate.amount // -(-rate.amount // rows))
    return max(rows, 1)


class Rates:
    """One prediction's rates and its service's own wish to be left alone: the gate that calls wait at.

    Args:
        name: the prediction's, by which workers share the rates.
        rates: all of them hold; none: only the service's wish is shared.
    """

    def __init__(self, store: Store, name: str, rates: Sequence[Rate]) -> None:
        self._store = store
        self._rates = tuple({(rate.unit, rate.amount, rate.seconds): rate for rate in rates}.values())
        parts = [f"{rate.amount}-{rate.unit}-{rate.seconds:g}" for rate in self._rates]
        # One slot of a cluster for all keys of a script.
        self._keys = [f"rowscore:rate:{{{name}}}:{part}" for part in ("rest", *parts)]

    def enter(self, weight: Weight, stop: threading.Event) -> Failed:
        """Wait for the call's turn and take it; see `worker.gates.Gate`.

        Raises:
            ThrottledError: the turn is further away than `LONGEST_WAIT`, or Redis cannot be asked: without it nobody
                knows how much others send.
            PayloadTooLargeError: the call weighs more than a rate ever allows.
            StoppedError: `stop` was set meanwhile.
        """
        self._check(weight)
        latest = time.monotonic() + LONGEST_WAIT
        arguments = self._arguments(weight)
        while True:
            seconds, drawn_at = self._draw(arguments)
            if seconds <= 0:
                break
            if time.monotonic() + seconds > latest:
                raise ThrottledError(self._full(seconds), retry_after=seconds, sent=False)
            if stop.wait(seconds):
                raise StoppedError
        return lambda error: self._failed(error, arguments, drawn_at)

    def _check(self, weight: Weight) -> None:
        for rate in self._rates:
            asked = _of(weight, rate)
            if asked > rate.amount:
                message = (
                    f"{weight.rows} rows are {asked} {rate.unit}, more than rate_limit {rate} ever allows"
                )
                fitting = weight.rows * rate.amount // asked
                raise PayloadTooLargeError(message, sent=False, fitting=fitting)

    def _arguments(self, weight: Weight) -> list[int]:
        return [
            number
            for rate in self._rates
            for number in (rate.amount, int(rate.seconds * 1_000_000), _of(weight, rate))
        ]

    def _draw(self, arguments: list[int]) -> tuple[float, int]:
        try:
            wait, now = self._store.run(_DRAW, self._keys, arguments)
        except StoreError as error:
            if not self._rates:
                return 0.0, 0
            message = f"nothing is sent while nobody can say how much of rate_limit is used: {error}"
            raise ThrottledError(message, sent=False) from error
        return wait / 1_000_000, now

    def _full(self, seconds: float) -> str:
        named = ", ".join(map(str, self._rates)) or "none"
        return (
            f"the next call is due in {seconds:.0f} s (rate_limit: {named}; or the service asked for a rest)"
        )

    def _failed(self, error: ModelError, arguments: list[int], drawn_at: int) -> None:
        """Give back what was not sent; a rest that the service asks for holds for all workers."""
        try:
            if not error.sent and self._rates:
                self._store.run(_GIVE_BACK, self._keys, [*arguments, drawn_at])
            elif isinstance(error, ThrottledError) and error.retry_after:
                seconds = min(error.retry_after, LONGEST_REST)
                self._store.run(_REST, self._keys[:1], [int(seconds * 1_000_000)])
        except StoreError:
            pass  # less is sent than might be; and each worker rests by itself


def _of(weight: Weight, rate: Rate) -> int:
    return {"requests": weight.requests, "rows": weight.rows, "tokens": weight.tokens}[rate.unit]
