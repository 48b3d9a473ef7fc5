"""Templates of requests: typed values in their places, one element a row, and nothing that can break out of a text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.models.jsonformat import columns
from worker.models.protocol import Batch
from worker.templates import Template, follow, quoted

ROWS = [(1, "x"), (None, 'say "hi"')]


def filled(document: Any, rows: list[tuple[Any, ...]] = ROWS, *, repeated: bool = True) -> Any:
    batch = Batch(("n", "t"), rows)
    texts = dict(zip(batch.names, columns(batch), strict=True))
    return json.loads(Template(document, repeated=repeated).filled(texts, len(rows)))


@pytest.mark.parametrize(
    ("document", "sent"),
    [
        (["{n}"], [1, None]),
        (
            {"data": [{"n": "{n}", "fixed": 1.5}]},
            {"data": [{"n": 1, "fixed": 1.5}, {"n": None, "fixed": 1.5}]},
        ),
        ({"data": [["{n}", "{t}"]]}, {"data": [[1, "x"], [None, 'say "hi"']]}),
        ({"a": ["{n}"], "b": ["{t}"], "c": ["d"]}, {"a": [1, None], "b": ["x", 'say "hi"'], "c": ["d"]}),
        (["n = {n}, t = {t}; {{n}}"], ["n = 1, t = x; {n}", 'n = , t = say "hi"; {n}']),
        ([{"{n}": "{n}"}], [{"{n}": 1}, {"{n}": None}]),
        ({"data": [[["{n}"]]]}, {"data": [[[1]], [[None]]]}),
    ],
)
def test_a_list_of_one_is_repeated(document: Any, sent: Any) -> None:
    assert filled(document) == sent


def test_without_a_list_there_is_one_row() -> None:
    document = {"messages": [{"role": "user", "content": "Is {t} nice?"}], "n": "{n}"}
    sent = {"messages": [{"role": "user", "content": "Is x nice?"}], "n": 1}
    assert filled(document, ROWS[:1], repeated=False) == sent


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"data": ["{n}", "{t}"]}, "no list of one element"),
        ({"data": ["{n}"], "t": "{t}"}, "{t} stands outside"),
        (["x"], "no list of one element"),
        (["{n"], "expected '}'"),
        (["{n!r}"], "more or less in them"),
        (["{}"], "more or less in them"),
    ],
)
def test_what_cannot_be_repeated_is_refused(document: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Template(document, repeated=True)


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_no_value_breaks_out_of_its_text(first: str, second: str) -> None:
    sent = filled([{"whole": "{n}", "within": "<{n}|{t}>"}], [(first, second)])
    assert sent == [{"whole": first, "within": f"<{first}|{second}>"}]


def test_a_value_as_a_text_of_its_own() -> None:
    ((number, text, null, objects),) = columns(Batch(("a",), [(1.5,), ("x",), (None,), ({"a": "b"},)]))
    assert [json.loads(quoted(each)) for each in (number, text, null, objects)] == [
        "1.5",
        "x",
        "",
        '{"a":"b"}',
    ]


def test_the_way_to_an_answer() -> None:
    reply = {"choices": [{"message": {"content": "yes", "0": "zero"}}]}
    assert follow(reply, ["choices", "0", "message", "content"]) == "yes"
    assert follow(reply, ["choices", "0", "message", "0"]) == "zero"
    for steps in (
        ["choice"],
        ["choices", "1"],
        ["choices", "-1"],
        ["choices", "0", "message", "content", "0"],
    ):
        with pytest.raises(LookupError):
            follow(reply, steps)
