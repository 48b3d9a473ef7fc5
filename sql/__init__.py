"""Loads and renders the named SQL statements of this folder; it runs none of them.

A file `sql/<dialect>/<noun>.sql` holds statements, each headed by `-- name: <name>` and one comment line that says
what it is for. Statements are Jinja templates whose filter `id` quotes an identifier; values are always
bound as `:name` (`:name!b` where the driver shall send binary). Text that a user configured (an expression, a type)
comes in through the context and is never searched for `:name`, so it may hold colons and percent signs. The macros
of `sql/<dialect>/macros.jinja` are there in every statement.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

_HEAD = re.compile(r"^-- name: (?P<name>\w+)\n-- (?P<purpose>.+)\n", re.MULTILINE)
_QUOTES = {"postgresql": '"', "mysql": "`", "mariadb": "`"}
_FOLDERS = {"mariadb": "mysql"}  # one folder for both; `mariadb` in a template tells which
_BIND = re.compile(r"(?<![:\w]):([a-z]\w*(?:!b)?)")
_MARKED = re.compile("\x01([^\x01]+)\x01")


@dataclass(frozen=True, slots=True)
class Statement:
    """One named statement: its name, what it is for, and its template."""

    name: str
    purpose: str
    text: str
    template: Template

    def render(self, **context: Any) -> str:
        """The SQL for the driver, in its `pyformat` style; a variable that the context lacks is an error."""
        text = self.template.render(**context).strip().replace("%", "%%")
        return _MARKED.sub(
            lambda mark: f"%({mark[1].removesuffix('!b')}){'b' if mark[1].endswith('!b') else 's'}", text
        )

    def show(self, **context: Any) -> str:
        """The SQL for people, and for DDL, which binds nothing: parameters are left as `:name`."""
        text = self.template.render(**context).strip()
        return _MARKED.sub(lambda mark: ":" + mark[1].removesuffix("!b"), text)


def quote(identifier: str, dialect: str) -> str:
    """An identifier as the dialect quotes it, with quotes inside it doubled."""
    if "\x00" in identifier:
        raise ValueError("an identifier cannot hold a NUL character")
    mark = _QUOTES[dialect]
    return mark + identifier.replace(mark, mark * 2) + mark


def parse(text: str, environment: Environment) -> dict[str, Statement]:
    """The named statements of one file, by name."""
    heads = list(_HEAD.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    found: dict[str, Statement] = {}
    for head, end in zip(heads, ends, strict=True):
        name, body = head["name"], text[head.end() : end].strip()
        if name in found:
            raise ValueError(f"statement {name!r} is defined twice")
        template = environment.from_string(_BIND.sub("\x01\\1\x01", body))
        found[name] = Statement(name, head["purpose"], body, template)
    return found


@cache
def load(dialect: str, folder: str | None = None) -> dict[str, Statement]:
    """All named statements of a dialect, by name; `folder` names another folder, such as `demo`.

    In `demo/` a file is named for its dialect, elsewhere the folder is.
    """
    environment = Environment(  # noqa: S701  SQL, not HTML; identifiers go through the filter `id`
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=False
    )
    environment.filters = {"id": lambda identifier: quote(identifier, dialect), "length": len}
    environment.globals = {"bind": lambda name: f"\x01{name}\x01", "mariadb": dialect == "mariadb"}
    home = _FOLDERS.get(dialect, dialect)
    macros = resources.files("sql").joinpath(home, "macros.jinja").read_text(encoding="utf-8")
    module = environment.from_string(macros).module
    environment.globals |= {name: value for name, value in vars(module).items() if not name.startswith("_")}
    found: dict[str, Statement] = {}
    pattern = "*.sql" if folder is None else f"{home}.sql"
    for entry in sorted(
        resources.files("sql").joinpath(folder or home).iterdir(), key=lambda item: item.name
    ):
        if not entry.name.endswith(".sql") or (folder and entry.name != pattern):
            continue
        statements = parse(entry.read_text(encoding="utf-8"), environment)
        if twice := found.keys() & statements.keys():
            raise ValueError(f"{entry.name}: {', '.join(sorted(twice))} defined in another file as well")
        found.update(statements)
    return found
