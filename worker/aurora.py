"""The DDL of the functions that `apply` makes, from configuration and types: those through which Aurora calls a
service of AWS, and those that compute a configured expression; no I/O.

The syntax is that of AWS's user guide, "Using Amazon Aurora machine learning with Aurora PostgreSQL" and "... Aurora
MySQL". Two things in it are inferred: that COMMENT is taken beside the other characteristics of CREATE FUNCTION on
Aurora MySQL, and that a SQL function may answer `detect_sentiment`'s record as it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from string import Formatter
from typing import Any

import sql
from worker.capabilities import capabilities_of
from worker.config import Input
from worker.function import ANSWER_SUFFIX, TOGETHER, address_of, field_names
from worker.kinds.aurora import BedrockInvocation, ComprehendSentiment, SageMakerEndpoint
from worker.kinds.sql import SqlModel
from worker.materialisation import Materialisation
from worker.names import LONGEST, Mark, Role, digest, fitted, literal

CALLEE_SUFFIX = "_bedrock"  # of the function that a function of ours calls to make its requests


@dataclass(frozen=True, slots=True)
class ServiceObject:
    """A function, or the type that it answers, as `apply` wants it.

    Attributes:
        kind: `function` or `type`.
        signature: how DROP and COMMENT name it.
        mark: whose it is, with the digest of `create`.
        create: the statement that makes it, with the mark in it where no statement adds it.
        replace: the statement that puts it in the place of one with the same arguments; None: there is none.
        names, types, returns: its arguments and answer as the catalogue has them; empty where nobody compares them.
        needs: the service's function that it calls, or is.
    """

    kind: str
    schema: str
    name: str
    signature: str
    mark: Mark
    create: str
    replace: str | None = None
    names: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    returns: str = ""
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument; `expression` is what is sent in its place: itself, or a default where it is NULL."""

    name: str
    type: str
    expression: str


@dataclass(frozen=True, slots=True)
class Node:
    """A part of a request's JSON: an object, an array, an input, a text with inputs in it, or a constant."""

    kind: str
    members: tuple[tuple[Any, Any] | Node, ...] = ()
    value: str = ""


def service_objects(m: Materialisation, *, stand_in: bool = False) -> tuple[ServiceObject, ...]:
    """What has to be there for the prediction's function to call its service, in the order of making.

    None where the prediction's function is not `apply`'s to make: a built-in one, or one that somebody made by hand.

    Args:
        m: the prediction; its model has `aurora` or `expression`.
        stand_in: whether the service's functions are stand-ins, which take texts where the real ones take anything.
    """
    if m.function is None or not m.function.made:
        return ()
    return _Generator(m, stand_in=stand_in).objects()


def request_node(document: Any, quoted: dict[str, str]) -> Node:
    """A request's JSON with its inputs in their places.

    Args:
        document: the parsed template; its texts are format strings, checked before.
        quoted: the SQL expression of each input by its name.
    """
    if isinstance(document, dict):
        members = tuple((name, request_node(item, quoted)) for name, item in document.items())
        return Node("object", members)
    if isinstance(document, list):
        return Node("array", tuple(request_node(item, quoted) for item in document))
    if not isinstance(document, str):
        return Node("constant", value=json.dumps(document))
    parts: list[tuple[bool, str]] = []
    for before, name, _, _ in Formatter().parse(document):
        parts += [(False, before)] if before else []
        parts += [(True, quoted[name])] if name is not None else []
    if len(parts) == 1 and parts[0][0]:
        return Node("input", value=parts[0][1])
    if any(is_input for is_input, _ in parts):
        return Node("text", tuple(parts))
    return Node("constant", value=json.dumps("".join(text for _, text in parts)))


class _Generator:
    """The objects of one prediction."""

    def __init__(self, m: Materialisation, *, stand_in: bool) -> None:
        self._m = m
        self._dialect = m.dialect
        self._statements = sql.load(m.dialect, "aurora")
        self._capabilities = capabilities_of(m.dialect)
        model = m.prediction.model
        assert isinstance(model, SqlModel) and model.made  # noqa: PT018,S101  for mypy
        self._service = model.aurora
        self._expression = model.expression
        self._stand_in = stand_in
        self._schema, self._name = address_of(model.sql, m.table.schema)

    def objects(self) -> tuple[ServiceObject, ...]:
        if self._expression is not None:
            return (self._function("create_expression", expression=self._expression),)
        if isinstance(self._service, SageMakerEndpoint):
            return self._sagemaker()
        if isinstance(self._service, ComprehendSentiment):
            return (self._function("create_comprehend", needs="aws_comprehend.detect_sentiment"),)
        if isinstance(self._service, BedrockInvocation):
            return self._bedrock()
        return (
            self._function(
                "create_embeddings",
                needs="aws_bedrock.invoke_model_get_embeddings",
                request=self._request(),
            ),
        )

    def _sagemaker(self) -> tuple[ServiceObject, ...]:
        if "create_answer_type" not in self._statements:
            limit = self._m.prediction.max_rows_per_batch
            return (self._function("create_sagemaker", needs=self._alias, max_rows_per_batch=limit),)
        composite = (self._answer_type(),) if len(self._m.outputs) > 1 else ()
        needs = "aws_sagemaker.invoke_endpoint"
        return (*composite, self._function("create_sagemaker", needs=needs))

    @property
    def _alias(self) -> str:
        """Where functions are aliases of a service's, no function of the service's own is looked up."""
        return "alias"

    def _bedrock(self) -> tuple[ServiceObject, ...]:
        if "create_bedrock_caller" not in self._statements:
            request = self._request()
            return (self._function("create_bedrock", needs="aws_bedrock.invoke_model", request=request),)
        assert isinstance(self._service, BedrockInvocation)  # noqa: S101  for mypy
        timeout = self._service.timeout
        limit = round(timeout.total_seconds() * 1000) if timeout else None
        if self._service.request is None and self._service.answer is None:
            return (self._function("create_bedrock", needs=self._alias, timeout_ms=limit),)
        callee = fitted(self._name + CALLEE_SUFFIX, LONGEST)
        path = "$" + "".join(
            f"[{part}]" if part.isdecimal() else f".{part}"
            for part in (self._service.answer or "").split(".")
        )
        return (
            self._function("create_bedrock", needs=self._alias, name=callee, timeout_ms=limit),
            self._function(
                "create_bedrock_caller", callee=self._target(callee), request=self._request(), path=path
            ),
        )

    def _target(self, name: str) -> str:
        return f"{self._quote(self._schema)}.{self._quote(name)}"

    def _quote(self, name: str) -> str:
        return sql.quote(name, self._dialect)

    def _arguments(self) -> tuple[Argument, ...]:
        """The inputs, or all of them as one array where they are too many."""
        function, items = self._m.function, self._m.prediction.inputs
        if function is not None and function.array is not None:
            return (Argument(TOGETHER, function.array, self._quote(TOGETHER)),)
        types = zip(items, self._m.input_types, strict=True)
        return tuple(self._argument(item, input_type) for item, input_type in types)

    def _argument(self, item: Input, input_type: str) -> Argument:
        quoted = self._quote(item.name)
        column = self._m.table.columns[item.column] if item.column is not None else None
        made = self._capabilities.argument_type(input_type, column.type if column is not None else None)
        if column is None or item.default is None:
            return Argument(item.name, made, quoted)
        default = self._capabilities.constant(item.default, made, column.cast_type)
        return Argument(item.name, made, f"COALESCE({quoted}, {default})")

    def _request(self) -> str:
        """The expression of the request's body: made by its template, or the one input as it is."""
        quoted = {argument.name: argument.expression for argument in self._arguments()}
        template = getattr(self._service, "request", None)
        if template is None:
            return next(iter(quoted.values()))
        node = request_node(json.loads(template), quoted)
        return self._statements["request"].show(node=node, text=self._text)

    def _text(self, value: str) -> str:
        return literal(value, self._dialect)

    def _returns(self, *, document: bool = False) -> str:
        """The function's answer; empty where Aurora forbids it, which is refused before."""
        function = self._m.function
        if function is not None and function.fields:
            return function.returns
        output = self._m.outputs[0]
        document = document or self._service is None or isinstance(self._service, BedrockInvocation)
        return self._capabilities.answer_type(output.kind.name, output.cast_type, document=document) or ""

    def _fields(self) -> list[dict[str, str]]:
        """Name and type of each output; a shadow's are named as the live one's, with which they may change places."""
        named = field_names(self._m.prediction)
        types = (output.cast_type for output in self._m.outputs)
        return [{"name": name, "type": cast_type} for name, cast_type in zip(named, types, strict=True)]

    def _answer_type(self) -> ServiceObject:
        name = fitted(self._name + ANSWER_SUFFIX, LONGEST)
        text = self._statements["create_answer_type"].show(
            answer_type=self._target(name), fields=self._fields()
        )
        mark = Mark(self._m.name, Role.MODEL, digest(text))
        return ServiceObject("type", self._schema, name, self._target(name), mark, text)

    def _function(self, statement: str, *, needs: str = "", name: str = "", **extra: Any) -> ServiceObject:
        name = name or self._name
        target, arguments, returns = self._target(name), self._arguments(), self._returns()
        batched = isinstance(self._service, SageMakerEndpoint | ComprehendSentiment)
        show = partial(
            self._statements[statement].show,
            **{
                "target": target,
                "service": self._service,
                "arguments": arguments,
                "returns": returns,
                "fields": self._fields(),
                "stand_in": self._stand_in,
                "together": self._m.function is not None and self._m.function.array is not None,
                "text": self._text,
                **extra,
            },
        )
        plain = show(replace=False, comment="", tag="$$")
        tag = "$$" if plain.count("$$") == 2 else f"${digest(plain)}$"
        if "create_answer_type" not in self._statements:
            mark = Mark(self._m.name, Role.MODEL, digest(plain))
            create = show(replace=False, comment=self._text(str(mark)), tag=tag)
            return ServiceObject("function", self._schema, name, target, mark, create, needs=needs)
        mark = Mark(self._m.name, Role.MODEL, digest(plain))
        outputs = [item["name"] for item in self._fields()] if len(self._m.outputs) > 1 else []
        record = bool(outputs) and isinstance(self._service, ComprehendSentiment)
        names = [argument.name for argument in arguments] + (["max_rows_per_batch"] if batched else [])
        types = [argument.type for argument in arguments] + (["integer"] if batched else [])
        return ServiceObject(
            kind="function",
            schema=self._schema,
            name=name,
            signature=f"{target}({', '.join(types)})",
            mark=mark,
            create=show(replace=False, tag=tag),
            replace=show(replace=True, tag=tag),
            names=tuple([*names, *outputs] if record else names),
            types=tuple(types),
            returns="record" if record else returns,
            needs=needs,
        )
