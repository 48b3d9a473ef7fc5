"""How `--help` reads: docstrings as they were written, options aligned, commands in their panels."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from typer import Abort
from typer.core import TyperCommand, TyperGroup

from worker.cli.session import PANELS

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

_WIDTH = 100
_NAMES = 26  # columns for names; longer ones push their text to the next line


class HelpfulCommand(TyperCommand):
    """A command whose help keeps its lines, examples included."""

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Usage, the docstring, arguments and options."""
        formatter.write(f"{self.get_usage(ctx)}\n\n{(self.help or '').strip()}\n")
        formatter.write(_parameters(self.get_params(ctx)))


class HelpfulGroup(TyperGroup):
    """The program: its commands by panel, in the order of their registration."""

    def invoke(self, ctx: Context) -> Any:
        """Run the command; Ctrl-C leaves as itself, where Typer would make an exit without a word of it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Abort from error

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Usage, one line, the panels, the global options."""
        formatter.write(f"{self.get_usage(ctx)}\n\n{(self.help or '').strip()}\n")
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panel = getattr(command, "rich_help_panel", None) or "Other"
                panels.setdefault(panel, []).append((name, (command.help or "").partition("\n\n")[0]))
        for panel in sorted(panels, key=_place):
            formatter.write(_section(panel, panels[panel]))
        formatter.write(_parameters(self.get_params(ctx)))


def _place(panel: str) -> int:
    return PANELS.index(panel) if panel in PANELS else len(PANELS)


def _parameters(parameters: Sequence[Any]) -> str:
    shown = [item for item in parameters if not getattr(item, "hidden", False)]
    arguments = [(_argument(item), item.help or "") for item in shown if item.param_type_name == "argument"]
    options = [(_option(item), item.help or "") for item in shown if item.param_type_name == "option"]
    return _section("Arguments", arguments) + _section("Options", options)


def _argument(item: Any) -> str:
    return str(item.metavar or item.name.upper())


def _option(item: Any) -> str:
    names = ", ".join(sorted((*item.opts, *item.secondary_opts), key=len))
    return names if item.is_flag else f"{names} {item.metavar or 'VALUE'}"


def _section(title: str, rows: Sequence[tuple[str, str]]) -> str:
    if not rows:
        return ""
    lines = ["", f"{title}:"]
    width = min(_NAMES, max(len(name) for name, _ in rows))
    for name, text in rows:
        wrapped = textwrap.wrap(" ".join(text.split()), _WIDTH - width - 4) or [""]
        if len(name) > width:
            lines.append(f"  {name}")
            name = ""  # noqa: PLW2901
        lines += [
            f"  {(name if place == 0 else '').ljust(width)}  {part}".rstrip()
            for place, part in enumerate(wrapped)
        ]
    return "\n".join(lines) + "\n"
