"""What the demo says while it runs: numbered steps, with a live line on a terminal and plain elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.text import Text

from worker.demo.summary import Line

STYLES = {"strong": "bold", "good": "green", "bad": "bold red", "dim": "dim", "": ""}
INDENT = "   "


class Narrator:
    """Writes to one stream; text is never taken for markup, and plain lines are never wrapped."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.live = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._number = 0

    def title(self, text: str) -> None:
        """The first line."""
        self._say(text, "strong")

    def step(self, text: str, *why: str) -> None:
        """The next step's heading, and in a line or two why it is made."""
        self._number += 1
        self._say(f"\n{self._number}. {text}", "strong")
        for line in why:
            self._say(INDENT + line, "dim")

    def say(self, text: str, style: str = "") -> None:
        """Something that happened in the step."""
        self._say(INDENT + text, style)

    def lines(self, lines: Iterable[Line]) -> None:
        """A ready text, after an empty line."""
        self._say("")
        for line in lines:
            self._say(line.text, line.style)

    @contextmanager
    def moving(self, text: str) -> Iterator[Callable[[str], None]]:
        """A line that is written anew each time that the function is called; not shown without a terminal."""
        if not self.live:
            yield lambda _: None
            return
        with self._console.status(INDENT + text, spinner="dots") as status:
            yield lambda line: status.update(Text(line))

    def _say(self, text: str, style: str = "") -> None:
        if self.live:
            self._console.print(Text(text, STYLES[style]))
        else:
            self.stream.write(text + "\n")
        self.stream.flush()
