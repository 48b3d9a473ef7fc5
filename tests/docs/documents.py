"""A Markdown document's parts that can be checked: code, tables, links, headings; it judges none of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")

_FENCE = re.compile(r"^ *```(\w*)$")
_INDENTED = re.compile(r"^(?: {4}|\t)\s*\S")
_ITEM = re.compile(r"^ *(?:[-*]|\d+\.) ")
_SPAN = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Code:
    """A piece of code: what is between backticks, a fenced block, or a line of an indented one."""

    text: str
    line: int
    language: str = ""


@dataclass(frozen=True)
class Document:
    """One document; lines are counted from 1."""

    name: str
    text: str

    @cached_property
    def blocks(self) -> list[Code]:
        """The fenced blocks, without their indentation."""
        found, begun = [], None
        for number, line in enumerate(self.text.splitlines(), 1):
            if (fence := _FENCE.match(line)) is None:
                continue
            if begun is None:
                begun = (number, fence[1])
            else:
                lines = self.text.splitlines()[begun[0] : number - 1]
                indent = min((len(each) - len(each.lstrip()) for each in lines if each.strip()), default=0)
                found.append(Code("\n".join(each[indent:] for each in lines), begun[0] + 1, begun[1]))
                begun = None
        return found

    @cached_property
    def prose(self) -> str:
        """The text with fenced blocks blanked, so that line numbers stay."""
        lines = self.text.splitlines()
        for block in self.blocks:
            height = len(block.text.splitlines())
            lines[block.line - 2 : block.line + height] = [""] * (height + 2)
        return "\n".join(lines)

    @property
    def spans(self) -> Iterator[Code]:
        """What stands between backticks, also where it goes over a line's end."""
        for match in _SPAN.finditer(self.prose):
            yield Code(" ".join(match[1].split()), self.prose.count("\n", 0, match.start()) + 1)

    @property
    def code(self) -> Iterator[Code]:
        """Spans, and the lines of fenced and indented blocks."""
        yield from self.spans
        for block in self.blocks:
            for offset, line in enumerate(block.text.splitlines()):
                yield Code(line, block.line + offset, block.language)
        for number, line in enumerate(self.prose.splitlines(), 1):
            if _INDENTED.match(line) and not _ITEM.match(line) and "`" not in line:
                yield Code(line.strip(), number)

    @property
    def links(self) -> Iterator[Code]:
        """The targets of links and pictures."""
        for match in _LINK.finditer(self.prose):
            yield Code(match[1], self.prose.count("\n", 0, match.start()) + 1)

    @cached_property
    def anchors(self) -> set[str]:
        """What `#...` may name: headings in small letters, spaces as hyphens, other marks left out."""
        headings = (match[1] for match in _HEADING.finditer(self.prose))
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}

    def section(self, title: str) -> str:
        """The text below a heading, up to the next one of its level or above; empty where there is none."""
        pattern = rf"^(#+) {re.escape(title)}$(.*?)(?=^#{{1,2}} |\Z)"
        match = re.search(pattern, self.prose, re.MULTILINE | re.DOTALL)
        return match[2] if match else ""


def read(name: str) -> Document:
    """The document of that name in the repository's folder."""
    return Document(name, (ROOT / name).read_text(encoding="utf-8"))


def read_all() -> dict[str, Document]:
    """All documents by name, with those of docs/."""
    more = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("**/*.md"))
    return {name: read(name) for name in (*NAMES, *more)}
