"""Answers kept in Redis for equal inputs, so that nobody pays for them twice; it asks no model.

An answer is found by the definition, the model's version and the exact inputs, so a changed model or a value of
another type asks anew. What is kept was converted already, and is read back with the same types to the last bit. It is
JSON, for unpickling what others can write would run it. Redis being away costs money and nothing else: the model is
asked.
"""

from __future__ import annotations

import json
import marshal
import pickle
import time
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from datetime import time as clock_time
from decimal import Decimal
from hashlib import blake2b
from typing import Any
from uuid import UUID

from worker.errors import StoreError
from worker.log import logger
from worker.models.protocol import Answer
from worker.store import Store

_log = logger(__name__)
_WARN_EVERY = 60.0  # seconds
_LEFT_ALONE = 5.0  # seconds after a failure: each try may take as long as a timeout
_PLAIN = (str, bool, type(None))


class Memory:
    """What one prediction's model answered lately; several threads may use it at once.

    Two workers that meet the same new inputs at the same moment may both ask the model.

    Args:
        definition: the definition's hash.
        version: the model's.
        outputs: how many values an answer has.
        seconds: for how long an answer is kept.
    """

    def __init__(self, store: Store, definition: str, version: str, *, outputs: int, seconds: float) -> None:
        self._store = store
        self._seconds = seconds
        self._outputs = outputs
        model = blake2b(f"{definition}/{version}".encode(), digest_size=8).hexdigest()
        self._prefix = f"rowscore:answer:{model}:"
        self._left_alone_until = self._quiet_until = 0.0

    def keys(self, rows: Sequence[tuple[Any, ...]]) -> list[str | None]:
        """Under what each row's answer is kept; None: it has a value that nobody can name."""
        return [_key(self._prefix, row) for row in rows]

    def recall(self, keys: Sequence[str | None]) -> list[Answer | None]:
        """The answers that are kept, in the order of the keys."""
        named = [key for key in keys if key is not None]
        if not named or self._away:
            return [None] * len(keys)
        try:
            found = iter(self._store.get_many(named))
        except StoreError as error:
            self._complain(error)
            return [None] * len(keys)
        return [None if key is None else self._read(next(found)) for key in keys]

    def keep(self, answers: Mapping[str, Answer]) -> None:
        """Keep answers by their rows' keys; one that cannot be written exactly is left out."""
        texts = {key: text for key, answer in answers.items() if (text := written(answer)) is not None}
        if not texts or self._away:
            return
        try:
            self._store.put_many(texts, self._seconds)
        except StoreError as error:
            self._complain(error)

    def _read(self, text: bytes | None) -> Answer | None:
        """The answer; None where there is none, or none that this prediction could have kept."""
        if text is None:
            return None
        try:
            answer = read(text)
        except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
            return None
        return answer if len(answer) == self._outputs else None

    @property
    def _away(self) -> bool:
        return time.monotonic() < self._left_alone_until

    def _complain(self, error: StoreError) -> None:
        now = time.monotonic()
        self._left_alone_until = now + _LEFT_ALONE
        if now >= self._quiet_until:
            self._quiet_until = now + _WARN_EVERY
            _log.warning("answers are neither remembered nor found, so the model is asked", error=str(error))


def _key(prefix: str, row: tuple[Any, ...]) -> str | None:
    """The same for rows that are alike to the last bit and type, in every process.

    marshal writes plain values exactly (version 2 has no references, which would tell equal rows apart); other types
    are written as `_portable` says, and what is left as pickle does, which is only hashed.
    """
    try:
        content = b"p" + marshal.dumps(row, 2)
    except ValueError:
        try:
            content = b"t" + marshal.dumps([_portable(value) for value in row], 2)
        except TypeError:
            try:
                content = b"o" + pickle.dumps(row, 4)
            except Exception:
                return None
    return prefix + blake2b(content, digest_size=20).hexdigest()


def written(answer: Answer) -> bytes | None:
    """The answer as JSON that `read` takes back; None where a value is of a type that it does not know."""
    try:
        return json.dumps([_portable(value) for value in answer], separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError):
        return None


def read(text: bytes) -> Answer:
    """The answer that `written` wrote.

    Raises:
        ValueError, TypeError, LookupError, ArithmeticError: it wrote no such thing.
    """
    values = json.loads(text)
    if not isinstance(values, list):
        raise TypeError("no list of values")
    return tuple(map(_value, values))


def _portable(value: Any) -> Any:
    """A value as JSON tells it: text, numbers, truths and None as they are, all else as a list of a word and texts."""
    kind = type(value)
    if kind in _PLAIN or kind is int or kind is float:
        return value
    if kind in _CONTAINERS:
        return [kind.__name__, *map(_portable, value)]
    if kind is dict:
        return ["dict", *([_portable(name), _portable(item)] for name, item in value.items())]
    if kind not in _WRITERS:
        raise TypeError(f"no way to write {kind.__name__}")
    return [kind.__name__, *_WRITERS[kind](value)]


def _value(told: Any) -> Any:
    if not isinstance(told, list):
        if isinstance(told, dict):
            raise TypeError("a bare object")
        return told
    word, *parts = told
    if word == "dict":
        return {_value(name): _value(item) for name, item in parts}
    if word in _READERS:
        return _READERS[word](*parts)
    return _NAMED[word](map(_value, parts))


_CONTAINERS = (list, tuple)
_NAMED: dict[str, Any] = {kind.__name__: kind for kind in _CONTAINERS}
_WRITERS: dict[type, Any] = {
    Decimal: lambda value: [str(value)],
    bytes: lambda value: [value.hex()],
    date: lambda value: [value.isoformat()],
    datetime: lambda value: [_told(value)],
    clock_time: lambda value: [_told(value)],
    timedelta: lambda value: [value.days, value.seconds, value.microseconds],
    UUID: lambda value: [value.hex],
}
_READERS: dict[str, Any] = {
    "Decimal": Decimal,
    "bytes": bytes.fromhex,
    "date": date.fromisoformat,
    "datetime": datetime.fromisoformat,
    "time": clock_time.fromisoformat,
    "timedelta": timedelta,
    "UUID": UUID,
}


def _told(value: datetime | clock_time) -> str:
    """The time in ISO 8601, which knows offsets, and neither names of zones nor hours that are there twice."""
    if value.fold or (value.tzinfo is not None and type(value.tzinfo) is not timezone):
        raise TypeError("a time that cannot be told by its offset")
    return value.isoformat()
