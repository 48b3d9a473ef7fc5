"""JSON templates of requests, whose texts hold `{input}` as Python's format strings do, and the ways to answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

_quoted = json.encoder.encode_basestring


def _checked_request(text: str) -> str:
    """A JSON document whose texts may hold `{input}`, as Python's format strings do; `{{` stands for a brace."""
    try:
        document = json.loads(text)
        placeholders(document)
    except ValueError as error:
        raise ValueError(
            f'expected JSON with {{input}} in its texts, such as \'{{"inputText": "{{text}}"}}\': {error}'
        ) from error
    return text


def _checked_text(text: str) -> str:
    if not placeholders(text):
        raise ValueError(f'expected a text with {{input}} in it, such as "Summarise: {{note}}", not {text!r}')
    return text


def placeholders(document: Any) -> set[str]:
    """The inputs that the texts of a JSON document name.

    Raises:
        ValueError: a brace stands alone, or holds more than a name.
    """
    if isinstance(document, dict):
        return set().union(*map(placeholders, document.values()))
    if isinstance(document, list):
        return set().union(*map(placeholders, document))
    if not isinstance(document, str):
        return set()
    found = [part[1:] for part in Formatter().parse(document) if part[1] is not None]
    if any(not name or form or conversion for name, form, conversion in found):
        raise ValueError(f"{document!r} has braces with more or less in them than an input's name")
    return {str(name) for name, _, _ in found}


Request = Annotated[str, AfterValidator(_checked_request)]
TextTemplate = Annotated[str, AfterValidator(_checked_text)]


@dataclass(frozen=True, slots=True)
class _Slot:
    """The place of an input's value: as it is, or within a text."""

    name: str
    within: bool


@dataclass(frozen=True, slots=True)
class _Repeated:
    """What is written once for each row, with commas between."""

    pieces: tuple[_Piece, ...]


_Piece = str | _Slot | _Repeated


class Template:
    """A document that is filled with rows.

    A text that is nothing but `{input}` becomes the input's value, a number or null among them; within a longer text
    it is the value's text, and nothing for NULL.

    Args:
        document: as JSON has it.
        repeated: each outermost list of one element that names inputs gets an element for each row; otherwise the
            document holds one row.

    Attributes:
        names: the inputs that it names.

    Raises:
        ValueError: no list can be repeated, or an input is named outside of it.
    """

    def __init__(self, document: Any, *, repeated: bool = False) -> None:
        self.names = placeholders(document)
        self._pieces = _joined(_pieces(document, repeat=repeated))
        if not repeated:
            return
        if not any(isinstance(piece, _Repeated) for piece in self._pieces):
            raise ValueError("it has no list of one element with {input} in it, to be repeated for each row")
        outside = [piece.name for piece in self._pieces if isinstance(piece, _Slot)]
        if outside:
            raise ValueError(f"{{{outside[0]}}} stands outside of the list that is repeated for each row")

    def filled(self, columns: Mapping[str, Sequence[str]], rows: int) -> str:
        """The document as JSON text.

        Args:
            columns: for each input that is named the JSON text of each row's value.
            rows: how many there are; one, unless a list is repeated.
        """
        return "".join(
            self._repeat(piece.pieces, columns, rows)
            if isinstance(piece, _Repeated)
            else _written(piece, columns, 0)
            for piece in self._pieces
        )

    def each(self, columns: Mapping[str, Sequence[str]], rows: int) -> list[str]:
        """The document for each row as JSON text; nothing in it is repeated."""
        return ["".join(_written(piece, columns, row) for piece in self._pieces) for row in range(rows)]

    def _repeat(self, pieces: Sequence[_Piece], columns: Mapping[str, Sequence[str]], rows: int) -> str:
        return ",".join("".join(_written(piece, columns, row) for piece in pieces) for row in range(rows))


def _written(piece: _Piece, columns: Mapping[str, Sequence[str]], row: int) -> str:
    if isinstance(piece, str):
        return piece
    assert isinstance(piece, _Slot)  # noqa: S101 - what is repeated holds no further lists that are
    text = columns[piece.name][row]
    return _within(text) if piece.within else text


def quoted(text: str) -> str:
    """A value's JSON text as a JSON text of its own: numbers in quotes, and nothing for NULL."""
    return f'"{_within(text)}"'


def _within(text: str) -> str:
    """A value's JSON text as a part of a JSON text."""
    if text.startswith('"'):
        return text[1:-1]
    return "" if text == "null" else str(_quoted(text)[1:-1])


def _pieces(document: Any, *, repeat: bool) -> list[_Piece]:
    if isinstance(document, dict):
        pairs: list[list[_Piece]] = [
            [f"{_quoted(name)}:", *_pieces(value, repeat=repeat)] for name, value in document.items()
        ]
        return _listed("{", pairs, "}")
    if isinstance(document, list):
        if repeat and len(document) == 1 and placeholders(document):
            return ["[", _Repeated(_joined(_pieces(document[0], repeat=False))), "]"]
        return _listed("[", [_pieces(item, repeat=repeat) for item in document], "]")
    return _text_pieces(document) if isinstance(document, str) else [json.dumps(document)]


def _listed(begin: str, items: Sequence[list[_Piece]], end: str) -> list[_Piece]:
    pieces: list[_Piece] = [begin]
    for number, item in enumerate(items):
        pieces += [",", *item] if number else item
    return [*pieces, end]


def _text_pieces(text: str) -> list[_Piece]:
    parts = list(Formatter().parse(text))
    if len(parts) == 1 and not parts[0][0] and parts[0][1] is not None:
        return [_Slot(parts[0][1], within=False)]
    pieces: list[_Piece] = ['"']
    for literal, name, _, _ in parts:
        pieces.append(str(_quoted(literal)[1:-1]))
        if name is not None:
            pieces.append(_Slot(name, within=True))
    return [*pieces, '"']


def _joined(pieces: Sequence[_Piece]) -> tuple[_Piece, ...]:
    """The same with neighbouring texts as one."""
    joined: list[_Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and joined and isinstance(joined[-1], str):
            joined[-1] += piece
        else:
            joined.append(piece)
    return tuple(joined)


# --- the way to an answer -----------------------------------------------------------------------------------

EACH = "*"
"""The step to every element of a list: there is one for each row."""


def _checked_path(path: Any) -> Any:
    steps = path.split(".") if isinstance(path, str) else [""]
    if not all(re.fullmatch(r"\*|[^*\s]+", step) for step in steps) or steps.count(EACH) > 1:
        raise ValueError(
            f'expected the way to it, such as "predictions.*.label" (* for the list of rows), not {path!r}'
        )
    return path


def _checked_paths(value: Any) -> Any:
    for path in value.values() if isinstance(value, dict) else [value]:
        _checked_path(path)
    return value


Path = Annotated[str, BeforeValidator(_checked_path)]
Paths = Annotated[str | dict[str, str], BeforeValidator(_checked_paths)]


def is_of_rows(path: str) -> bool:
    """Whether the path leads to a value for each row."""
    return EACH in path.split(".")


def follow(value: Any, steps: Sequence[str]) -> Any:
    """What is found along the steps: names of objects and numbers of lists.

    Raises:
        LookupError: there is nothing.
    """
    for step in steps:
        if isinstance(value, dict):
            value = value[step]
        elif isinstance(value, list) and step.isdigit():
            value = value[int(step)]
        else:
            raise LookupError(step)
    return value
