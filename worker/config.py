"""rowscore.toml, read and checked: what the user asked for, as plain frozen data; it touches no database."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from worker.errors import ConfigurationError

DEFAULT_FILE = "rowscore.toml"
FILE_VARIABLE = "ROWSCORE_CONFIG"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_IDENTIFIER_PART = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')
_PLANNED_KINDS = ("sagemaker", "comprehend", "bedrock", "openai", "onnx")


def parse_duration(value: Any) -> timedelta:
    """`"500ms"`, `"30s"`, `"1.5h"`, `"30d"` as a timedelta; a bare number is refused because its unit is a guess."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if not match:
        raise ValueError(f'expected a duration such as "500ms", "30s" or "2h", not {value!r}')
    duration = timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    if duration <= timedelta(0):
        raise ValueError("a duration must be longer than zero")
    return duration


def split_name(text: str) -> tuple[str | None, str]:
    """`schema.table`, `table` or `"My Schema"."My Table"` as (schema or None, table)."""
    parts = [(quoted or bare).replace('""', '"') for quoted, bare in _IDENTIFIER_PART.findall(text)]
    rebuilt = ".".join(match.group(0) for match in _IDENTIFIER_PART.finditer(text))
    if rebuilt != text or len(parts) not in (1, 2) or not all(part.strip() for part in parts):
        raise ValueError(f'expected table, schema.table or "Schema"."Table", not {text!r}')
    return (parts[0], parts[1]) if len(parts) == 2 else (None, parts[0])


def resolve_secret(text: str, where: str, environ: Mapping[str, str] | None = None) -> str:
    """The value behind `$NAME` (an environment variable) or `file:/path`; other text stands for itself."""
    values = os.environ if environ is None else environ
    if text.startswith("file:"):
        try:
            return Path(text.removeprefix("file:")).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"{where}: cannot read {text}: {error.strerror}") from error

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in values:
            raise ConfigurationError(f"{where}: the environment variable {name} is not set")
        return values[name]

    return _VARIABLE.sub(value, text) if text.startswith("$") or " $" in text else text


def _checked_name(text: str) -> str:
    split_name(text)
    return text


def _checked_identifier(text: str) -> str:
    if not text or "\x00" in text:
        raise ValueError("expected a column name")
    if len(text.encode()) > 63:
        raise ValueError(f"{text!r} is longer than the 63 bytes of an identifier")
    return text


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
TableName = Annotated[str, AfterValidator(_checked_name)]
Identifier = Annotated[str, AfterValidator(_checked_identifier)]
Count = Annotated[int, Field(ge=1, strict=True)]


class _Section(BaseModel):
    """A table of the file: frozen, and strict about keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Input(_Section):
    """One input of the model: a column (with an optional default for NULL), or a named SQL expression."""

    name: str
    column: Identifier | None = None
    sql: str | None = None
    default: float | int | str | bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value, "column": value}
        if isinstance(value, dict):
            if ("column" in value) == ("sql" in value):
                raise ValueError('expected { column = "amount" } or { name = "text", sql = "title || body" }')
            if "sql" in value and "name" not in value:
                raise ValueError('an SQL input needs a name: { name = "text", sql = "..." }')
            return {"name": value.get("column"), **value}
        raise ValueError("expected a column name or a table")


class Version(_Section):
    """The model version asked for, and the column that stamps each scored row with it."""

    column: Identifier
    value: str


class SqlModel(_Section):
    """A function of the database, called with the inputs in order: inside the UPDATE, or by an unlocked SELECT."""

    kind: Literal["sql"] = Field("sql", exclude=True)
    sql: TableName
    mode: Literal["update", "select"] = "update"


class HttpModel(_Section):
    """An endpoint that takes text/csv, one row a line, and answers one line a row (SageMaker's container contract)."""

    kind: Literal["http"] = Field("http", exclude=True)
    http: str
    timeout: Duration = timedelta(seconds=30)
    headers: dict[str, str] = {}
    max_bytes: Count = 6_000_000
    attempts: Count = 3

    @field_validator("http")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if not re.match(r"https?://[^/\s]+|\$\w+", value):
            raise ValueError(f"expected http:// or https://, not {value!r}")
        return value


class PythonModel(_Section):
    """A Python callable, named `package.module:function`, that takes a `worker.models.protocol.Batch`."""

    kind: Literal["python"] = Field("python", exclude=True)
    python: str

    @field_validator("python")
    @classmethod
    def _is_import_path(cls, value: str) -> str:
        if not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", value):
            raise ValueError(f'expected "package.module:function", not {value!r}')
        return value


ModelKind = SqlModel | HttpModel | PythonModel
_KINDS: dict[str, type[ModelKind]] = {"sql": SqlModel, "http": HttpModel, "python": PythonModel}


def _model_of_kind(value: Any) -> Any:
    """The model section as the class of the one kind that it names."""
    if not isinstance(value, dict):
        return value
    named = [kind for kind in (*_KINDS, *_PLANNED_KINDS) if kind in value]
    if len(named) != 1:
        raise ValueError(f'expected one kind of model ({", ".join(_KINDS)}), such as {{ sql = "predict" }}')
    if named[0] in _PLANNED_KINDS:
        raise ValueError(f"models of kind {named[0]} are not available yet; use {', '.join(_KINDS)}")
    return _KINDS[named[0]].model_validate(value)


class Prediction(_Section):
    """One `[predictions.<name>]` table: which rows, which inputs, which model, which outputs, and how to run it."""

    name: str
    table: TableName
    inputs: tuple[Input, ...] = Field(min_length=1)
    outputs: dict[Identifier, str] = Field(min_length=1)
    model: Annotated[ModelKind, BeforeValidator(_model_of_kind)]
    database: str | None = None
    key: tuple[Identifier, ...] | None = None
    every: Duration = timedelta(seconds=30)
    cron: str | None = None
    view: TableName | Literal[False] | None = None
    live: bool = False
    scored_at: Identifier | None = None
    state: Identifier | None = None
    version: Version | None = None
    where: str | None = None
    arrived_at: Identifier | None = None
    on_input_change: Literal["trigger", "ignore"] = "trigger"
    max_rows_per_batch: Count | None = None
    max_rows_per_claim: Count = 10_000
    max_lock_time: Duration = timedelta(milliseconds=500)
    max_run_time: Annotated[Duration, Field(le=timedelta(seconds=60))] = timedelta(seconds=25)
    lease_time: Annotated[Duration, Field(ge=timedelta(seconds=1))] = timedelta(seconds=60)
    retry_after: Duration = timedelta(minutes=5)
    max_attempts: Count = 5
    concurrency: Annotated[int, Field(ge=1, le=64, strict=True)] = 4
    workers: Annotated[int, Field(ge=1, le=64, strict=True)] = 2

    @field_validator("key", mode="before")
    @classmethod
    def _one_column_key(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("name")
    @classmethod
    def _short_name(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", value):
            raise ValueError("a prediction's name is 1 to 40 of a-z, 0-9 and _, and begins with a letter")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Prediction:
        names = [item.name for item in self.inputs]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"input {sorted(twice)[0]!r} is listed twice")
        own = [*self.outputs, self.state_column, self.scored_at_column]
        own += [self.version.column] if self.version else []
        if twice := {name for name in own if own.count(name) > 1}:
            raise ValueError(
                f"column {sorted(twice)[0]!r} has two roles among outputs, state, scored_at and version"
            )
        if both := {item.column for item in self.inputs} & set(own):
            raise ValueError(
                f"column {sorted(map(str, both))[0]!r} is an input and is written by rowscore as well"
            )
        if self.live and not isinstance(self.model, SqlModel):
            raise ValueError("live = true needs a model of kind sql: the view itself calls it")
        return self

    @property
    def state_column(self) -> str:
        """The column that holds the row's state."""
        return self.state or f"{self.name}_state"

    @property
    def scored_at_column(self) -> str:
        """The column that holds the time of the row's last scoring."""
        return self.scored_at or f"{self.name}_scored_at"

    @property
    def view_name(self) -> str | None:
        """The view over scored and unscored rows, or None where the user wants none."""
        if self.view is False:
            return None
        return self.view or _suffixed(self.table, "_scored")

    @property
    def definition(self) -> dict[str, Any]:
        """What decides which value lands in which column: workers that disagree on it must not share rows."""
        model = self.model.model_dump(mode="json")
        for how in ("timeout", "headers", "attempts", "max_bytes", "mode"):  # it decides no value
            model.pop(how, None)
        return {
            "table": self.table,
            "key": self.key,
            "inputs": [item.model_dump(mode="json") for item in self.inputs],
            "outputs": self.outputs,
            "where": self.where,
            "columns": [
                self.state_column,
                self.scored_at_column,
                self.version.column if self.version else None,
            ],
            "model": model,
        }

    @property
    def definition_hash(self) -> str:
        """Twelve hexadecimal digits of SHA-256 over `definition`."""
        text = json.dumps(self.definition, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def version_value(self) -> str:
        """The model version asked for; empty where none is configured."""
        return self.version.value if self.version else ""


def _suffixed(table: str, suffix: str) -> str:
    return f'{table[:-1]}{suffix}"' if table.endswith('"') else table + suffix


class Configuration(_Section):
    """The whole file. Databases and the broker are kept as written; `database_url` and `broker_url` resolve them."""

    path: str
    database: str | None = None
    databases: dict[str, str] = {}
    broker: str = "$CELERY_BROKER_URL"
    predictions: dict[str, Prediction] = Field(min_length=1)

    @model_validator(mode="after")
    def _databases_exist(self) -> Configuration:
        for name, prediction in self.predictions.items():
            if prediction.database is not None and prediction.database not in self.databases:
                raise ValueError(f"predictions.{name}.database: [databases] has no {prediction.database!r}")
            if prediction.database is None and self.database is None:
                raise ValueError('database is missing, such as database = "$DATABASE_URL"')
        return self

    def prediction(self, name: str | None = None) -> Prediction:
        """The prediction of that name, or the only one where no name is given."""
        if name is None:
            if len(self.predictions) == 1:
                return next(iter(self.predictions.values()))
            raise ConfigurationError(f"which prediction? {self.path} has {', '.join(self.predictions)}")
        if name not in self.predictions:
            raise ConfigurationError(
                f"{self.path} has no prediction {name!r}; it has {', '.join(self.predictions)}"
            )
        return self.predictions[name]

    def database_url(self, prediction: Prediction) -> str:
        """The prediction's database URL with its secrets resolved; never print it."""
        if prediction.database is not None:
            where = f"{self.path}: databases.{prediction.database}"
            return resolve_secret(self.databases[prediction.database], where)
        return resolve_secret(self.database or "", f"{self.path}: database")

    def broker_url(self) -> str:
        """Celery's broker URL with its secrets resolved; never print it."""
        return resolve_secret(self.broker, f"{self.path}: broker")


def find_file(path: str | Path | None = None) -> Path:
    """The configuration file: the path given, else $ROWSCORE_CONFIG, else rowscore.toml in this folder."""
    return Path(path or os.environ.get(FILE_VARIABLE) or DEFAULT_FILE)


def read_configuration(path: str | Path | None = None) -> Configuration:
    """Read and check the file.

    Raises:
        ConfigurationError: one line for each mistake: the file, the key, what was expected.
    """
    file = find_file(path)
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"{file}: no such file; `rowscore init` writes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file}: not valid TOML: {error}") from error
    return parse_configuration(content, str(file))


def parse_configuration(content: dict[str, Any], path: str = DEFAULT_FILE) -> Configuration:
    """Check a parsed file; `path` only names it in errors."""
    predictions = content.get("predictions")
    if isinstance(predictions, dict):
        named = {
            name: {**section, "name": name} if isinstance(section, dict) else section
            for name, section in predictions.items()
        }
        content = {**content, "predictions": named}
    try:
        return Configuration.model_validate({**content, "path": path})
    except ValidationError as error:
        lines = dict.fromkeys(_line(path, detail) for detail in _telling(error.errors()))
        raise ConfigurationError("\n".join(lines)) from error


def _telling(details: Sequence[Any]) -> list[Any]:
    """Pydantic's findings without those that follow from others: a list whose only item is wrong is not empty."""
    wrong = [detail["loc"] for detail in details if detail["type"] != "too_short"]
    return [
        detail
        for detail in details
        if detail["type"] != "too_short"
        or not any(loc[: len(detail["loc"])] == detail["loc"] for loc in wrong)
    ]


def _line(path: str, detail: Any) -> str:
    """One of pydantic's findings as one line: file, key, what was expected."""
    skipped = {"SqlModel", "HttpModel", "PythonModel", "str", "literal[False]", "function-after", "[key]"}
    parts = [
        str(part)
        for part in detail["loc"]
        if not str(part).startswith("function-") and str(part) not in skipped
    ]
    message = {
        "extra_forbidden": "unknown key",
        "missing": "is missing",
        "too_short": "must not be empty",
    }.get(detail["type"], detail["msg"].removeprefix("Value error, "))
    got = detail.get("input")
    if detail["type"] not in ("extra_forbidden", "missing", "value_error", "too_short") and not isinstance(
        got, dict
    ):
        message += f" (got {got!r})"
    key = ".".join(parts)
    return f"{path}: {key}: {message}" if key else f"{path}: {message}"
