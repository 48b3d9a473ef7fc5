"""A prediction resolved by hand, to render statements for without a database."""

from __future__ import annotations

from typing import Any

from tests.support.applied import prediction
from worker.answers import OutputKind, OutputType
from worker.function import Function
from worker.materialisation import Materialisation, Output
from worker.table import Column, Table, UniqueKey


def column(name: str, sql_type: str, number: int) -> Column:
    """A plain column."""
    native = sql_type == "bigint"
    known = (name, sql_type, sql_type, sql_type, "N", None, True, False, False, None, number, True, None)
    return Column(*known, exact=True, native=native, moves=False, unfit=False)


def sample(dialect: str = "postgresql", **overrides: Any) -> Materialisation:
    """A prediction with a key of two columns, two outputs and a function, resolved by hand."""
    asked = prediction(
        **{
            "outputs": {"p": "float8", "label": "text"},
            "version": {"column": "model", "value": "1"},
            "where": "a > 0",
            **overrides,
        }
    )
    columns = [column("region", "text", 1), column("id", "bigint", 2), column("a", "double precision", 3)]
    columns += [column("b", "integer", 4), column("note", "text", 5)]
    keys = (UniqueKey("PRIMARY", True, ("region", "id"), True),)
    named = {item.name: item for item in columns}
    table = Table(1, "public", "items", "r", False, False, "app", 0, named, keys, (), ())
    outputs = (
        Output("p", "float8", "double precision", OutputType(OutputKind.FLOAT), "double precision"),
        Output("label", "text", "text", OutputType(OutputKind.TEXT), "text"),
    )
    function = Function(1, '"public"."predict"', "public.predict", "answers", ('"p"', '"label"'), 1, False, True, "v",
                        "u", 100.0, "plpgsql", "")  # fmt: skip
    types = ("double precision",) * len(asked.inputs)
    return Materialisation(asked, table, tuple(columns[:2]), outputs, types, function, dialect)
