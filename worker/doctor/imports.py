"""Checks that `worker`, `tasks`, `schedules` and `sql` are rowscore's own packages and not another's."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from worker.doctor.findings import Findings, error, ok

NAMES = ("worker", "tasks", "schedules", "sql")


def check_imports(own: Path, folder: Path, path: Sequence[str]) -> Findings:
    """What `import worker` and others find, here and in Celery, which looks into the current folder first.

    Args:
        own: the folder that holds rowscore's packages.
        folder: the current folder.
        path: where Python looks for modules.
    """
    shadowed = [found for name in NAMES if (found := _shadow(name, own, [str(folder), *path])) is not None]
    for name, place in shadowed:
        message = f"`import {name}` finds {place} instead of {own / name}"
        remedy = (
            f"rename it, or start rowscore and Celery in another folder: {name} is a name of rowscore's, "
            f"which is an application and wants an environment of its own (pipx, a venv, a container)"
        )
        yield error("import names", message, remedy)
    if not shadowed:
        yield ok("import names", f"{', '.join(NAMES)} are rowscore's own")


def check_own_imports() -> Findings:
    """`check_imports` for this process."""
    yield from check_imports(Path(__file__).resolve().parents[2], Path.cwd(), sys.path)


def _shadow(name: str, own: Path, path: Iterable[str]) -> tuple[str, Path] | None:
    """The name and what is found under it, where that is not rowscore's own; PathFinder knows the rules."""
    spec = PathFinder.find_spec(name, list(path))
    place = _place(spec) if spec is not None else None
    return (name, place) if place is not None and place.resolve() != (own / name).resolve() else None


def _place(spec: ModuleSpec) -> Path | None:
    """A package's folder or a module's file; a folder without __init__.py counts as well."""
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin else None
