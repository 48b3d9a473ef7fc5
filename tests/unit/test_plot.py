"""The picture of a sweep: well-formed, complete, inside its frame, and the knee where it belongs."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.knee import Limits, Point, Result, Trial, Verdict, knee
from worker.plot import Picture, draw, ticks

SVG = "{http://www.w3.org/2000/svg}"


def point(size: int, *seconds: float) -> Point:
    """A point with these trials."""
    trial = Trial(size, 1, size)
    return Point(size, 1, 1, [Result(trial, 1, each, (each,)) for each in seconds])


def refused(size: int) -> Point:
    """A point that the service does not take."""
    return Point(size, 1, 1, [Result(Trial(size, 1, size), 1, verdict=Verdict.TOO_LARGE, reason="413")])


def picture(*points: Point, bound: tuple[float, str] | None = None) -> Picture:
    """What `tune` would draw."""
    return Picture("churn <&>", "3 calls", "rows a call", "call", points, knee(points, Limits()), bound)


def drawn(drawing: Picture) -> ElementTree.Element:
    """The document, parsed."""
    return ElementTree.fromstring(draw(drawing))


def texts(root: ElementTree.Element) -> list[str]:
    """All words in it."""
    return [each.text or "" for each in root.iter(f"{SVG}text")]


def test_axes_have_units_and_the_knee_is_marked() -> None:
    root = drawn(
        picture(point(1, 0.065), point(100, 0.066, 0.07), point(1000, 0.07), bound=(0.05, "timeout"))
    )
    words = texts(root)
    for expected in (
        "churn <&>", "rows/s", "ms a call", "rows a call (logarithmic)", "97 % of the best", "timeout",
        "knee: 1,000 rows a call, 14,300 rows/s", "1", "10", "100", "1,000",
    ):  # fmt: skip
        assert expected in words
    kinds = [each.get("class") for each in root.iter()]
    assert kinds.count("rate") == kinds.count("time") == 1
    assert kinds.count("knee-dot") == 2
    assert kinds.count("rate-dot") == 3
    assert kinds.count("rate-dot trial") == 4
    across = {each.get("cx") for each in root.iter(f"{SVG}circle") if each.get("class") == "knee-dot"}
    line = next(each for each in root.iter(f"{SVG}line") if each.get("class") == "knee")
    assert across == {line.get("x1")} == {line.get("x2")}


def test_what_was_refused_is_shaded() -> None:
    root = drawn(picture(point(10, 0.01), point(100, 0.02), refused(1000)))
    assert [each.get("class") for each in root.iter(f"{SVG}rect")].count("refused") == 2
    assert "too large" in texts(root)


def test_light_and_dark() -> None:
    style = next(drawn(picture(point(1, 0.1))).iter(f"{SVG}style")).text or ""
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    coloured = set(re.findall(r"\.([\w-]+) \{[^}]*(?:fill|stroke): #", light))
    assert coloured <= set(re.findall(r"\.([\w-]+)", dark)), "each colour has its other"


def test_there_has_to_be_something_to_draw() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        draw(picture(refused(10)))


@settings(deadline=None)
@given(
    st.dictionaries(
        st.integers(1, 100_000),
        st.lists(st.floats(1e-5, 1e4), min_size=1, max_size=4),
        min_size=1,
        max_size=12,
    ),
    st.none() | st.integers(1, 200_000),
)
def test_everything_lies_inside_the_frame(figures: dict[int, list[float]], limit: int | None) -> None:
    points = [point(size, *seconds) for size, seconds in figures.items() if size != limit]
    if not points:
        return
    points += [refused(limit)] if limit is not None else []
    root = drawn(picture(*sorted(points, key=lambda each: each.size)))
    _, _, width, height = map(float, (root.get("viewBox") or "").split())
    for each in root.iter():
        for name in ("x", "x1", "x2", "cx"):
            assert 0 <= float(each.get(name, "0")) <= width
        for name in ("y", "y1", "y2", "cy"):
            assert 0 <= float(each.get(name, "0")) <= height


@given(st.floats(1e-9, 1e12))
def test_ticks_are_round_and_reach_as_far_as_they_must(most: float) -> None:
    found = ticks(most)
    assert found[0] == 0
    assert found[-1] >= most * 0.999
    assert 2 <= len(found) <= 8
