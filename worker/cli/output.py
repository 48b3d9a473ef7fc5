"""What a command says and where: results on stdout, notes on stderr, styles on a terminal, JSON on request.

With `--json` exactly one document goes to stdout and every other word to stderr. Without a terminal lines are
plain and never wrapped, so that grep reads them. NO_COLOR is honoured. Text is never taken for markup.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, TextIO

from worker.cli.figures import aligned

_STYLES = {  # rich's names by what is meant
    "good": "green",
    "bad": "bold red",
    "warn": "yellow",
    "dim": "dim",
    "strong": "bold",
}
_VERDICTS = {"ok": "good", "warning": "warn", "failed": "bad", "unknown": "dim"}
_INDENT = 2


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at the stream, on a terminal that can do more than print lines."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _styled(stream: TextIO) -> bool:
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


class Output:
    """One command's output.

    Args:
        as_json: the command was called with `--json`: `say` and `table` move to stderr, `document` prints.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self._results: TextIO = sys.stderr if as_json else sys.stdout

    @property
    def terminal(self) -> bool:
        """Whether results are seen by a person at once."""
        return is_terminal(self._results)

    def say(self, text: str = "", style: str | None = None) -> None:
        """A line of the result; `style` is one of good, bad, warn, dim, strong."""
        _print(self._results, text, style)

    def waiting(self, reason: str) -> None:
        """A line about why nothing happens for now."""
        self.note(f"  waiting: {reason}", "warn")

    def note(self, text: str, style: str | None = None) -> None:
        """A line about the work, not its result: always on stderr."""
        _print(sys.stderr, text, style)

    def clear(self) -> None:
        """Begin again at the top of an empty screen, on a terminal."""
        if self.terminal:
            self._results.write("\x1b[2J\x1b[H")

    def facts(self, pairs: Sequence[tuple[str, str]] | Mapping[str, str], indent: int = _INDENT) -> None:
        """Label and value, a line each, the values aligned."""
        listed = list(pairs.items()) if isinstance(pairs, Mapping) else list(pairs)
        width = max((len(label) for label, _ in listed), default=0)
        for label, value in listed:
            self.say(" " * indent + f"{label.ljust(width)}  {value}".rstrip())

    def table(
        self,
        headers: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        right: Sequence[int] = (),
        indent: int = 0,
    ) -> None:
        """Aligned columns under headers; those numbered in `right` (from 0) are right-aligned."""
        lines = aligned([headers, *rows], right)
        for place, line in enumerate(lines):
            self.say(" " * indent + line, "strong" if place == 0 else None)

    def verdict(self, verdict: str, text: str, remedy: str | None = None) -> None:
        """One finding: `ok`, `warning`, `failed` or `unknown`, what was looked at, how to mend it."""
        width = max(map(len, _VERDICTS))
        if _styled(self._results):
            _print_parts(self._results, [(verdict.ljust(width), _VERDICTS[verdict]), ("  " + text, None)])
        else:
            self.say(f"{verdict.ljust(width)}  {text}")
        for line in (remedy or "").splitlines():
            self.say(" " * (width + 2) + line, "dim")

    def document(self, value: Any) -> None:
        """The one JSON document of a command called with `--json`; nothing otherwise."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, indent=2, default=_plain, ensure_ascii=False) + "\n")


def _print(stream: TextIO, text: str, style: str | None) -> None:
    if style is None or not _styled(stream):
        stream.write(text + "\n")
        stream.flush()
    else:
        _print_parts(stream, [(text, style)])


def _print_parts(stream: TextIO, parts: Sequence[tuple[str, str | None]]) -> None:
    """Styled text on a terminal, by rich, which knows what the terminal can do."""
    from rich.console import Console
    from rich.text import Text

    text = Text.assemble(*[(part, _STYLES[style] if style else "") for part, style in parts])
    Console(file=stream, highlight=False, markup=False, emoji=False).print(text, soft_wrap=True)
    stream.flush()


def _plain(value: Any) -> Any:
    """Values that JSON lacks: times in ISO 8601, durations in seconds."""
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return float(value)
    return str(value)
