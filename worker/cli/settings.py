"""The configuration in effect, defaults included, as plain data and as TOML; secrets are never in it."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from worker.sections import duration_text

if TYPE_CHECKING:
    from worker.config import Configuration, Input, Prediction
    from worker.limits import Throttle

HIDDEN = "***"
_REFERENCE = re.compile(r"(\w+ )?\$(\w+|\{\w+\})|file:.+")  # `$NAME`, `Bearer $NAME`, `file:/run/secrets/x`
_PASSWORD = re.compile(r"(://[^:/?#\s]*:)(.*)(?=@)")
_TOKEN = re.compile(r"(https?://)[^/@:\s]+(?=@)")
_PARAMETER = re.compile(
    r"([?&][^=&]*(?:pass|pw|secret|token|key|sig|auth|code|cred)[^=&]*=)[^&#]*", re.IGNORECASE
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def masked(text: str) -> str:
    """A URL without its password, token and secret parameters; references to secrets stay as they are."""
    if _REFERENCE.fullmatch(text):
        return text
    text = _PASSWORD.sub(rf"\1{HIDDEN}", text)
    text = _TOKEN.sub(rf"\1{HIDDEN}", text)
    return _PARAMETER.sub(rf"\1{HIDDEN}", text)


def effective(configuration: Configuration, name: str | None = None) -> dict[str, Any]:
    """Everything that is in effect; None where a value comes from the table (key) or nothing is wanted.

    Args:
        configuration: the file.
        name: that prediction alone.
    """
    names = [key for key, each in configuration.predictions.items() if each.shadow_of is None]
    names = names if name is None else [configuration.prediction(name).name]
    databases = {key: masked(value) for key, value in configuration.databases.items()}
    return {
        "path": configuration.path,
        "database": None if configuration.database is None else masked(configuration.database),
        **({"databases": databases} if databases else {}),
        "broker": masked(configuration.broker),
        "predictions": {each: _prediction(configuration.predictions[each]) for each in names},
    }


def _prediction(prediction: Prediction) -> dict[str, Any]:
    values = {
        field: _value(getattr(prediction, field))
        for field in type(prediction).model_fields
        if field != "name"
    }
    values["throttle"] = _throttle(prediction.throttle)
    values["inputs"] = [_input(item) for item in prediction.inputs]
    values["model"] = _model(prediction.model.model_dump())
    if prediction.shadow is not None:
        values["shadow"] = {**values["shadow"], "model": _model(prediction.shadow.model.model_dump())}
    values["view"] = prediction.view_name or False
    values["state"], values["scored_at"] = prediction.state_column, prediction.scored_at_column
    values["fingerprint"] = prediction.fingerprint_column
    values["verify_every"] = _value(prediction.verified_every or prediction.verify_every)
    return values


def _model(values: dict[str, Any]) -> dict[str, Any]:
    shown = {field: _value(value) for field, value in values.items()}
    for field in ("aurora", "expression"):
        if shown.get(field, ...) is None:  # not set, and without a default: most functions are made by hand
            del shown[field]
    for address in {"http", "url", "endpoint"} & shown.keys():
        shown[address] = masked(shown[address]) if shown[address] is not None else None
    if "headers" in shown:
        shown["headers"] = {key: _hidden(text) for key, text in shown["headers"].items()}
    if "api_key" in shown:
        shown["api_key"] = _hidden(shown["api_key"])
    return shown


def _hidden(text: str) -> str:
    return text if not text or _REFERENCE.fullmatch(text) else HIDDEN


def model_sections(live: Prediction, shadow: Prediction) -> list[str]:
    """What both sections say of their models, as the file has to have it; secrets stay hidden."""
    more = [
        key
        for key in ("max_rows_per_batch", "concurrency", "daily_budget")
        if getattr(live, key) != getattr(shadow, key)
    ]
    lines = []
    for prediction, where in ((live, live.name), (shadow, f"{live.name}.shadow")):
        model = prediction.model.model_dump(exclude_unset=True, exclude_none=True)
        shown = {key: value for key, value in _model({"headers": {}, **model}).items() if key in model}
        values: dict[str, Any] = {"model": shown}
        if prediction.version is not None:
            short = prediction.shadow_of is not None
            values["version"] = prediction.version_value if short else _value(prediction.version)
        values |= {key: _value(getattr(prediction, key)) for key in more}
        lines += [f"[predictions.{_key(live.name)}{where.removeprefix(live.name)}]", *_assignments(values)]
    return lines


def _throttle(throttle: Throttle) -> dict[str, Any]:
    """The limits that hold; one that a default sets and the file does not want is `false`."""
    shown = {field: _value(getattr(throttle, field)) for field in type(throttle).model_fields}
    shown["replicas"] = [masked(url) for url in throttle.replicas]
    defaults = {field: info.default for field, info in type(throttle).model_fields.items()}
    return {
        field: False if value is None and defaults[field] is not None else value
        for field, value in shown.items()
    }


def _input(item: Input) -> Any:
    if item.name == item.column and item.default is None:
        return item.column
    values = {"name": item.name, "column": item.column, "sql": item.sql, "default": item.default}
    return {field: value for field, value in values.items() if value is not None}


def _value(value: Any) -> Any:
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, dict):
        return {key: _value(item) for key, item in value.items()}
    return value.model_dump() if hasattr(value, "model_dump") else value


def as_toml(configuration: Configuration, name: str | None = None) -> str:
    """The same as a file that rowscore would read back; what has no value is a comment."""
    values = effective(configuration, name)
    predictions, databases = values.pop("predictions"), values.pop("databases", {})
    lines = [f"# {values.pop('path')}, with every default written out", *_assignments(values)]
    if databases:
        lines += ["", "[databases]", *_assignments(databases)]
    for each, section in predictions.items():
        lines += ["", f"[predictions.{_key(each)}]", *_assignments(section)]
    return "\n".join(lines)


def _assignments(values: dict[str, Any]) -> list[str]:
    comments = {"key": "the table's primary key", "max_rows_per_batch": "the model's own"}
    width = max(len(_key(field)) for field in values)
    return [
        f"{_key(field).ljust(width)} = {_toml(value)}"
        if value is not None
        else f"# {_key(field).ljust(width - 2)} = {comments.get(field, 'not set')}"
        for field, value in values.items()
    ]


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        inside = ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items() if item is not None)
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _key(text: str) -> str:
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)
