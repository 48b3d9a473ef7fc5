"""The checks; each yields one line for each mistake: document, line, what is wrong."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from xml.etree import ElementTree

from pydantic.fields import FieldInfo

from tests.docs import program
from tests.docs.documents import ROOT, Code, Document
from worker.config import parse_configuration
from worker.errors import ConfigurationError
from worker.sections import parse_duration
from worker.states import ROW_TRANSITIONS

Documents = Mapping[str, Document]
README, ARCHITECTURE, MODELS = "README.md", "ARCHITECTURE.md", "docs/models.md"
_COMMAND = re.compile(r"\browscore ((?:-c \S+ )?)([a-z]+)\b([^`|#]*)")
_OPTION = re.compile(r"(?<!\S)(--[a-z][a-z-]*)")
_TARGET = re.compile(r"(?:^|[^-\w])make ([a-z][a-z0-9-]*)\b(?! (?:a|the|it)\b)")
_PATH = re.compile(rf"(?:{'|'.join(program.OWN)})/[\w./-]*|[A-Z]+\.md|[\w.-]+\.(?:yml|txt)|pyproject\.toml")
_MODULE = re.compile(r"\b(?:schedules|sql|tasks|tests|worker)(?:\.[A-Za-z_]\w*)+")
_EDGE = re.compile(r"^ *(\w+) --> (\w+):", re.MULTILINE)
_ROW = re.compile(r"^\| `([\w.]+)` \|([^|]*)\|", re.MULTILINE)


def _at(document: Document, code: Code, problem: str) -> str:
    return f"{document.name}:{code.line}: {problem}"


def check_commands(documents: Documents) -> Iterator[str]:
    """Every command is in README's table; every command and option that is named exists."""
    known = program.commands()
    tabled = set(re.findall(r"^\| `rowscore ([a-z]+)`", documents[README].section("Commands"), re.MULTILINE))
    for name in sorted(set(known) - {""} - tabled):
        yield f"{README}: the table of commands lacks `rowscore {name}`"
    for document in documents.values():
        for code in document.code:
            for match in _COMMAND.finditer(code.text):
                name = match[2]
                if name not in {*known, "help"}:
                    yield _at(document, code, f"there is no command `rowscore {name}`")
                    continue
                allowed = known[""] | known.get(name, set())
                for option in sorted(set(_OPTION.findall(match[3])) - allowed):
                    yield _at(document, code, f"`rowscore {name}` has no option {option}")


def check_keys(documents: Documents) -> Iterator[str]:
    """README's table of keys is complete, names no other key, and has the defaults that are in effect."""
    yield from _check_table(documents[README], "Configuration", program.keys())


def check_model_keys(documents: Documents) -> Iterator[str]:
    """The models' page has a section for each kind, and in it the kind's own keys with their defaults."""
    for title, known in program.model_keys().items():
        yield from _check_table(documents[MODELS], title, known)


def _check_table(document: Document, title: str, known: Mapping[str, FieldInfo]) -> Iterator[str]:
    rows = _ROW.findall(document.section(title))
    for name in sorted(set(known) - {name for name, _ in rows}):
        yield f"{document.name}: the table of keys in {title!r} lacks `{name}`"
    for name, shown in rows:
        if name not in known:
            yield f"{document.name}: there is no key `{name}` in {title!r}"
        elif not _is_default(shown.strip().strip("`"), known[name].default):
            yield f"{document.name}: the default of `{name}` is {known[name].default!r}, not {shown.strip()}"


def _is_default(shown: str, default: Any) -> bool:
    """Whether the table's words are the default; words beside a default that depends on others are not read."""
    if isinstance(default, timedelta):
        try:
            return bool(parse_duration(shown.strip('"')) == default)
        except ValueError:
            return False
    if isinstance(default, bool):
        return shown == str(default).lower()
    if isinstance(default, int):
        return shown.replace(",", "") == str(default)
    return shown == f'"{default}"' if isinstance(default, str) else True


def check_targets(documents: Documents) -> Iterator[str]:
    """Every make target is in README; every target that is named exists."""
    known = program.targets()
    named = {match[1] for code in documents[README].code for match in _TARGET.finditer(code.text)}
    for target in sorted(known - named):
        yield f"{README}: does not name `make {target}`"
    for document in documents.values():
        for code in document.code:
            for match in _TARGET.finditer(code.text):
                if match[1] not in known:
                    yield _at(document, code, f"there is no target `make {match[1]}`")


def check_links(documents: Documents) -> Iterator[str]:
    """Relative links lead to files that are there, and to headings that are there."""
    for document in documents.values():
        for code in document.links:
            if re.match(r"[a-z]+:", code.text):
                continue
            path, _, anchor = code.text.partition("#")
            target = (ROOT / document.name).parent / path if path else ROOT / document.name
            name = target.resolve().relative_to(ROOT).as_posix()
            if not target.exists():
                yield _at(document, code, f"{path} does not exist")
            elif anchor and name in documents and anchor not in documents[name].anchors:
                yield _at(document, code, f"{name} has no heading #{anchor}")


def check_paths(documents: Documents) -> Iterator[str]:
    """Files and modules that stand between backticks are there."""
    for document in documents.values():
        for code in document.spans:
            if _PATH.fullmatch(code.text) and not (ROOT / code.text).exists():
                yield _at(document, code, f"{code.text} does not exist")
        for code in document.code:
            for match in _MODULE.finditer(code.text):
                if not _is_module(match[0]):
                    yield _at(document, code, f"there is no module or name {match[0]}")


def _is_module(dotted: str) -> bool:
    """A module or package, or a module and a name that its text defines."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:count])
        file = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
        if file.exists() or path.is_dir():
            names = parts[count:]
            text = file.read_text(encoding="utf-8") if names and file.exists() else ""
            return all(re.search(rf"\b{re.escape(name)}\b", text) for name in names)
    return False


def check_examples(documents: Documents) -> Iterator[str]:
    """TOML examples are configurations, Python examples parse, pictures are well formed."""
    for document in documents.values():
        for block in document.blocks:
            try:
                if block.language == "toml":
                    parse_configuration(tomllib.loads(block.text), "the example")
                elif block.language == "python":
                    ast.parse(block.text)
            except (ConfigurationError, tomllib.TOMLDecodeError, SyntaxError) as error:
                yield _at(document, block, "; ".join(str(error).splitlines()))
    for picture in (ROOT / "docs").glob("*.svg"):
        try:
            ElementTree.parse(picture)
        except ElementTree.ParseError as error:
            yield f"docs/{picture.name}: {error}"


def check_transitions(documents: Documents) -> Iterator[str]:
    """ARCHITECTURE's picture of a row's states has the edges of `ROW_TRANSITIONS`, and no others."""
    edges = {
        (edge[1], edge[2])
        for block in documents[ARCHITECTURE].blocks
        for edge in _EDGE.finditer(block.text)
        if block.language == "mermaid"
    }
    known = {(old.name.lower(), new.name.lower()) for old, new in ROW_TRANSITIONS}
    for old, new in sorted(edges ^ known):
        problem = "is not in worker/states.py" if (old, new) in edges else "is missing"
        yield f"{ARCHITECTURE}: the transition {old} --> {new} {problem}"


def check_modules(documents: Documents) -> Iterator[str]:
    """ARCHITECTURE's list of modules is complete; that those it names exist is `check_paths`'s."""
    named = {code.text for code in documents[ARCHITECTURE].spans}
    for name in program.modules():
        if name not in named:
            yield f"{ARCHITECTURE}: does not name `{name}`"


CHECKS = (
    check_commands,
    check_keys,
    check_model_keys,
    check_targets,
    check_links,
    check_paths,
    check_examples,
    check_transitions,
    check_modules,
)
