"""The sweep as a picture: rows a second and seconds a call against the size, the knee marked; SVG by hand, no I/O.

Two panels share the axis of sizes, which is logarithmic: two scales in one panel would cross wherever they are put. The
picture follows its viewer's light or dark scheme.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from worker.knee import ENOUGH, Choice, Point

_WIDTH, _HEIGHT = 760, 572
_LEFT, _RIGHT = 84, 24
_TOP, _GAP, _BOTTOM = 90, 52, 64
_PANEL = (_HEIGHT - _TOP - _GAP - _BOTTOM) / 2
_LETTER = 6.6  # pixels, about, of 12
_STYLE = """
text { font-family: system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; font-size: 12px; fill: #57606a;
  paint-order: stroke; stroke: #ffffff; stroke-width: 4px; stroke-linejoin: round; }
.title { font-size: 15px; font-weight: 600; fill: #1f2328; }
.label { font-weight: 600; }
.paper { fill: #ffffff; }
.grid { stroke: #d8dee4; stroke-width: 1; }
.axis { stroke: #8c959f; stroke-width: 1; }
.rate { stroke: #0969da; fill: none; stroke-width: 2.5; stroke-linejoin: round; }
.rate-dot { fill: #0969da; }
.rate-label { fill: #0969da; }
.time { stroke: #bc4c00; fill: none; stroke-width: 2.5; stroke-linejoin: round; }
.time-dot { fill: #bc4c00; }
.time-label { fill: #bc4c00; }
.trial { opacity: 0.3; }
.bound { stroke: #8c959f; stroke-width: 1; stroke-dasharray: 5 4; }
.knee { stroke: #1a7f37; stroke-width: 1.5; }
.knee-dot { fill: #ffffff; stroke: #1a7f37; stroke-width: 3; }
.knee-label { fill: #1a7f37; font-weight: 600; }
.refused { fill: #cf222e; opacity: 0.1; }
.refused-label { fill: #cf222e; }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1; stroke: #0d1117; }
  .title { fill: #f0f6fc; }
  .paper { fill: #0d1117; }
  .grid { stroke: #2a313c; }
  .axis, .bound { stroke: #656c76; }
  .rate { stroke: #58a6ff; } .rate-dot, .rate-label { fill: #58a6ff; }
  .time { stroke: #f0883e; } .time-dot, .time-label { fill: #f0883e; }
  .knee { stroke: #3fb950; } .knee-dot { fill: #0d1117; stroke: #3fb950; } .knee-label { fill: #3fb950; }
  .refused { fill: #f85149; opacity: 0.16; } .refused-label { fill: #f85149; }
}
"""


@dataclass(frozen=True, slots=True)
class Picture:
    """What is to be drawn.

    Attributes:
        title: above the panels.
        subtitle: below the title.
        axis: what the sizes are, such as `rows a call`.
        each: what takes the seconds, such as `call`.
        points: of one concurrency, by size.
        choice: the knee, and the best.
        bound: seconds that a size may take, and what says so; drawn where it lies in the panel.
    """

    title: str
    subtitle: str
    axis: str
    each: str
    points: Sequence[Point]
    choice: Choice | None = None
    bound: tuple[float, str] | None = None


def draw(picture: Picture) -> str:
    """The picture as an SVG document.

    Raises:
        ValueError: no point was measured, so there is nothing to draw.
    """
    measured = [point for point in picture.points if point.rate is not None]
    if not measured:
        raise ValueError("nothing was measured")
    return _Drawing(picture, measured).text()


def ticks(most: float, count: int = 5) -> list[float]:
    """Round values from 0 to the first one at or above `most`, about `count` of them."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= rough * 0.999)
    return [place * step for place in range(math.ceil(most / step - 1e-9) + 1)]


class _Drawing:
    def __init__(self, picture: Picture, measured: list[Point]) -> None:
        self._picture = picture
        self._measured = measured
        self._svg = ElementTree.Element(
            "svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
            width=str(_WIDTH), height=str(_HEIGHT), role="img",
        )  # fmt: skip
        sizes = [point.size for point in picture.points]
        low, high = math.log10(min(sizes)), math.log10(max(sizes))
        room = max(0.04 * (high - low), 0.05)
        self._low, self._high = low - room, high + room

    def text(self) -> str:
        picture = self._picture
        self._tag("title").text = f"{picture.title}: {picture.subtitle}"
        self._tag("style").text = _STYLE
        self._tag("rect", "paper", width="100%", height="100%")
        self._words(_LEFT, 30, picture.title, "title")
        self._words(_LEFT, 50, picture.subtitle)
        self._refused()
        rates = ticks(max(rate for point in self._measured for rate in point.rates))
        seconds = ticks(max(each for point in self._measured for each in point.latencies))
        unit, factor = ("s", 1.0) if seconds[-1] >= 2 else ("ms", 1000.0)
        second = _TOP + _PANEL + _GAP
        above = self._panel(_TOP, rates, 1.0, "rate", "rows/s")
        below = self._panel(second, seconds, factor, "time", f"{unit} a {picture.each}")
        self._sizes(second + _PANEL)
        self._bounds(rates, seconds, above, below)
        self._series("rate", above, [(p.size, p.rates, p.rate or 0.0) for p in self._measured])
        self._series("time", below, [(p.size, p.latencies, p.latency or 0.0) for p in self._measured])
        self._knee(above, below)
        ElementTree.indent(self._svg)
        return ElementTree.tostring(self._svg, encoding="unicode") + "\n"

    def _panel(
        self, top: float, values: Sequence[float], factor: float, name: str, unit: str
    ) -> Callable[[float], float]:
        """A panel's frame, grid and labels; returns where in it a value is."""

        def place(value: float) -> float:
            return top + _PANEL * (1 - value / values[-1])

        for value in values:
            kind = "axis" if value == 0 else "grid"
            self._line(kind, _LEFT, place(value), _WIDTH - _RIGHT, place(value))
            self._words(_LEFT - 10, place(value) + 4, _figure(value * factor), anchor="end")
        self._words(_LEFT, top - 10, unit, f"label {name}-label")
        return place

    def _sizes(self, bottom: float) -> None:
        """The axis of sizes: 1, 2 and 5 of each power of ten, as many as there is room for."""
        decades = range(math.floor(self._low), math.ceil(self._high) + 1)
        for decade in decades:
            for first in (1, 2, 5):
                size = first * 10**decade
                if size < 1 or not self._low <= math.log10(size) <= self._high:
                    continue
                for top in (_TOP, bottom - _PANEL):
                    self._line("grid", self._across(size), top, self._across(size), top + _PANEL)
                if first == 1 or self._high - self._low < 4:
                    self._words(self._across(size), bottom + 20, _figure(size), anchor="middle")
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        self._words(middle, bottom + 46, f"{self._picture.axis} (logarithmic)", "label", anchor="middle")

    def _bounds(
        self,
        rates: Sequence[float],
        seconds: Sequence[float],
        above: Callable[[float], float],
        below: Callable[[float], float],
    ) -> None:
        """Dashed: what is enough, and what a size may take."""
        choice, bound = self._picture.choice, self._picture.bound
        if choice is not None and choice.best.rate is not None:
            enough = ENOUGH * choice.best.rate
            if enough <= rates[-1]:
                self._line("bound", _LEFT, above(enough), _WIDTH - _RIGHT, above(enough))
                self._words(_LEFT + 6, above(enough) - 5, f"{ENOUGH * 100:.0f} % of the best")
        if bound is not None and bound[0] <= seconds[-1]:
            self._line("bound", _LEFT, below(bound[0]), _WIDTH - _RIGHT, below(bound[0]))
            self._words(_LEFT + 6, below(bound[0]) - 5, bound[1])

    def _series(
        self,
        name: str,
        place: Callable[[float], float],
        values: Sequence[tuple[int, Sequence[float], float]],
    ) -> None:
        """Each trial as a pale dot, the medians as a line with dots."""
        for size, trials, _ in values:
            for value in trials:
                self._dot(f"{name}-dot trial", self._across(size), place(value), 3)
        line = " ".join(f"{self._across(size):.1f},{place(middle):.1f}" for size, _, middle in values)
        self._tag("polyline", name, points=line)
        for size, _, middle in values:
            self._dot(f"{name}-dot", self._across(size), place(middle), 3.5)

    def _knee(self, above: Callable[[float], float], below: Callable[[float], float]) -> None:
        choice = self._picture.choice
        if choice is None:
            return
        point, across = choice.point, self._across(choice.point.size)
        speed, seconds = point.rate or 0.0, point.latency or 0.0
        self._line("knee", across, _TOP, across, _HEIGHT - _BOTTOM)
        word = "knee" if choice.within else "smallest"
        text = f"{word}: {_figure(point.size)} {self._picture.axis}, {_figure(_short(speed))} rows/s"
        self._beside(across, _HEIGHT - _BOTTOM - _PANEL - _GAP / 2 + 4, text, "knee-label")
        self._dot("knee-dot", across, above(speed), 6)
        self._dot("knee-dot", across, below(seconds), 6)

    def _refused(self) -> None:
        """From the smallest refused size on."""
        refused = min((point for point in self._picture.points if point.refused), default=None, key=_size)
        if refused is None or refused.trouble is None:
            return
        smaller = [point.size for point in self._measured if point.size < refused.size]
        start = self._across(math.sqrt(refused.size * max(smaller))) if smaller else float(_LEFT)
        for top in (_TOP, _TOP + _PANEL + _GAP):
            self._tag(
                "rect", "refused", x=f"{start:.1f}", y=f"{top:.1f}",
                width=f"{_WIDTH - _RIGHT - start:.1f}", height=f"{_PANEL:.1f}",
            )  # fmt: skip
        verdict = refused.trouble.verdict.value
        self._words(_WIDTH - _RIGHT - 6, _TOP + _PANEL - 10, verdict, "refused-label", anchor="end")

    def _across(self, size: float) -> float:
        share = (math.log10(size) - self._low) / (self._high - self._low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def _beside(self, x: float, y: float, text: str, kind: str) -> None:
        """Words to the right of a line, or to its left where there is no room."""
        fits = x + 8 + _LETTER * len(text) < _WIDTH - _RIGHT
        self._words(x + 8 if fits else x - 8, y, text, kind, anchor="start" if fits else "end")

    def _words(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
        ElementTree.SubElement(self._svg, "text", {**place, **({"class": kind} if kind else {})}).text = text

    def _line(self, kind: str, x1: float, y1: float, x2: float, y2: float) -> None:
        self._tag("line", kind, x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}")

    def _dot(self, kind: str, x: float, y: float, radius: float) -> None:
        self._tag("circle", kind, cx=f"{x:.1f}", cy=f"{y:.1f}", r=str(radius))

    def _tag(self, tag: str, kind: str = "", **attributes: str) -> ElementTree.Element:
        return ElementTree.SubElement(self._svg, tag, {**({"class": kind} if kind else {}), **attributes})


def _size(point: Point) -> int:
    return point.size


def _short(number: float) -> float:
    """Three digits that say something."""
    return float(f"{number:.3g}")


def _figure(number: float) -> str:
    """`1234.0` as `1,234`, `0.25` as it is."""
    return f"{number:,.0f}" if number == round(number) or number >= 1000 else f"{number:,.4g}"
