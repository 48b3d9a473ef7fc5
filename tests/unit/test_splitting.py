"""Long texts in parts: nothing is lost, nothing is too long, and no character is torn; findings move to the whole."""

from __future__ import annotations

import itertools
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.models.splitting import SHORTEST, average, moved, split

TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8")),
    st.text(st.sampled_from("ab .!?\n\r 。é́👍🏽‍👩🇩🇪")),
    st.lists(st.sampled_from(["Good. ", "bad! ", "wort ", "längeres Wort ", "\n\n", "。", "👩‍👩‍👧"])).map(
        "".join
    ),
)


@given(TEXTS, st.integers(SHORTEST, 60))
@example("👩‍👩‍👧" * 3, 19)
@example("\r\n" * 9, 5)
def test_parts_join_to_the_text_and_none_is_empty_or_too_long(text: str, most_bytes: int) -> None:
    parts = split(text, most_bytes)
    assert "".join(parts) == text
    assert all(0 < len(part.encode()) <= most_bytes for part in parts)


@given(TEXTS, st.integers(SHORTEST, 60))
def test_a_text_that_fits_stays_whole(text: str, more: int) -> None:
    assert split(text, max(SHORTEST, len(text.encode()) + more)) == ([text] if text else [])


@pytest.mark.parametrize(
    ("text", "most", "parts"),
    [
        ("One is here. Two is there. Three", 18, ["One is here. ", "Two is there. ", "Three"]),
        ('He said "so." Then he left.', 16, ['He said "so." ', "Then he left."]),
        ("Zeile eins\nZeile zwei ist lang", 20, ["Zeile eins\n", "Zeile zwei ist lang"]),
        ("これは文です。次の文です。", 24, ["これは文です。", "次の文です。"]),
        ("no sentence ends in here", 10, ["no ", "sentence ", "ends in ", "here"]),
        ("3.14159 and 2.71828", 12, ["3.14159 and ", "2.71828"]),
        ("abcdefghij", 4, ["abcd", "efgh", "ij"]),
        ("éé" * 3, 5, ["éé", "éé", "éé"]),
        ("e\u0301" * 4, 7, ["e\u0301e\u0301", "e\u0301e\u0301"]),
        ("👩‍👧👩‍👧", 20, ["👩‍👧", "👩‍👧"]),
        ("🇩🇪🇫🇷🇮🇹", 20, ["🇩🇪🇫🇷", "🇮🇹"]),
        ("👍🏽👍🏽", 12, ["👍🏽", "👍🏽"]),
    ],
)
def test_where_a_text_is_cut(text: str, most: int, parts: list[str]) -> None:
    assert split(text, most) == parts


@given(
    st.lists(st.sampled_from(["e\u0301", "👩‍👧", "👍🏽", "🇩🇪", "❤️", "x", "ü"]), min_size=1),
    st.integers(12, 40),
)
def test_what_people_see_as_one_character_is_never_torn(characters: list[str], most_bytes: int) -> None:
    ends = set(itertools.accumulate(map(len, characters)))
    cuts = set(itertools.accumulate(map(len, split("".join(characters), most_bytes))))
    assert cuts <= ends


def test_a_character_without_an_end_is_cut_all_the_same() -> None:
    endless = "a" + "\u0301" * 100
    parts = split(endless, 40)
    assert "".join(parts) == endless
    assert all(unicodedata.category(part[0]).startswith("M") for part in parts[1:])


def test_scores_are_averaged_by_the_lengths_of_the_parts() -> None:
    parts = [{"Positive": 1.0, "Negative": 0.0}, {"Positive": 0.25, "Negative": 0.75}]
    assert average(parts, [100, 300]) == {"Positive": 0.4375, "Negative": 0.5625}
    assert average([{"de": 1.0}, {"en": 0.5, "de": 0.5}], [10, 30]) == {"de": 0.625, "en": 0.375}


@given(TEXTS.filter(lambda text: "a" in text), st.integers(SHORTEST, 30))
def test_offsets_lead_to_the_same_characters_of_the_whole(text: str, most_bytes: int) -> None:
    parts = split(text, most_bytes)
    found = [
        [{"BeginOffset": place, "EndOffset": place + 1} for place, letter in enumerate(part) if letter == "a"]
        for part in parts
    ]
    whole = moved(found, list(map(len, parts)))
    assert [item["BeginOffset"] for item in whole] == [
        place for place, letter in enumerate(text) if letter == "a"
    ]
    assert all(text[item["BeginOffset"] : item["EndOffset"]] == "a" for item in whole)


def test_findings_without_offsets_stay_as_they_are() -> None:
    assert moved([[{"Type": "NAME"}], [{"Type": "EMAIL"}]], [3, 4]) == [{"Type": "NAME"}, {"Type": "EMAIL"}]
