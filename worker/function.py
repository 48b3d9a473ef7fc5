"""The SQL function that a model of kind sql calls: found in the catalogue, its answer mapped to the outputs.

One that calls a service of Aurora's need not be there yet: it is foreseen as `apply` will make it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sql
from worker.capabilities import capabilities_of
from worker.config import SHADOW_SUFFIX, Prediction
from worker.database import Transaction
from worker.errors import ConfigurationError, MissingObjectError
from worker.kinds.aurora import (
    AuroraService,
    BedrockEmbeddings,
    BedrockInvocation,
    ComprehendSentiment,
    SageMakerEndpoint,
)
from worker.kinds.sql import SqlModel
from worker.names import LONGEST, Role, fitted, read_mark
from worker.sections import split_name

TOGETHER = "features"  # the argument in which more inputs travel than a call has arguments
ANSWER_SUFFIX = "_answer"  # of the type of a function with several outputs
_ARRAYS = {
    "double precision[]": frozenset({"smallint", "integer", "bigint", "real", "double precision", "numeric"})
}


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the database and how its answer becomes outputs.

    Attributes:
        target: its quoted, qualified name.
        fields: for an answer of a composite type the quoted field of each output, in the outputs' order; empty where
            the answer is one scalar.
        batch_size_place: the place (from 0) of its argument `max_rows_per_batch`, which rowscore then passes.
        batch_mode: whether the server may gather calls in a SELECT list into batches (Aurora's aws_ml is installed).
        volatility: `i`, `s` or `v`, as pg_proc has it.
        made: whether `apply` makes it, and keeps it as the configuration has it.
        array: the type of the one argument in which all inputs travel; None where each is an argument.
        trailing: SQL of the arguments after the inputs.
    """

    oid: int
    target: str
    label: str
    returns: str
    fields: tuple[str, ...]
    batch_size_place: int | None
    batch_mode: bool
    executable: bool
    volatility: str
    parallel: str
    cost: float
    language: str
    source: str
    made: bool = False
    array: str | None = None
    trailing: tuple[str, ...] = ()

    @property
    def takes_batch_size(self) -> bool:
        """Whether rowscore passes `max_rows_per_batch` to it."""
        return self.batch_size_place is not None

    @property
    def in_place(self) -> bool:
        """Whether SET may call it: one scalar, and nothing gained by standing in a SELECT list."""
        return not self.fields and not self.batch_mode

    @property
    def free(self) -> bool:
        """Whether calling it again costs nobody money: an immutable function asks no service."""
        return self.volatility == "i"

    def answer(self, alias: str, index: int) -> str:
        """The expression of output number `index` (from 0) over the column `alias` that holds the answer."""
        return f"({alias}).{self.fields[index]}" if self.fields else alias


def address_of(name: str, schema: str) -> tuple[str, str]:
    """Schema and name of a function that a configuration names; beside the table where it says no schema."""
    named, function = split_name(name)
    return named or schema, function


def find_function(
    transaction: Transaction, prediction: Prediction, where: str, schema: str
) -> Function | None:
    """The function that `model.sql` names, callable with the configured inputs; None where `apply` is to make it.

    Args:
        schema: the table's, where a function that calls a service of Aurora's is looked for, too.

    Raises:
        MissingObjectError: there is none of that name.
        ConfigurationError: it takes another number of arguments, or its answer does not fit the outputs.
    """
    model = prediction.model
    if not isinstance(model, SqlModel):
        raise TypeError("only a model of kind sql has a function")
    named, name = split_name(model.sql)
    rows = _named(transaction, named, name)
    if model.made:
        rows = rows or _named(transaction, schema, name)
        if not rows or any(_is_own(row.comment, prediction) for row in rows):
            return None
    if not rows:
        raise MissingObjectError(
            f"{where}: there is no function {model.sql} that this role can see; is its schema missing?"
        )
    count = len(prediction.inputs)
    dialect = transaction.capabilities.dialect
    most = transaction.capabilities.calling.most_inputs
    for row in rows:
        names = list(row.argument_names or ())[: row.arguments]
        place = names.index("max_rows_per_batch") if "max_rows_per_batch" in names else None
        together = most is not None and count > most and row.array is not None
        wanted = (1 if together else count) + (place is not None)
        if not row.variadic and not row.arguments - row.defaults <= wanted <= row.arguments:
            continue
        if row.returns_set:
            raise ConfigurationError(
                f"{where}: {model.sql} returns a set of rows; one answer a row is needed"
            )
        return Function(
            oid=row.oid,
            target=f"{sql.quote(row.schema, dialect)}.{sql.quote(row.name, dialect)}",
            label=f"{row.schema}.{row.name}",
            returns=row.returns,
            fields=_fields(row, prediction, where, dialect),
            batch_size_place=place,
            batch_mode=row.batch_mode,
            executable=row.executable,
            volatility=row.volatility,
            parallel=row.parallel,
            cost=row.cost,
            language=row.language,
            source=row.source,
            array=row.array if together else None,
        )
    counts = ", ".join(sorted({str(row.arguments) for row in rows}))
    raise ConfigurationError(
        f"{where}: {model.sql} takes {counts} arguments and predictions.{prediction.name}.inputs lists {count}"
    )


def _named(transaction: Transaction, schema: str | None, name: str) -> Sequence[Any]:
    statement = sql.load(transaction.capabilities.dialect)["find_function"].render()
    return transaction.rows(statement, schema=schema, name=name)


def _is_own(comment: str | None, prediction: Prediction) -> bool:
    """Whether `apply` made it for this prediction, or for the one with which it may have changed places since."""
    mark = read_mark(comment)
    pair = {prediction.name, prediction.shadow_of}
    if prediction.shadow is not None:
        pair.add(prediction.name + SHADOW_SUFFIX)
    return mark is not None and mark.role is Role.MODEL and mark.prediction in pair


def field_names(prediction: Prediction) -> list[str]:
    """The names that the outputs have in the answer of a function that `apply` makes; the live ones, for a shadow."""
    return [prediction.live_column(name) or name for name in prediction.outputs]


def foresee_function(
    prediction: Prediction, schema: str, outputs: Sequence[Any], types: Sequence[str], dialect: str
) -> Function:
    """The function as `apply` makes it, or the built-in one that needs no making.

    Args:
        schema: the table's.
        outputs: the `worker.materialisation.Output`s.
        types: the inputs' types.
    """
    model = prediction.model
    if not isinstance(model, SqlModel) or not model.made:
        raise TypeError("only a model with `aurora` or `expression` has a function that is made")
    calling = capabilities_of(dialect).calling
    if isinstance(model.aurora, ComprehendSentiment) and calling.built_in_sentiment:
        return _built_in(model.aurora, calling.built_in_sentiment, prediction.max_rows_per_batch)
    address = address_of(model.sql, schema)
    batched = calling.takes_batch_size and isinstance(model.aurora, SageMakerEndpoint | ComprehendSentiment)
    too_many = calling.most_inputs is not None and len(types) > calling.most_inputs
    array = _together(types) if too_many and model.expression is None else None
    place = (1 if array else len(types)) if batched else None
    several = len(outputs) > 1 and calling.composites
    typed = (address[0], fitted(address[1] + ANSWER_SUFFIX, LONGEST))
    return Function(
        oid=0,
        target=".".join(sql.quote(part, dialect) for part in address),
        label=".".join(address),
        returns=".".join(sql.quote(part, dialect) for part in typed) if several else outputs[0].cast_type,
        fields=tuple(sql.quote(name, dialect) for name in field_names(prediction)) if several else (),
        batch_size_place=place,
        batch_mode=calling.aliases or model.aurora is not None or "aws_" in (model.expression or ""),
        executable=True,
        volatility="v",
        parallel="s",
        cost=5000.0 if model.aurora is not None else 100.0,
        language="sql",
        source=model.expression or _source(model.aurora, calling.aliases, prediction.max_rows_per_batch),
        made=True,
        array=array,
    )


def _together(types: Sequence[str]) -> str:
    """The array that holds inputs of all these types: numbers, where all are, else texts."""
    for array, members in _ARRAYS.items():
        if members.issuperset(types):
            return array
    return "text[]"


def _source(service: AuroraService | None, aliases: bool, asked: int | None) -> str:
    """What of the function's text tells which service it calls, and with how many rows, before it is there."""
    if isinstance(service, BedrockInvocation | BedrockEmbeddings):
        return "aws_bedrock_invoke_model" if aliases else "aws_bedrock.invoke_model"
    if isinstance(service, SageMakerEndpoint):
        size = f" MAX_BATCH_SIZE {asked}" if asked else ""
        return f"aws_sagemaker_invoke_endpoint{size}" if aliases else "aws_sagemaker.invoke_endpoint"
    return "aws_comprehend.detect_sentiment"


def _built_in(service: ComprehendSentiment, name: str, asked: int | None) -> Function:
    """Called as it is: within a function of ours it would be called once for each row."""
    label = name + ("_confidence" if service.comprehend == ("confidence",) else "")
    size = (str(asked),) if asked else ()
    return Function(
        oid=0,
        target=label,
        label=label,
        returns="double" if label != name else "varchar",
        fields=(),
        batch_size_place=None,
        batch_mode=True,
        executable=True,
        volatility="v",
        parallel="u",
        cost=1.0,
        language="c",
        source=f"MAX_BATCH_SIZE {asked}" if asked else "",
        trailing=(f"'{service.language}'", *size),
    )


def _fields(row: object, prediction: Prediction, where: str, dialect: str) -> tuple[str, ...]:
    """The composite's field of each output: by name where all names match, else by position."""
    fields = list(getattr(row, "fields", None) or getattr(row, "out_names", None) or ())
    outputs = list(prediction.outputs)
    composite = getattr(row, "returns_kind", "") == "c" or bool(getattr(row, "out_record", False))
    if not composite:
        if len(outputs) > 1:
            raise ConfigurationError(
                f"{where}: the function answers one {getattr(row, 'returns', 'value')} and {len(outputs)} outputs "
                f"are configured; return a composite type with a field for each"
            )
        return ()
    if set(outputs) <= set(fields):
        return tuple(sql.quote(name, dialect) for name in outputs)
    if len(outputs) > len(fields):
        raise ConfigurationError(
            f"{where}: the answer has {len(fields)} fields and {len(outputs)} outputs are configured"
        )
    return tuple(sql.quote(name, dialect) for name in fields[: len(outputs)])
