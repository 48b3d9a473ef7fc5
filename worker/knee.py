"""A sweep's decisions: which size is tried next, within a cap on calls, and where the knee is; it calls nothing.

Sizes are geometric. They are tried upwards once, as long as rows a second do not fall, then again in the other
direction, so that a machine which warms up or tires favours none of them. What is left of the cap goes to sizes
beside a peak, to other concurrencies, and to more trials of those near the best. Figures of a size are medians.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median

ENOUGH = 0.97
"""The knee is the smallest size that reaches so much of the best rows a second. At 0.95 a drain reached 0.948 of the
best one: each claim has costs of its own there."""

TRIALS = 2
"""Of each size that is tried and not refused, so that it gets two calls at least."""

HEADROOM = 0.5  # of the timeout: a call of the size that is chosen may take twice as long as the slowest that was seen
_MOST_TRIALS = 9
_MOST_SIZES = 12
_FEWEST_SIZES = 5  # with a small cap fewer calls are made at once, so that so many sizes can be tried
_FALLING = 0.8  # of the best: larger sizes will not be better
_NEAR = 0.85  # of the best: worth another trial
_COARSE = 1.4  # between the best and a neighbour that is worse: worth a size in between
_WIDE = 2.0  # worth it whatever the neighbour's speed: both may stand on the slopes of one peak
_REFINED = 3  # such sizes at most
_RESERVE = 0.2  # of the cap, kept back from all but the first of them for more trials of the best
_GAIN = 1.02  # of the next concurrency: worth trying the one after it
_SHARE = 0.7  # of the cap for the first sizes, where the user names none
_PATIENCE = 3  # trials in a row without any answer: the service is at fault


class Verdict(StrEnum):
    """What became of a trial."""

    ANSWERED = "answered"
    TOO_LARGE = "too large"
    TOO_SLOW = "too slow"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Trial:
    """What to try: so many rows in calls of this size, all at once.

    Attributes:
        concurrency: calls at once as configured, which a claim's rows may not suffice for.
        rows: of all its calls; the last one may have fewer than the others.
        warm: it only opens connections and fills caches, and is not a measurement.
    """

    size: int
    concurrency: int
    rows: int
    warm: bool = False

    @property
    def calls(self) -> int:
        """How many calls it makes."""
        return -(-self.rows // self.size)


@dataclass(frozen=True, slots=True)
class Result:
    """What a trial gave.

    Attributes:
        calls: made and paid for, at most the trial's.
        rows: answered for, where those are not the trial's: some may have changed meanwhile.
        seconds: from its first call to its last answer, waits for throttling excluded.
        latencies: seconds of each call that was answered.
        reason: why it was not answered.
    """

    trial: Trial
    calls: int
    seconds: float = 0.0
    latencies: tuple[float, ...] = ()
    verdict: Verdict = Verdict.ANSWERED
    reason: str = ""
    rows: int | None = None

    @property
    def rate(self) -> float | None:
        """Rows a second."""
        answered = self.verdict is Verdict.ANSWERED and self.seconds > 0
        rows = self.trial.rows if self.rows is None else self.rows
        return rows / self.seconds if answered else None


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a size whatever its speed; seconds, None where there is no such bound.

    Attributes:
        timeout: of one call.
        lock: that a statement may keep rows locked.
    """

    timeout: float | None = None
    lock: float | None = None


@dataclass(slots=True)
class Point:
    """All trials of one size at one concurrency."""

    size: int
    concurrency: int
    at_once: int
    results: list[Result] = field(default_factory=list)

    @property
    def trials(self) -> int:
        """How often it was tried."""
        return len(self.results)

    @property
    def calls(self) -> int:
        """How many calls that took."""
        return sum(result.calls for result in self.results)

    @property
    def rates(self) -> list[float]:
        """Rows a second of each trial that was answered."""
        return [result.rate for result in self.results if result.rate is not None]

    @property
    def rate(self) -> float | None:
        """Their median."""
        return median(self.rates) if self.rates else None

    @property
    def latencies(self) -> list[float]:
        """Seconds of each call that was answered."""
        return [seconds for result in self.results for seconds in result.latencies]

    @property
    def latency(self) -> float | None:
        """Their median."""
        return median(self.latencies) if self.latencies else None

    @property
    def trouble(self) -> Result | None:
        """The first trial that was not answered."""
        return next((item for item in self.results if item.verdict is not Verdict.ANSWERED), None)

    @property
    def refused(self) -> bool:
        """Whether the service does not take so many rows; it is not asked again."""
        return any(result.verdict in (Verdict.TOO_LARGE, Verdict.TOO_SLOW) for result in self.results)

    @property
    def due(self) -> bool:
        """Whether it has to be tried once more."""
        return not self.refused and self.trials < TRIALS

    def fits(self, limits: Limits) -> bool:
        """Whether it keeps to the limits, a timeout with room to spare."""
        slow = limits.timeout is not None and max(self.latencies, default=0.0) > HEADROOM * limits.timeout
        locks = limits.lock is not None and (self.latency or 0.0) > limits.lock
        return not slow and not locks


@dataclass(frozen=True, slots=True)
class Choice:
    """The size to use.

    Attributes:
        point: the knee.
        best: the point with the most rows a second among those that may be chosen.
        within: whether it keeps to the limits; if not, no size does, and it is the smallest.
    """

    point: Point
    best: Point
    within: bool = True


def knee(points: Iterable[Point], limits: Limits) -> Choice | None:
    """The smallest size that reaches `ENOUGH` of the best rows a second; None where nothing was answered.

    A size may be chosen if it keeps to the limits, and if neither it nor a smaller one was refused.
    """
    listed = list(points)
    refused = min((point.size for point in listed if point.refused), default=None)
    measured = [point for point in listed if point.rate is not None]
    allowed = [
        point
        for point in measured
        if point.fits(limits) and not point.refused and (refused is None or point.size < refused)
    ]
    if not allowed:
        smallest = min(measured, key=lambda point: point.size, default=None)
        return None if smallest is None else Choice(smallest, smallest, within=False)
    best = max(allowed, key=_rate)
    enough = [point for point in allowed if _rate(point) >= ENOUGH * _rate(best)]
    return Choice(min(enough, key=lambda point: (point.size, point.concurrency)), best)


def geometric(smallest: int, largest: int, count: int) -> tuple[int, ...]:
    """At most `count` sizes from the smallest to the largest, evenly apart by ratio, rounded to two digits."""
    if count == 1:
        return (_rounded(math.sqrt(smallest * largest)),)
    ratio = (largest / smallest) ** (1 / (count - 1))
    found = {_rounded(smallest * ratio**place) for place in range(count)}
    return tuple(sorted(min(max(size, smallest), largest) for size in found))


class Sweep:
    """What to try next, from what was tried; for one thread.

    The driver asks `next`, tries it, and reports to `record`, until there is nothing more to try.

    Args:
        sizes: to be tried; None: geometric ones from `smallest` on. Where the cap does not suffice for all, some of
            them, evenly apart.
        concurrency: calls at once, as configured.
        others: further concurrencies, tried with the size that is found.
        most_rows: rows at hand, and rows of one claim: a larger size cannot be tried, nor more calls at once than
            share them.
        calls: the cap, which is kept to exactly; at least `TRIALS`.
    """

    def __init__(
        self,
        *,
        sizes: Sequence[int] | None = None,
        smallest: int = 1,
        concurrency: int = 1,
        others: Sequence[int] = (),
        most_rows: int,
        calls: int,
        limits: Limits = Limits(),
    ) -> None:
        self.left = calls
        self.limits = limits
        self.ended = ""
        self._most_rows = most_rows
        self._reserve = _RESERVE * calls
        self._exact = sizes is not None
        wanted = sorted({size for size in sizes if size <= most_rows}) if sizes is not None else None
        fewest = _FEWEST_SIZES if wanted is None else min(_FEWEST_SIZES, max(1, len(wanted)))
        self.concurrency = min(concurrency, max(1, calls // (TRIALS * fewest)))
        # With a cap that does not suffice for the configured concurrency, others are not to be thought of.
        self._others = _outwards(others, concurrency) if self.concurrency == concurrency else []
        self._points: dict[tuple[int, int], Point] = {}
        self._silent = 0
        share = _SHARE if sizes is None or self._others else 1.0
        self.sizes = self._affordable(wanted, min(smallest, most_rows), share * calls) or self._affordable(
            wanted, min(smallest, most_rows), calls
        )
        spare = calls - TRIALS * sum(map(self._at_once, self.sizes))
        self._warm = bool(self.sizes) and spare >= self._at_once(self.sizes[0])

    @property
    def points(self) -> list[Point]:
        """What was tried, by size and concurrency."""
        return sorted(self._points.values(), key=lambda point: (point.size, point.concurrency))

    def next(self) -> Trial | None:
        """What to try now; None: nothing more."""
        if self.ended:
            return None
        if self._warm:
            self._warm = False
            return self._trial(self.sizes[0], self.concurrency, warm=True)
        steps: tuple[Callable[[], Trial | None], ...] = (
            self._explore, self._repeat, self._refine, self._spread, self._confirm,
        )  # fmt: skip
        return next((trial for step in steps if (trial := step()) is not None), None)

    def record(self, result: Result) -> None:
        """What became of the trial that was given out last."""
        trial = result.trial
        self.left -= result.calls
        self._silent = 0 if result.verdict is not Verdict.FAILED else self._silent + 1
        if self._silent >= _PATIENCE:
            self.ended = result.reason
        if trial.warm and result.verdict is Verdict.ANSWERED:
            return
        place = trial.size, trial.concurrency
        point = self._points.setdefault(place, Point(*place, self._at_once(*place)))
        point.results.append(result)

    def end(self, reason: str) -> None:
        """Nothing more is to be tried."""
        self.ended = reason

    def choice(self) -> Choice | None:
        """The size to use and the concurrency: the lowest one that suffices for that size; None: nothing answered."""
        found = knee(self._column(), self.limits)
        if found is None or not found.within:
            return found
        same = [point for point in self.points if point.size == found.point.size]
        fit = [point for point in same if point.rate and point.fits(self.limits) and not point.refused]
        best = max([*fit, found.best], key=_rate)
        enough = [point for point in fit if _rate(point) >= ENOUGH * _rate(best)]
        return Choice(min(enough, key=lambda point: point.concurrency), best)

    def _column(self) -> list[Point]:
        """The points at the sweep's own concurrency, by size."""
        return [point for point in self.points if point.concurrency == self.concurrency]

    def _explore(self) -> Trial | None:
        """The next larger size, while that may be better; a size that speaks against it is asked twice."""
        column = self._column()
        tried = {point.size for point in column}
        fresh = [size for size in self.sizes if size not in tried]
        if not fresh or any(point.refused for point in column):
            return None
        measured = [point for point in column if point.rate is not None]
        if measured and self._is_enough(measured):
            last = measured[-1]
            return self._affords(self._trial(last.size, last.concurrency), 1) if last.due else None
        return self._affords(self._trial(fresh[0], self.concurrency), TRIALS)

    def _is_enough(self, measured: list[Point]) -> bool:
        """Whether the largest size so far is beyond the limits, or in each of its trials much slower than the best."""
        last = measured[-1]
        if not last.fits(self.limits):
            return True
        return max(last.rates) < _FALLING * max(map(_rate, measured))

    def _repeat(self) -> Trial | None:
        """What has been tried too seldom, the largest first."""
        due = [point for point in self.points if point.due]
        return self._affords(self._trial(due[-1].size, due[-1].concurrency), 1) if due else None

    def _refine(self) -> Trial | None:
        """A size between a peak and its neighbours, of which one may be the smallest that was refused."""
        found = knee(self._column(), self.limits)
        refined = {point.size for point in self._column()} - set(self.sizes)
        if found is None or not found.within or self._exact or len(refined) >= _REFINED:
            return None
        measured = [point for point in self._column() if point.rate is not None]
        place = measured.index(found.best)
        beside = [near for near in (place - 1, place + 1) if 0 <= near < len(measured)]
        neighbours = [measured[near] for near in beside]
        if found.best is measured[-1]:
            neighbours += [point for point in self._column() if point.refused][:1]
        for other in sorted(neighbours, key=lambda point: (point.refused, _rate(point)), reverse=True):
            best = found.best
            middle = _rounded(math.sqrt(other.size * best.size))
            apart = max(other.size, best.size) / min(other.size, best.size)
            hidden = apart > _WIDE or other.refused or _rate(other) < ENOUGH * _rate(best)
            if hidden and apart > _COARSE and (middle, self.concurrency) not in self._points:
                reserve = self._reserve if refined else 0
                return self._affords(self._trial(middle, self.concurrency), TRIALS, reserve)
        return None

    def _spread(self) -> Trial | None:
        """Another concurrency for the size that was found, upwards as long as that gains something."""
        found = knee(self._column(), self.limits)
        if found is None:
            return None
        size = found.point.size
        for concurrency in self._others:
            same = [point for point in self.points if point.size == size]
            if self._at_once(size, concurrency) in {point.at_once for point in same}:
                continue
            below = [point for point in same if point.concurrency < concurrency and point.rate is not None]
            if len(below) > 1 and _rate(below[-1]) < _GAIN * max(map(_rate, below[:-1])):
                continue
            if trial := self._affords(self._trial(size, concurrency), TRIALS):
                return trial
        return None

    def _confirm(self) -> Trial | None:
        """One more trial of a point that came near the best once, those tried least often first, to and fro."""
        found = self.choice()
        if found is None:
            return None
        near = [
            point
            for point in self.points
            if point.rate is not None
            and not point.refused
            and point.trials < _MOST_TRIALS
            and max(point.rates) >= _NEAR * _rate(found.best)
        ]
        if not near:
            return None
        fewest = min(point.trials for point in near)
        chosen = [point for point in near if point.trials == fewest][0 if fewest % 2 == 0 else -1]
        return self._affords(self._trial(chosen.size, chosen.concurrency), 1)

    def _trial(self, size: int, concurrency: int, *, warm: bool = False) -> Trial:
        return Trial(size, concurrency, min(concurrency * size, self._most_rows), warm)

    def _at_once(self, size: int, concurrency: int | None = None) -> int:
        """Calls of one trial: as many as a worker makes at once with the rows of a claim."""
        return min(concurrency or self.concurrency, -(-self._most_rows // size))

    def _affords(self, trial: Trial, times: int, reserve: float = 0) -> Trial | None:
        """The trial, if the cap suffices for it so many times, and for all that others have to be given still."""
        others = [point for point in self._points.values() if point.due]
        owed = sum(
            point.at_once * (TRIALS - point.trials)
            for point in others
            if (point.size, point.concurrency) != (trial.size, trial.concurrency)
        )
        return trial if trial.calls * times + owed + reserve <= self.left else None

    def _usual(self, smallest: int, count: int) -> tuple[int, ...]:
        """Geometric sizes up to the one with which a claim's rows are just enough for all calls at once.

        That is often the best one: beyond it fewer calls are made at once, so the largest size is tried besides.
        """
        shared = -(-self._most_rows // self.concurrency)
        if shared == self._most_rows or count < 3 or shared <= smallest:
            return geometric(smallest, self._most_rows, count)
        return tuple(sorted({*geometric(smallest, shared, count - 2), shared, self._most_rows}))

    def _affordable(self, wanted: Sequence[int] | None, smallest: int, calls: float) -> tuple[int, ...]:
        """The most sizes, evenly apart, that can be tried twice."""
        most = _MOST_SIZES if wanted is None else len(wanted)
        for count in range(most, 0, -1):
            found = self._usual(smallest, count) if wanted is None else _thinned(wanted, count)
            if TRIALS * sum(map(self._at_once, found)) <= calls:
                return found
        return ()


def _rate(point: Point) -> float:
    return point.rate or 0.0


def _rounded(size: float) -> int:
    """To two digits: 1,234 as 1,200."""
    digits = max(0, math.floor(math.log10(max(size, 1.0))) - 1)
    unit = int(10**digits)
    return max(1, round(size / unit) * unit)


def _thinned(sizes: Sequence[int], count: int) -> tuple[int, ...]:
    """So many of the sizes, evenly apart, the ends among them."""
    if count == 1:
        return (sizes[len(sizes) // 2],)
    return tuple(sizes[round(place * (len(sizes) - 1) / (count - 1))] for place in range(count))


def _outwards(concurrencies: Sequence[int], middle: int) -> list[int]:
    """Those above the middle upwards, then those below it downwards."""
    above = sorted({each for each in concurrencies if each > middle})
    return [*above, *sorted({each for each in concurrencies if each < middle}, reverse=True)]
