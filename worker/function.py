"""The SQL function that a model of kind sql calls: found in the catalogue, its answer mapped to the outputs."""

from __future__ import annotations

from dataclasses import dataclass

import sql
from worker.config import Prediction, SqlModel, split_name
from worker.database import Transaction
from worker.errors import ConfigurationError, MissingObjectError


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


def find_function(transaction: Transaction, prediction: Prediction, where: str) -> Function:
    """The function that `model.sql` names, callable with the configured inputs.

    Raises:
        MissingObjectError: there is none of that name.
        ConfigurationError: it takes another number of arguments, or its answer does not fit the outputs.
    """
    model = prediction.model
    if not isinstance(model, SqlModel):
        raise TypeError("only a model of kind sql has a function")
    dialect = transaction.capabilities.dialect
    schema, name = split_name(model.sql)
    rows = transaction.rows(sql.load(dialect)["find_function"].render(), schema=schema, name=name)
    if not rows:
        raise MissingObjectError(
            f"{where}: there is no function {model.sql} that this role can see; is its schema missing?"
        )
    count = len(prediction.inputs)
    for row in rows:
        names = list(row.argument_names or ())[: row.arguments]
        place = names.index("max_rows_per_batch") if "max_rows_per_batch" in names else None
        wanted = count + (place is not None)
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
        )
    counts = ", ".join(sorted({str(row.arguments) for row in rows}))
    raise ConfigurationError(
        f"{where}: {model.sql} takes {counts} arguments and predictions.{prediction.name}.inputs lists {count}"
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
