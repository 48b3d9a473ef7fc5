"""A JSON schema that answers are asked for in, and checked against; it calls nobody."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from worker.errors import ConfigurationError, RowFaultError
from worker.kinds.openai import check_properties, takes_whole
from worker.models import jsonformat
from worker.models.protocol import Answer
from worker.models.shapes import Outputs

_LONGEST_MESSAGE = 200


class AnswerSchema:
    """The schema of a section.

    Args:
        source: the schema, or `file:` and a path.
        outputs: the outputs' SQL types by name: properties of the answer; a single json or jsonb takes it whole.
        folder: where a relative path begins.
        where: the key's name in messages.

    Attributes:
        response_format: how OpenAI's API is asked to keep to it.

    Raises:
        ConfigurationError: it cannot be read, or is no JSON schema.
    """

    def __init__(
        self, source: Mapping[str, Any] | str, outputs: Mapping[str, str], folder: Path, where: str
    ) -> None:
        schema = _read(source, folder, where) if isinstance(source, str) else dict(source)
        try:
            check_properties(schema, outputs)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        self._validator = _validator(schema, where)
        self._names = None if takes_whole(outputs) else tuple(outputs)
        self._outputs = Outputs(outputs)
        self.response_format = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": is_strict(schema), "schema": schema},
        }

    def answer(self, text: str) -> Answer:
        """The values of an answer.

        Raises:
            RowFaultError: it is not JSON, or not as the schema has it.
        """
        value = jsonformat.parse_text(text)
        try:
            error = next(self._validator.iter_errors(value), None)
        except RecursionError:
            raise RowFaultError("the model's answer is nested too deep") from None
        if error is not None:
            place = ".".join(map(str, error.absolute_path))
            message = f"{place}: {error.message}" if place else error.message
            raise RowFaultError(
                f"the model's answer is not as json_schema has it: {message[:_LONGEST_MESSAGE]}"
            )
        if self._names is None:
            return (value,)
        exact = jsonformat.parse_text(text, exact=True) if self._outputs.exact else value
        missing = [name for name in self._names if name not in exact]
        if missing:
            raise RowFaultError(f"the model's answer has no {missing[0]!r}")
        return self._outputs.of_values([exact[name] for name in self._names])


def is_strict(schema: Any) -> bool:
    """Whether OpenAI takes a schema as strict: every object requires all of its properties and allows no others."""
    if isinstance(schema, list):
        return all(map(is_strict, schema))
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        names = set(properties or ())
        if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != names:
            return False
    return all(is_strict(value) for name, value in schema.items() if name not in ("enum", "const", "default"))


def _read(source: str, folder: Path, where: str) -> dict[str, Any]:
    path = folder / source.removeprefix("file:")
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{where}: cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigurationError(f"{where}: {path} is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise ConfigurationError(f"{where}: {path} is no JSON schema: it is no object")
    return schema


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield reference
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _validator(schema: dict[str, Any], where: str) -> Any:
    try:
        import jsonschema  # noqa: PLC0415 - most models need neither
        import referencing.jsonschema  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            f"{where}: answers are checked with the package jsonschema: pip install 'rowscore[openai]'"
        ) from error
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ConfigurationError(
            f"{where}: it is no JSON schema: {error.message[:_LONGEST_MESSAGE]}"
        ) from None
    resource = referencing.Resource.from_contents(
        schema, default_specification=referencing.jsonschema.DRAFT202012
    )
    resolver = referencing.Registry().resolver_with_root(resource)
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except referencing.exceptions.Unresolvable:
            raise ConfigurationError(
                f"{where}: {reference} is not in it; nothing is looked for on the network"
            ) from None
    return kind(schema, registry=referencing.Registry())
