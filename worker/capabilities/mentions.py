"""Which columns an SQL expression of MySQL's or MariaDB's mentions, by its words alone; it asks no server."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Strings (in rowscore's sessions "..." is one) and comments hold no names; a word before a parenthesis is a function.
_TOKEN = re.compile(
    r"""'(?:[^'\\]|\\.|'')*' | "(?:[^"\\]|\\.|"")*" | /\*(?!!).*?\*/ | \#[^\n]* | --(?=\s|$)[^\n]*
        | `(?P<quoted>(?:[^`]|``)*)` | (?P<bare>[\w$]+)(?!\s*\() """,
    re.VERBOSE | re.DOTALL,
)


def mentioned(expressions: Iterable[str], columns: Iterable[str]) -> set[str]:
    """The columns whose names are words of the expressions, in any case; rather one too many than one too few.

    MySQL tells of no view which columns it reads, and its columns' names know no case.
    """
    words: set[str] = set()
    for expression in expressions:
        for token in _TOKEN.finditer(expression):
            if token["quoted"] is not None:
                words.add(token["quoted"].replace("``", "`").casefold())
            elif token["bare"] is not None:
                words.add(token["bare"].casefold())
    return {name for name in columns if name.casefold() in words}
