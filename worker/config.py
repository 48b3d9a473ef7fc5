"""rowscore.toml, read and checked: what the user asked for, as plain frozen data; it touches no database."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from worker.errors import ConfigurationError
from worker.kinds import KINDS, ModelSection
from worker.kinds.aurora import SERVICES
from worker.kinds.sql import SqlModel
from worker.limits import Throttle
from worker.options import Budget, parse_budget
from worker.secret import resolve_secret
from worker.sections import Count, Duration, Identifier, Section, TableName, checked_identifier
from worker.states import RunKind

SHORTEST_AGE = timedelta(hours=1)
DEFAULT_FILE = "rowscore.toml"
FILE_VARIABLE = "ROWSCORE_CONFIG"
# SQL that reads the clock or a die: a fingerprint of it would be another one each time.
_UNSTEADY = re.compile(
    r"\b(?:current_(?:date|time|timestamp)|local(?:time|timestamp)|utc_(?:date|time|timestamp)|"
    r"(?:now|curdate|curtime|sysdate|unix_timestamp|clock_timestamp|statement_timestamp|"
    r"transaction_timestamp|random|rand|uuid|gen_random_uuid)\s*\()",
    re.IGNORECASE,
)
VERIFY_EVERY = timedelta(days=1)
LONGEST_NAME = 40  # characters of a prediction's
SHADOW_SUFFIX = "_shadow"  # of its name, and of the columns that it has beside the live one's
_OF_A_MODEL = ("max_rows_per_batch", "concurrency", "daily_budget")  # what changes places with a model


class Input(Section):
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


class Version(Section):
    """The model version asked for, and the column that stamps each scored row with it."""

    column: Identifier
    value: str


class Shadow(Section):
    """What a second model that is tried beside the live one has of its own; all else is the live one's."""

    model: ModelSection
    version: str | None = None
    max_rows_per_batch: Count | None = None
    concurrency: Annotated[int, Field(ge=1, le=64, strict=True)] | None = None
    daily_budget: str | None = None


class Prediction(Section):
    """One `[predictions.<name>]` table: which rows, which inputs, which model, which outputs, and how to run it."""

    name: str
    table: TableName
    inputs: tuple[Input, ...] = Field(min_length=1)
    outputs: dict[Identifier, str] = Field(min_length=1)
    model: ModelSection
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
    on_input_change: Literal["trigger", "fingerprint", "ignore"] = "trigger"
    fingerprint: Identifier | None = None
    verify_every: Duration | Literal[False] | None = None
    max_rows_per_batch: Count | None = None
    max_rows_per_claim: Count = 10_000
    max_lock_time: Duration = timedelta(milliseconds=500)
    max_run_time: Annotated[Duration, Field(le=timedelta(seconds=60))] = timedelta(seconds=25)
    lease_time: Annotated[Duration, Field(ge=timedelta(seconds=1))] = timedelta(seconds=60)
    retry_after: Duration = timedelta(minutes=5)
    max_attempts: Count = 5
    concurrency: Annotated[int, Field(ge=1, le=64, strict=True)] = 4
    workers: Annotated[int, Field(ge=1, le=64, strict=True)] = 2
    backfill_workers: Annotated[int, Field(ge=1, le=64, strict=True)] = 2
    daily_budget: str | None = None
    max_age: Duration | None = None
    throttle: Throttle = Throttle()
    shadow: Shadow | None = None
    _shadow_of: str | None = PrivateAttr(None)

    @field_validator("key", mode="before")
    @classmethod
    def _one_column_key(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("daily_budget")
    @classmethod
    def _is_budget(cls, value: str | None) -> str | None:
        if value is not None:
            parse_budget(value)
        return value

    @field_validator("max_age")
    @classmethod
    def _not_too_short(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and value < SHORTEST_AGE:
            raise ValueError(
                'expected an hour or more, such as "30d": rows that are too old are looked for all over the table, '
                "and at most once an hour"
            )
        return value

    @field_validator("name")
    @classmethod
    def _short_name(cls, value: str) -> str:
        if not re.fullmatch(rf"[a-z][a-z0-9_]{{0,{LONGEST_NAME - 1}}}", value):
            raise ValueError("a prediction's name is 1 to 40 of a-z, 0-9 and _, and begins with a letter")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Prediction:
        self.check()
        return self

    def check(self) -> None:
        """That its keys go together.

        Raises:
            ValueError: which do not, and why.
        """
        names = [item.name for item in self.inputs]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"input {sorted(twice)[0]!r} is listed twice")
        own = self.own_columns
        if twice := {name for name in own if own.count(name) > 1}:
            raise ValueError(
                f"column {sorted(twice)[0]!r} has two roles among outputs, state, scored_at"
                f"{', version and fingerprint' if self.fingerprint_column else ' and version'}"
            )
        if both := {item.column for item in self.inputs} & set(own):
            raise ValueError(
                f"column {sorted(map(str, both))[0]!r} is an input and is written by rowscore as well"
            )
        if self.daily_cap is not None and self.daily_cap.unit == "money" and not self.model.priced:
            raise ValueError(
                "daily_budget is money, and the model has neither cost_per_call nor cost_per_row"
            )
        _check_fingerprint(self)
        if self.live and not isinstance(self.model, SqlModel):
            raise ValueError("live = true needs a model of kind sql: the view itself calls it")
        self.model.check(names, self.outputs)

    @property
    def shadow_of(self) -> str | None:
        """The name of the live prediction that this one is the shadow of, or None."""
        return self._shadow_of

    def live_column(self, output: str) -> str | None:
        """The live prediction's output column beside this shadow's, or None for a prediction that is no shadow."""
        return None if self._shadow_of is None else output.removesuffix(SHADOW_SUFFIX)

    @property
    def daily_cap(self) -> Budget | None:
        """The daily budget, read."""
        return None if self.daily_budget is None else parse_budget(self.daily_budget)

    @property
    def refresh_every(self) -> timedelta | None:
        """The time between two rescores by `max_age`: a thirtieth of it, an hour at least, so rows are hardly older."""
        return None if self.max_age is None else max(self.max_age / 30, SHORTEST_AGE)

    def most_workers(self, kind: RunKind) -> int:
        """How many workers may score at once: rows that come, and old ones, have workers of their own."""
        return self.backfill_workers if kind.once else self.workers

    @property
    def state_column(self) -> str:
        """The column that holds the row's state."""
        return self.state or f"{self.name}_state"

    @property
    def scored_at_column(self) -> str:
        """The column that holds the time of the row's last scoring."""
        return self.scored_at or f"{self.name}_scored_at"

    @property
    def own_columns(self) -> list[str]:
        """The columns that rowscore writes, one named twice where it is asked to have two roles."""
        more = self.version.column if self.version else None, self.fingerprint_column
        return [*self.outputs, self.state_column, self.scored_at_column, *filter(None, more)]

    @property
    def fingerprint_column(self) -> str | None:
        """The column that keeps the fingerprint of the inputs that were scored, or None where none is kept."""
        named = f"{self.name}_fingerprint" if self.on_input_change == "fingerprint" else None
        return self.fingerprint or named

    @property
    def verified_every(self) -> timedelta | None:
        """How often all rows are verified by themselves, or None: by hand alone."""
        if self.verify_every is None:
            return VERIFY_EVERY if self.on_input_change == "fingerprint" else None
        return self.verify_every or None

    @property
    def view_name(self) -> str | None:
        """The view over scored and unscored rows, or None where the user wants none."""
        if self.view is False:
            return None
        return self.view or _suffixed(self.table, "_scored")

    @property
    def definition(self) -> dict[str, Any]:
        """What decides which value lands in which column: workers that disagree on it must not share rows."""
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
                *([self.fingerprint_column] if self.fingerprint_column else []),
            ],
            "model": self.model.definition,
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


def _check_fingerprint(prediction: Prediction) -> None:
    """That what is said about fingerprints goes together, and that the same row always has the same one."""
    if prediction.fingerprint is not None and prediction.on_input_change == "ignore":
        raise ValueError('fingerprint needs on_input_change = "fingerprint" or "trigger", not "ignore"')
    if prediction.fingerprint_column is None:
        if prediction.verify_every:
            raise ValueError(
                'verify_every needs a fingerprint: set on_input_change = "fingerprint", or name a column with '
                'fingerprint = "..."'
            )
        return
    expressions = {item.name: item.sql or "" for item in prediction.inputs}
    for name, expression in {**expressions, "where": prediction.where or ""}.items():
        if found := _UNSTEADY.search(expression):
            label = "where" if expression == prediction.where else f"input {name!r}"
            raise ValueError(
                f"{label} has {found[0].rstrip(' (')!r} in it, so its fingerprint would be another one each time "
                "and each row be scored anew; do without it, or keep no fingerprint"
            )


def shadow_of(live: Prediction) -> Prediction:
    """The shadow that a prediction asks for, as a prediction of its own: over the same rows, into other columns.

    It scores no row again because of its age: nobody asked for that.

    Raises:
        ValueError: its name or a column's is too long, or its keys do not go together; it names the section.
    """
    own, where = live.shadow, f"predictions.{live.name}.shadow"
    assert own is not None  # noqa: S101 - who calls this has seen it
    name = live.name + SHADOW_SUFFIX
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"{where}: it is a prediction named {name}, longer than {LONGEST_NAME}; shorten {live.name}"
        )
    if own.version is None and live.version is not None:
        raise ValueError(f'{where}: expected version = "...", since predictions.{live.name} has a version')
    if own.version is not None and live.version is None:
        raise ValueError(
            f"{where}.version: predictions.{live.name} has no version section, which names a column"
        )
    version = None
    if live.version is not None and own.version is not None:
        version = Version(column=live.version.column + SHADOW_SUFFIX, value=own.version)
    try:
        outputs = {
            checked_identifier(f"{column}{SHADOW_SUFFIX}"): kind for column, kind in live.outputs.items()
        }
        shadow = live.model_copy(
            update={
                "name": name,
                "outputs": outputs,
                "model": own.model,
                "version": version,
                "state": None,
                "scored_at": None,
                "fingerprint": live.fingerprint and live.fingerprint + SHADOW_SUFFIX,
                "view": False,
                "live": False,
                "shadow": None,
                "max_age": None,
                **{key: value for key in _OF_A_MODEL if (value := getattr(own, key)) is not None},
            }
        )
        shadow.check()
        if shadow.daily_budget is not None:
            parse_budget(shadow.daily_budget)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    shadow._shadow_of = live.name
    models = [model for model in (live.model, shadow.model) if isinstance(model, SqlModel)]
    if len({model.sql for model in models}) < len({(model.aurora, model.expression) for model in models}):
        raise ValueError(
            f"{where}.model: {shadow.model.kind} = {models[0].sql!r} is the live model's function; name another"
        )
    if both := set(shadow.own_columns) & set(live.own_columns):
        raise ValueError(f"{where}: column {sorted(both)[0]!r} would be written by both")
    return shadow


def forgotten_shadow(live: Prediction) -> Prediction:
    """What `remove` needs of a shadow that may be in the database and is no longer in the file: its name and table."""
    name = live.name + SHADOW_SUFFIX
    found = live.model_copy(update={"name": name, "view": False, "live": False, "shadow": None})
    found._shadow_of = live.name
    return found


def swapped(live: Prediction, shadow: Prediction) -> tuple[Prediction, Prediction]:
    """The two after their models have changed places, with what belongs to a model.

    Raises:
        ValueError: the live prediction would not be one with the shadow's model.
    """
    found = []
    for here, there in ((live, shadow), (shadow, live)):
        version = here.version and Version(column=here.version.column, value=there.version_value)
        taken = {key: getattr(there, key) for key in ("model", *_OF_A_MODEL)}
        found.append(here.model_copy(update={**taken, "version": version}))
        found[-1].check()
    return found[0], found[1]


def _suffixed(table: str, suffix: str) -> str:
    return f'{table[:-1]}{suffix}"' if table.endswith('"') else table + suffix


class Configuration(Section):
    """The whole file. Databases and the broker are kept as written; `database_url` and `broker_url` resolve them."""

    path: str
    database: str | None = None
    databases: dict[str, str] = Field(default_factory=dict)
    broker: str = "$CELERY_BROKER_URL"
    throttle: Throttle = Throttle()
    predictions: dict[str, Prediction] = Field(min_length=1)

    @property
    def folder(self) -> Path:
        """Where relative paths in the file begin."""
        return Path(self.path).parent

    @model_validator(mode="after")
    def _databases_exist(self) -> Configuration:
        for name, prediction in self.predictions.items():
            if prediction.database is not None and prediction.database not in self.databases:
                raise ValueError(f"predictions.{name}.database: [databases] has no {prediction.database!r}")
            if prediction.database is None and self.database is None:
                raise ValueError('database is missing, such as database = "$DATABASE_URL"')
        return self

    @model_validator(mode="after")
    def _throttle_all(self) -> Configuration:
        for name, prediction in self.predictions.items():
            limits = prediction.throttle.over(self.throttle)
            self.predictions[name] = prediction.model_copy(update={"throttle": limits})
        return self

    @model_validator(mode="after")
    def _add_shadows(self) -> Configuration:
        expanded: dict[str, Prediction] = {}
        for name, prediction in self.predictions.items():
            expanded[name] = prediction
            if prediction.shadow is None:
                continue
            shadow = shadow_of(prediction)
            if shadow.name in self.predictions:
                raise ValueError(
                    f"predictions.{name}.shadow: it is a prediction named {shadow.name}, and the file has another of "
                    f"that name; rename that one"
                )
            expanded[shadow.name] = shadow
        self.predictions.clear()
        self.predictions.update(expanded)
        return self

    def prediction(self, name: str | None = None) -> Prediction:
        """The prediction of that name, or where no name is given the only one; a shadow does not count."""
        if name is None:
            live = [item for item in self.predictions.values() if item.shadow_of is None]
            if len(live) == 1:
                return live[0]
            raise ConfigurationError(f"which prediction? {self.path} has {', '.join(self.predictions)}")
        if name not in self.predictions:
            raise ConfigurationError(
                f"{self.path} has no prediction {name!r}; it has {', '.join(self.predictions)}"
            )
        return self.predictions[name]

    def pair(self, name: str | None = None) -> tuple[Prediction, Prediction]:
        """The live prediction of that name, or of that shadow's, and its shadow.

        Raises:
            ConfigurationError: it has none.
        """
        asked = self.prediction(name)
        live = asked if asked.shadow_of is None else self.predictions[asked.shadow_of]
        if live.shadow is None:
            raise ConfigurationError(
                f"{self.path}: predictions.{live.name} has no shadow; a section [predictions.{live.name}.shadow] names "
                f"the model that is tried beside it"
            )
        return live, self.predictions[live.name + SHADOW_SUFFIX]

    def database_url(self, prediction: Prediction) -> str:
        """The prediction's database URL with its secrets resolved; never print it."""
        if prediction.database is not None:
            where = f"{self.path}: databases.{prediction.database}"
            return resolve_secret(self.databases[prediction.database], where)
        return resolve_secret(self.database or "", f"{self.path}: database")

    def replica_urls(self, prediction: Prediction) -> list[str]:
        """The URLs of `throttle.replicas` with their secrets resolved; never print them."""
        where = f"{self.path}: throttle.replicas"
        return [resolve_secret(url, where) for url in prediction.throttle.replicas]

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
    skipped = {kind.__name__ for kind in (*KINDS.values(), *SERVICES.values())}
    skipped |= {"str", "literal[False]", "function-after", "[key]"}
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
