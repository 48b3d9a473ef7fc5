"""A prediction resolved against its table: what every statement needs to know, in one frozen value; no I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from sqlalchemy.exc import DBAPIError

import sql
from worker.answers import OutputKind, OutputType
from worker.capabilities import Capabilities, Packing, capabilities_of
from worker.config import Input, Prediction
from worker.database import Transaction, one_line
from worker.errors import ConfigurationError, ConnectionFailedError, MissingObjectError, PrivilegeError
from worker.function import Function, find_function, foresee_function
from worker.kinds.base import CalledModel
from worker.kinds.sql import SqlModel
from worker.names import digest, index_name, literal
from worker.options import Options
from worker.sections import split_name
from worker.states import RowState, RunKind
from worker.table import Column, Table, read_table


@dataclass(frozen=True, slots=True)
class Output:
    """One output column.

    Attributes:
        type: its SQL type as the table has it, or as asked for while it is not there.
        cast_type: the same without length or precision.
        kind: how answers are checked.
        sent: the SQL type that its answers travel in.
    """

    name: str
    type: str
    cast_type: str
    kind: OutputType
    sent: str

    @property
    def cast(self) -> bool:
        """Whether what is sent needs a cast; text into varchar(10) must not have one: it would truncate."""
        return self.sent == "text" and self.kind.kind is not OutputKind.TEXT


@dataclass(frozen=True, slots=True)
class Kept:
    """The fingerprint that is kept with each row that was scored, as one whole number.

    Its lower 40 bits are the fingerprint, so one change in 10**12 is overlooked; above them stands which definition of
    inputs and `where` it is of, so that another definition makes rows unknown and none of them changed.

    Attributes:
        column: where it is.
        expression: what it is for a row as that stands.
        sent: what it is for a row whose fingerprint travels with its answer, as `rowscore$f` of `v`.
        first, last: the numbers of this definition.
    """

    column: str
    expression: str
    sent: str
    first: int
    last: int


_KEPT_BITS = 40
_MOST_PACKED = 1600  # columns; a SELECT has at most 1,664


@dataclass(frozen=True)
class Materialisation:
    """A prediction, the table that it fills, and the SQL between them.

    The prediction's columns live in `table` itself; a separate table for predictions would come in here, as a second
    relation that `render` names, and nowhere else.

    Attributes:
        ends_walks: whether the upper bound of a row comparison ends an index walk; see `Capabilities.ends_walks`.
        only: a run's own condition: rows for which it does not hold are left as they are.
        outdated: of that the part which the guarded write checks again: scored by another version, or long ago.
    """

    prediction: Prediction
    table: Table
    key: tuple[Column, ...]
    outputs: tuple[Output, ...]
    input_types: tuple[str, ...]
    function: Function | None
    dialect: str
    ends_walks: bool = True
    only: str | None = None
    outdated: str | None = None

    @property
    def name(self) -> str:
        """The prediction's name."""
        return self.prediction.name

    @cached_property
    def target(self) -> str:
        """The table, quoted and qualified."""
        return f"{sql.quote(self.table.schema, self.dialect)}.{sql.quote(self.table.name, self.dialect)}"

    @cached_property
    def inputs(self) -> tuple[tuple[str, str], ...]:
        """Each input's name and its SQL expression over the table's own column names, unqualified."""
        return tuple((item.name, self._expression(item)) for item in self.prediction.inputs)

    def _expression(self, item: Input) -> str:
        if item.sql is not None:
            return f"({item.sql})"
        column = sql.quote(item.column or "", self.dialect)
        if item.default is None:
            return column
        there = self.table.columns[item.column or ""]
        default = capabilities_of(self.dialect).constant(item.default, there.type, there.cast_type)
        return f"COALESCE({column}, {default})"

    @cached_property
    def read_inputs(self) -> tuple[str, ...]:
        """The inputs in a form that the driver loads."""
        read = capabilities_of(self.dialect).read_expression
        pairs = zip(self.inputs, self.input_types, strict=True)
        return tuple(read(expression, sql_type) for (_, expression), sql_type in pairs)

    @cached_property
    def packings(self) -> tuple[Packing, ...] | None:
        """How the columns of a read are packed: key, fingerprint, inputs; None where it is made row by row."""
        packing = capabilities_of(self.dialect).packing
        read = zip(self.inputs, self.read_inputs, self.input_types, strict=True)
        types = ["bigint" if key.native else "text" for key in self.key]
        types += [self.fingerprint[1]]
        types += ["text" if expression != plain else sql_type for (_, plain), expression, sql_type in read]
        found = [each for each in map(packing, types) if each is not None]
        return tuple(found) if len(found) == len(types) <= _MOST_PACKED else None

    @cached_property
    def definition_hash(self) -> str:
        """The prediction's, computed once: each transaction asks for it."""
        return self.prediction.definition_hash

    @cached_property
    def parsed_inputs(self) -> tuple[int, ...]:
        """The places of the inputs that are JSON, where the driver answers its text."""
        if not capabilities_of(self.dialect).json_as_text:
            return ()
        columns = self.table.columns
        types = zip(self.prediction.inputs, self.input_types, strict=True)
        return tuple(
            place
            for place, (item, sql_type) in enumerate(types)
            if "json" in (sql_type, columns[item.column].type if item.column is not None else "")
        )

    @cached_property
    def boolean_inputs(self) -> tuple[int, ...]:
        """The places of the boolean columns that the driver answers as numbers, where the model has words for them."""
        capabilities, model = capabilities_of(self.dialect), self.prediction.model
        named = isinstance(model, CalledModel) and model.encoding.booleans is not None
        if not named or not capabilities.booleans_as_numbers:
            return ()
        types = [
            self.table.columns[item.column].type if item.column else "" for item in self.prediction.inputs
        ]
        return tuple(
            place
            for place, sql_type in enumerate(types)
            if capabilities.output_type(sql_type, "", None).kind is OutputKind.BOOLEAN
        )

    @cached_property
    def versioned(self) -> bool:
        """Whether the row's own version tells that its inputs are those that were scored.

        It costs nothing (0.7 µs a row less than a fingerprint of 20 columns), but says "changed" of any UPDATE: then
        the worker compares the inputs themselves (`rows.write`), which it has only where it calls the model. An
        expression may depend on more than the row.
        """
        calls_here = not isinstance(self.prediction.model, SqlModel)
        plain = all(item.column is not None for item in self.prediction.inputs) and not self.prediction.where
        return calls_here and plain and self.table.versioned

    @cached_property
    def held(self) -> tuple[str, ...]:
        """Columns that the server would move in every UPDATE, so that rowscore's set them to themselves."""
        return tuple(column.name for column in self.table.columns.values() if column.moves)

    @cached_property
    def fingerprint(self) -> tuple[str, str]:
        """The expression that tells whether a row's inputs are still those that were scored, and its type.

        For the guard alone: the row's version stands in for it where it may. What is kept is `kept`.
        """
        version = capabilities_of(self.dialect).row_version
        if self.versioned and version is not None:
            return version
        return self._of_inputs(capabilities_of(self.dialect).fingerprint)

    @cached_property
    def kept(self) -> Kept | None:
        """The fingerprint that each write of a prediction keeps, or None where none is configured."""
        column = self.prediction.fingerprint_column
        if column is None:
            return None
        capabilities = capabilities_of(self.dialect)
        expression, kind = self._of_inputs(capabilities.lasting_fingerprint)
        # Which definition, in the 23 bits that leave the number positive.
        first = int(digest(expression, *self.input_types), 16) % 2**23 << _KEPT_BITS
        sent = f"v.{sql.quote('rowscore$f', self.dialect)}"
        return Kept(
            column,
            f"{capabilities.folded(expression, kind)} + {first}",
            f"{capabilities.folded(sent, kind)} + {first}",
            first,
            first + 2**_KEPT_BITS - 1,
        )

    def _of_inputs(self, fingerprint: Callable[..., tuple[str, str]]) -> tuple[str, str]:
        """A fingerprint over the inputs and whether `where` holds, and its type."""
        parts = [expression for _, expression in self.inputs]
        if self.prediction.where:
            parts.append(f"(({self.prediction.where}) IS TRUE)")
        plain = [
            self.table.columns[item.column] for item in self.prediction.inputs if item.column is not None
        ]
        deterministic = all(column.deterministic for column in plain)
        return fingerprint(parts, self.input_types, deterministic=deterministic)

    @cached_property
    def context(self) -> dict[str, Any]:
        """What the templates may speak of."""
        prediction = self.prediction
        expression, fingerprint_type = self.fingerprint
        return {
            "table": self.target,
            "keys": self.key,
            "inputs": self.inputs,
            "read_inputs": self.read_inputs,
            "packed": False,  # a read's rows are asked for as rows
            "packings": self.packings,
            "outputs": self.outputs,
            "state": prediction.state_column,
            "scored_at": prediction.scored_at_column,
            "version": prediction.version.column if prediction.version else None,
            "where": prediction.where,
            "only": self.only,
            "outdated": self.outdated,
            "lower": False,  # a run may have a first key
            "fingerprint": expression,
            "fingerprint_type": fingerprint_type,
            "versioned": self.versioned,
            "kept": self.kept,
            "verified": None,  # a statement is about rows in one state, not about those that changed unseen
            "function": self.function,
            "max_rows_per_batch": prediction.max_rows_per_batch,
            "states": RowState,
            "pending_index": index_name(prediction.name),
            "key_index": self.table.index_of(self.key),
            "held": self.held,
            "ends_walks": self.ends_walks,
            "locked": False,  # a statement is about a window, not about rows that :rows names and are ours already
        }

    def render(self, statement: str, **extra: Any) -> str:
        """A named statement for the driver; rendered once for each `extra`, since a batch runs twenty of them."""
        asked = (statement, *sorted(extra.items()))
        try:
            return self._rendered[asked]
        except KeyError:
            text = self._rendered[asked] = sql.load(self.dialect)[statement].render(
                **{**self.context, **extra}
            )
        except TypeError:  # a list among the extras: asked once, at start-up
            text = sql.load(self.dialect)[statement].render(**{**self.context, **extra})
        return text

    @cached_property
    def _rendered(self) -> dict[tuple[Any, ...], str]:
        return {}

    def show(self, statement: str, **extra: Any) -> str:
        """A named statement for people, and for DDL."""
        return sql.load(self.dialect)[statement].show(**{**self.context, **extra})


def resolve(transaction: Transaction, prediction: Prediction) -> Materialisation:
    """Look the prediction's table, key, columns and function up.

    Output columns need not be there yet: `apply` makes them.

    Raises:
        ConfigurationError: a column is missing or the table has no usable key; it names the configuration's key.
        MissingObjectError: there is no such table, function or output type.
    """
    where = f"predictions.{prediction.name}"
    schema, name = split_name(prediction.table)
    table = read_table(transaction, schema, name, f"{where}.table")
    key = table.choose_key(prediction.key, f"{where}.key")
    for item in prediction.inputs:
        if item.column is not None:
            table.column(item.column, f"{where}.inputs")
    if prediction.arrived_at is not None:
        table.column(prediction.arrived_at, f"{where}.arrived_at")
    outputs = tuple(
        _output(
            transaction, table, prediction.live_column(column), column, sql_type, f"{where}.outputs.{column}"
        )
        for column, sql_type in prediction.outputs.items()
    )
    function = None
    if isinstance(prediction.model, SqlModel):
        function = find_function(transaction, prediction, f"{where}.model.sql", table.schema)
    unknown = ("unknown",) * len(prediction.inputs)
    capabilities = transaction.capabilities
    ends_walks = capabilities.ends_walks(transaction.connection)
    draft = Materialisation(
        prediction, table, key, outputs, unknown, function, capabilities.dialect, ends_walks
    )
    types = _input_types(transaction, draft)
    if function is None and isinstance(prediction.model, SqlModel):
        function = foresee_function(prediction, table.schema, outputs, types, capabilities.dialect)
    return replace(draft, input_types=types, function=function)


def _input_types(transaction: Transaction, draft: Materialisation) -> tuple[str, ...]:
    """The type of each input, as the server itself parses it; an expression that it refuses is named."""
    where = f"predictions.{draft.name}"
    named = [(f"{where}.inputs: {name}", expression) for name, expression in draft.inputs]
    if draft.prediction.where:
        named.append((f"{where}.where", f"(({draft.prediction.where}) IS TRUE)"))
    for label, expression in named:
        if "(" in expression:  # a plain column was checked against the catalogue
            _described(transaction, draft, [expression], label)
    return _described(transaction, draft, [expression for _, expression in draft.inputs], where)


def _described(
    transaction: Transaction, draft: Materialisation, expressions: list[str], label: str
) -> tuple[str, ...]:
    statement = draft.render("describe_expressions", expressions=expressions)
    try:
        with transaction.connection.begin_nested():
            return transaction.capabilities.expression_types(transaction, statement)
    except (DBAPIError, transaction.capabilities.driver_error) as error:
        origin = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        if transaction.capabilities.classify(origin) in (PrivilegeError, ConnectionFailedError):
            raise
        reason = one_line(transaction.capabilities.message(origin))
        raise ConfigurationError(f"{label}: the database refuses it: {reason}") from error


def reading(transaction: Transaction, m: Materialisation, inputs: Sequence[Input]) -> Materialisation:
    """The same with other inputs, for whoever reads columns beside the model's; it is not for writing."""
    prediction = m.prediction.model_copy(update={"inputs": tuple(inputs)})
    draft = replace(m, prediction=prediction, input_types=("unknown",) * len(inputs))
    return replace(draft, input_types=_input_types(transaction, draft))


def restricted(m: Materialisation, kind: RunKind, options: Options) -> Materialisation:
    """The same for a run that is about some of the rows only."""
    outdated = _outdated(m, options) if kind is RunKind.RESCORE else None
    conditions = [outdated] if outdated is not None else []
    conditions += [f"({options.where})"] if options.where is not None else []
    if options.only_missing:
        conditions += [f"{sql.quote(output.name, m.dialect)} IS NULL" for output in m.outputs]
    return replace(m, only=" AND ".join(conditions) or None, outdated=outdated)


def _outdated(m: Materialisation, options: Options) -> str:
    """Which scored rows are to be scored again: those of another model version, or all that are too old.

    None that was scored since the run began: it ends, and pays once for each row, even where a trigger of somebody's
    or the column's type makes another value of the version that is written.
    """
    before = m.show("scored_before", moment=literal(options.before or "", m.dialect))
    if options.older_than is not None:
        return before
    version = literal(m.prediction.version_value, m.dialect)
    return f"{m.show('scored_otherwise', value=version)} AND {before}"


def check_condition(transaction: Transaction, m: Materialisation, condition: str, label: str) -> None:
    """That the server takes a condition over the table's columns.

    Raises:
        ConfigurationError: it does not, and why.
    """
    _described(transaction, m, [f"(({condition}) IS TRUE)"], label)


def _output(
    transaction: Transaction, table: Table, like: str | None, name: str, asked: str, where: str
) -> Output:
    """The output as the table has it; a column that is not there yet takes the type that was asked for.

    A shadow's takes that of the column `like`, which it may change places with.
    """
    capabilities: Capabilities = transaction.capabilities
    existing = table.columns.get(name)
    if existing is not None:
        kind = capabilities.output_type(
            existing.base_type, existing.category, existing.element, existing.type_oid
        )
        return Output(name, existing.type, existing.cast_type, kind, capabilities.sent_type(kind))
    if like is not None and (live := table.columns.get(like)) is not None:
        kind = capabilities.output_type(live.base_type, live.category, live.element, live.type_oid)
        collation = f" COLLATE {live.collation}" if live.collation and live.type != "json" else ""
        return Output(name, live.type + collation, live.cast_type, kind, capabilities.sent_type(kind))
    found = capabilities.find_type(transaction, asked)
    if found is None:
        raise MissingObjectError(f"{where}: the database has no type {asked!r}; is an extension missing?")
    kind = capabilities.output_type(found.type, found.category, found.element, found.oid)
    return Output(name, asked, found.cast_type, kind, capabilities.sent_type(kind))
