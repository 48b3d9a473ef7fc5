"""Which table, inputs, outputs and function `init` proposes; pure decisions over `worker.discovery.facts`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from worker.discovery.draft import Draft, DraftColumn, qualified_text
from worker.discovery.facts import FoundColumn, FoundFunction, FoundTable, FoundTrigger, Surroundings
from worker.errors import ConfigurationError
from worker.sections import split_name

_AWS = re.compile(r"\baws_(?:sagemaker|comprehend|bedrock|ml)(?:\b|_)", re.IGNORECASE)
_VERBS = "predict|score|classify|detect|infer|forecast|embed"
_MODEL_NAME = re.compile(rf"^(?:{_VERBS})(?:_|$)|_(?:prediction|score|sentiment|probability)$", re.IGNORECASE)
_MODEL_CALL = re.compile(rf'\b["`]?(?:{_VERBS})_\w+["`]?\s*\(', re.IGNORECASE)
_STEM = re.compile(rf"^(?:{_VERBS})_|_(?:{_VERBS}|prediction|score)$", re.IGNORECASE)
_OUTPUT = re.compile(
    r"(?:^|_)(?:predictions?|predicted|scores?|sentiment|probability|confidence|embedding)$|^predicted_",
    re.IGNORECASE,
)
_BOOKKEEPING = re.compile(
    r"^(?:created|inserted|updated|modified|changed|deleted|arrived|received|ingested|last_modified|last_updated"
    r"|materiali[sz]ed|scored|predicted)_?(?:at|on|time|date|ts)?$",
    re.IGNORECASE,
)
_ARRIVAL = re.compile(r"^(?:created|inserted|arrived|received|ingested)(?:_?at|_?on|_?time)?$", re.IGNORECASE)
_PREFIX = re.compile(r"^(?:p|in|arg|v)?_")
_UNSENDABLE = frozenset(  # they have no place in a CSV field
    {"bytea", "json", "jsonb", "xml", "tsvector", "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob",
     "geometry", "point"}
)  # fmt: skip
_BATCH_SIZE = "max_rows_per_batch"


@dataclass(frozen=True, slots=True)
class Fit:
    """A function that could score a table, and the columns that are its arguments, in order."""

    function: FoundFunction
    inputs: tuple[str, ...]
    by_name: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """A table that could be scored.

    Attributes:
        reasons: why it looks as if it should be; empty where nothing but its key speaks for it.
        fits: functions that could score it, the likeliest first.
        triggers: its triggers that call a model inside the INSERT.
    """

    table: FoundTable
    reasons: tuple[str, ...]
    fits: tuple[Fit, ...]
    triggers: tuple[FoundTrigger, ...]


def candidates(found: Surroundings) -> list[Candidate]:
    """Every table with a usable key, those with the most reasons first."""
    models = model_functions(found.functions)
    listed = [_candidate(table, found, models) for table in found.tables if table.key is not None]
    return sorted(listed, key=lambda item: (-len(item.reasons), -item.table.estimated_rows, item.table.label))


def choose(listed: Sequence[Candidate], asked: str | None) -> Candidate | None:
    """The table asked for, else the only one that anything speaks for; None where a person must choose.

    Raises:
        ConfigurationError: there is no table with a key at all, or none of the name asked for.
    """
    if asked is not None:
        return _asked(listed, asked)
    if not listed:
        raise ConfigurationError(
            "there is no table that could be scored: rowscore needs one with a primary key, or a UNIQUE "
            "index over NOT NULL columns, in a schema that this role may use"
        )
    likely = [candidate for candidate in listed if candidate.reasons] or list(listed)
    return likely[0] if len(likely) == 1 else None


def _asked(listed: Sequence[Candidate], asked: str) -> Candidate:
    try:
        schema, name = split_name(asked)
    except ValueError as error:
        raise ConfigurationError(f"--table: {error}") from error
    same = [item for item in listed if item.table.name == name and schema in (None, item.table.schema)]
    visible = [item for item in same if item.table.visible]
    if schema is None and len(visible) == 1:
        return visible[0]
    if len(same) == 1:
        return same[0]
    if same:
        raise ConfigurationError(
            f"--table: which {name}? There are {', '.join(item.table.label for item in same)}"
        )
    known = ", ".join(item.table.label for item in listed[:10]) or "none"
    raise ConfigurationError(f"--table: no table {asked} with a usable key; there is {known}")


def model_functions(functions: Sequence[FoundFunction]) -> list[FoundFunction]:
    """The functions that call a model: by an aws_ service, by calling such a function, or by name."""
    sure = [function for function in functions if _AWS.search(function.source)]
    while True:
        names = {function.name for function in sure}
        more = [
            item
            for item in functions
            if item not in sure and any(_mentions(item.source, name) for name in names)
        ]
        if not more:
            break
        sure += more
    return sure + [item for item in functions if item not in sure and _MODEL_NAME.search(item.name)]


def _mentions(source: str, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b[\"`]?\s*\(", source) is not None


def _candidate(table: FoundTable, found: Surroundings, models: Sequence[FoundFunction]) -> Candidate:
    fits = [fit for fit in (fit_function(function, table) for function in models) if fit is not None]
    fits.sort(key=lambda fit: (not fit.by_name, -len(fit.inputs)))
    triggers = tuple(
        trigger
        for trigger in found.triggers
        if trigger.table_oid == table.oid and calls_model(trigger.source, models)
    )
    return Candidate(table, tuple(_reasons(table, fits, triggers)), tuple(fits), triggers)


def calls_model(source: str, models: Sequence[FoundFunction]) -> bool:
    """Whether a function's source calls one of these functions, an aws_ service, or what is named like a model."""
    named = any(_mentions(source, function.name) for function in models)
    return named or bool(_AWS.search(source) or _MODEL_CALL.search(source))


def _reasons(table: FoundTable, fits: Sequence[Fit], triggers: Sequence[FoundTrigger]) -> Iterator[str]:
    for trigger in triggers:
        yield f"trigger {trigger.name} calls a model inside every INSERT"
    for fit in fits:
        yield f"the arguments of {fit.function.label}() are columns of it"
    if found := [column.name for column in table.columns if _OUTPUT.search(column.name) and not column.ours]:
        yield f"it has a column {found[0]}"


def fit_function(function: FoundFunction, table: FoundTable) -> Fit | None:
    """The columns that are the function's arguments: by name, else by the types of all inputs in order."""
    pairs = list(zip(function.argument_names, function.argument_types, strict=False))
    named = len(pairs) == len(function.argument_types) and all(name for name, _ in pairs)
    names = [name for name, _ in pairs if name != _BATCH_SIZE]
    columns = {column.name.lower(): column.name for column in table.columns}
    if named and names:
        matched = [columns.get(name.lower()) or columns.get(_PREFIX.sub("", name.lower())) for name in names]
        inputs = tuple(name for name in matched if name is not None)
        if len(inputs) == len(names) == len(set(inputs)):
            return Fit(function, inputs, by_name=True)
    inputs = input_columns(table)
    types = [column.base_type for column in table.columns if column.name in inputs]
    return Fit(function, inputs, by_name=False) if inputs and types == list(function.argument_types) else None


def input_columns(table: FoundTable) -> tuple[str, ...]:
    """The columns that describe the row: no key, no bookkeeping, nothing made, no answers."""
    return tuple(column.name for column in table.columns if not _left_out(column, table))


def _left_out(column: FoundColumn, table: FoundTable) -> bool:
    named = _OUTPUT.search(column.name) or _is_bookkeeping(column)
    return bool(named) or column.made or column.ours or column.name in (table.key or ())


def _is_bookkeeping(column: FoundColumn) -> bool:
    return column.category == "D" and _BOOKKEEPING.match(column.name) is not None


def propose(candidate: Candidate) -> Draft:
    """The configuration for a table: with the likeliest function, else with an endpoint to be filled in.

    Raises:
        ConfigurationError: the table has no column that could be an input.
    """
    table, fit = candidate.table, next(iter(candidate.fits), None)
    inputs = fit.inputs if fit else tuple(name for name in input_columns(table) if _sendable(table, name))
    if not inputs:
        raise ConfigurationError(f"{table.label} has no column that could be an input: {_listed(table)}")
    name = _prediction_name(fit.function.name if fit else table.name, table)
    arrival = [
        item.name
        for item in table.columns
        if _ARRIVAL.match(item.name) and "with time zone" in item.base_type
    ]
    known = (*inputs, *(table.key or ()))
    return Draft(
        name=name,
        table=_named(table),
        inputs=inputs,
        outputs=_outputs(name, table, fit),
        function=_named(fit.function) if fit else None,
        arrived_at=next((item for item in arrival if item not in inputs), None),
        left_out=() if fit else tuple(item.name for item in table.columns if item.name not in known),
    )


def _named(thing: FoundTable | FoundFunction) -> str:
    return qualified_text(None if thing.visible else thing.schema, thing.name)


def _sendable(table: FoundTable, name: str) -> bool:
    column = next(column for column in table.columns if column.name == name)
    return column.category != "A" and column.base_type not in _UNSENDABLE


def _outputs(name: str, table: FoundTable, fit: Fit | None) -> tuple[DraftColumn, ...]:
    """The answer's fields, or one column; one that is there already and has the right type is taken."""
    taken = {column.name for column in table.columns} | {f"{name}_state", f"{name}_scored_at"}
    inputs = fit.inputs if fit else input_columns(table)
    if fit and fit.function.fields:
        columns = {column.name: column for column in table.columns if not column.ours}
        return tuple(
            DraftColumn(field, kind, exists=True)
            if field in columns and columns[field].type == kind and field not in inputs
            else DraftColumn(_free(field, taken), kind)
            for field, kind in fit.function.fields
        )
    kind = fit.function.returns if fit else "double precision"
    if fit:
        for column in table.columns:
            if (
                _OUTPUT.search(column.name)
                and column.type == kind
                and column.name not in inputs
                and not column.ours
            ):
                return (DraftColumn(column.name, kind, exists=True),)
    return (DraftColumn(_free(f"{name}_prediction", taken), kind),)


def _free(name: str, taken: set[str]) -> str:
    """A name that no column has yet."""
    names = [name, f"{name}_prediction", *(f"{name}_{number}" for number in range(2, len(taken) + 3))]
    return next(item for item in names if item not in taken)


def _prediction_name(source: str, table: FoundTable) -> str:
    """The prediction's name, from the function's or the table's: short, and free as a prefix of columns."""
    stem = _STEM.sub("", source) or source
    plain = re.sub(r"[^a-z0-9_]+", "_", stem.lower()).strip("_")[:30].rstrip("_") or "prediction"
    plain = plain if plain[0].isalpha() else f"p_{plain}"
    columns = {column.name for column in table.columns if not column.ours}
    names = [plain, *(f"{plain}_{number}" for number in range(2, len(columns) + 3))]
    return next(item for item in names if not {f"{item}_state", f"{item}_scored_at"} & columns)


def _listed(table: FoundTable) -> str:
    return ", ".join(f"{column.name} {column.type}" for column in table.columns) or "it has no columns"
