"""What the code offers, as the documents must name it: commands, configuration keys, make targets, modules."""

from __future__ import annotations

import re
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tests.docs.documents import ROOT
from worker.cli import app
from worker.config import Configuration, Input, Prediction, Shadow, Version
from worker.kinds import KINDS
from worker.kinds.aurora import SERVICES
from worker.kinds.aws import AwsModel
from worker.kinds.base import CalledModel, ModelSettings, ServiceModel
from worker.kinds.encoding import Encoding
from worker.limits import Throttle

OWN = ("docker", "docs", "schedules", "sql", "tasks", "tests", "worker")  # folders at the top
_NOT_KEYS = {"path", "predictions", "kind"}  # set by the program, or a table's own name


def commands() -> dict[str, set[str]]:
    """The command line's commands, each with its options; the options of all under the empty name."""
    group: Any = typer.main.get_command(app)
    found = {"": _options(group) | {"-h", "--help"}}
    return found | {name: _options(command) for name, command in group.commands.items()}


def _options(command: Any) -> set[str]:
    return {option for item in command.params for option in item.opts if option.startswith("-")}


def keys() -> dict[str, FieldInfo]:
    """Every configuration key as README's table writes it, those of tables inside with a dot."""
    found = _fields(Configuration) | {
        name: info for name, info in _fields(Prediction).items() if name != "name"
    }
    found |= {f"inputs.{name}": info for name, info in _fields(Input).items()}
    found |= {f"version.{name}": info for name, info in _fields(Version).items()}
    found |= {f"shadow.{name}": info for name, info in _fields(Shadow).items()}
    found |= {f"throttle.{name}": info for name, info in _fields(Throttle).items()}
    return found


def model_keys() -> dict[str, dict[str, FieldInfo]]:
    """The keys of `model` by the section of the models' page where they stand: those of each kind, and the common."""
    sections = {
        "All kinds": _own(ModelSettings),
        "Called by the worker": _own(CalledModel, but=ModelSettings),
        "Behind an address": _own(ServiceModel, but=CalledModel),
        "Services of AWS": _own(AwsModel, but=ServiceModel),
    }
    encoding = {f"encoding.{name}": info for name, info in _fields(Encoding).items()}
    sections["Called by the worker"] |= encoding
    for name, kind in KINDS.items():
        shared = (AwsModel, ServiceModel, CalledModel, ModelSettings)
        common = next(base for base in kind.__mro__[1:] if base in shared)
        sections[name] = _own(kind, but=common)
    for service in reversed(SERVICES.values()):
        sections["sql"] |= {f"aurora.{name}": info for name, info in _fields(service).items()}
    return sections


def _own(section: type[BaseModel], but: type[BaseModel] | None = None) -> dict[str, FieldInfo]:
    others = _fields(but) if but is not None else {}
    return {
        f"model.{name}": info for name, info in _fields(section).items() if name not in {*others, "encoding"}
    }


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {name: info for name, info in model.model_fields.items() if name not in _NOT_KEYS}


def targets() -> set[str]:
    """The Makefile's targets that a person calls."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z0-9-]*):.*## ", text, re.MULTILINE))


def modules() -> list[str]:
    """The engine's modules and packages as ARCHITECTURE.md writes them."""
    worker = ROOT / "worker"
    files = [path for folder in ("", "models") for path in (worker / folder).glob("*.py")]
    named = [path.relative_to(ROOT).as_posix() for path in files if not path.name.startswith("__")]
    packages = [path.parent.name for path in worker.glob("*/__init__.py") if path.parent.name != "models"]
    return sorted(named) + sorted(f"worker/{name}/" for name in packages)
