"""Long texts in parts that a service takes, and its findings about the parts as findings about the whole; pure.

A part ends after a sentence if one ends in it, else after a space, else between two characters as people see them
(no accent, joiner or variation selector is torn off). The parts together are the text, character by character.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_SENTENCE = re.compile(r"[.!?…]+[\"'”’»)\]]*\s+|[。！？]+[」』）”’]*\s*|\n+\s*")
_SPACE = re.compile(r"\s+")
_JOINER = "\u200d"
_EXTENDING = re.compile("[\u200d\ufe00-\ufe0f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")
_FLAG = re.compile("[\U0001f1e6-\U0001f1ff]")
_LONGEST_CHARACTER = 32  # code points that one character as people see it is looked for in
SHORTEST = 4  # bytes: the longest code point


def split(text: str, most_bytes: int) -> list[str]:
    """The text in parts of at most so many bytes of UTF-8; they join to the text, and none is empty.

    Args:
        text: without lone surrogates.
        most_bytes: at least `SHORTEST`.
    """
    return list(_parts(text, most_bytes))


def _parts(text: str, most_bytes: int) -> Iterator[str]:
    content = text.encode()
    while len(content) > most_bytes:
        end = most_bytes
        while content[end] & 0xC0 == 0x80:  # within a code point
            end -= 1
        head = content[:end].decode()
        part = head[: _end(head, content[end : end + SHORTEST].decode(errors="ignore")[:1])]
        yield part
        content = content[len(part.encode()) :]
    if content:
        yield content.decode()


def _end(head: str, after: str) -> int:
    """Where to cut what fits, if the next code point is `after`."""
    for boundary in (_SENTENCE, _SPACE):
        ends = [match.end() for match in boundary.finditer(head)]
        if ends:
            return ends[-1]
    text = head + after
    for end in range(len(head), max(0, len(head) - _LONGEST_CHARACTER), -1):
        if not _within_character(text, end):
            return end
    return len(head)


def _within_character(text: str, place: int) -> bool:
    """Whether the code points before and after the place are one character as people see it, roughly as UAX 29."""
    before, after = text[place - 1], text[place]
    if after == "\n" and before == "\r":
        return True
    if _FLAG.match(after) and _FLAG.match(before):
        flags = len(text[:place]) - len(text[:place].rstrip("".join(map(chr, range(0x1F1E6, 0x1F200)))))
        return flags % 2 == 1
    return before == _JOINER or bool(_EXTENDING.match(after)) or unicodedata.category(after).startswith("M")


def average(scores: Sequence[Mapping[str, float]], lengths: Sequence[int]) -> dict[str, float]:
    """The mean of each score, weighted by the lengths of the parts; a score that a part lacks counts as 0."""
    whole = sum(lengths)
    names = dict.fromkeys(name for each in scores for name in each)
    return {
        name: sum(each.get(name, 0.0) * length for each, length in zip(scores, lengths, strict=True)) / whole
        for name in names
    }


def moved(findings: Sequence[Sequence[Mapping[str, Any]]], lengths: Sequence[int]) -> list[dict[str, Any]]:
    """The findings of all parts in order, their BeginOffset and EndOffset in the whole text.

    Args:
        findings: of each part.
        lengths: of the parts, in code points, which is what Comprehend's offsets count.
    """
    whole, start = [], 0
    for each, length in zip(findings, lengths, strict=True):
        for finding in each:
            offsets = {key: finding[key] + start for key in ("BeginOffset", "EndOffset") if key in finding}
            whole.append({**finding, **offsets})
        start += length
    return whole
