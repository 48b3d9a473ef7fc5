"""Predictions whose model calls a service of Aurora's, resolved by hand: no server that can be had here is Aurora."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.support.applied import prediction
from worker.capabilities import capabilities_of
from worker.facts import Abilities, Facts, Relation, Services
from worker.function import foresee_function
from worker.materialisation import Materialisation, Output
from worker.table import Column, Table

# Columns of AWS's churn table: their types as each server has them, and as its driver tells an expression's.
COLUMNS = {
    "postgresql": {"id": "bigint", "state": "character varying(2)", "acc_length": "integer",
                   "day_mins": "double precision", "message": "text"},
    "mysql": {"id": "bigint", "state": "varchar(2)", "acc_length": "int unsigned", "day_mins": "double",
              "message": "text"},
}  # fmt: skip
AURORA = Services(aurora=True, installed=True, functions=frozenset(), may_create=True, role="app")
ABLE = Abilities(
    security_invoker=True,
    role="app",
    owns_table=True,
    owner="app",
    may_create_index=True,
    may_create_view=True,
    is_partition=False,
    has_children=False,
)
ML = frozenset(
    {
        "aws_sagemaker.invoke_endpoint",
        "aws_comprehend.detect_sentiment",
        "aws_bedrock.invoke_model",
        "aws_bedrock.invoke_model_get_embeddings",
    }
)


def column(name: str, sql_type: str, number: int = 1, **other: Any) -> Column:
    """A column of that type."""
    bare = sql_type.partition("(")[0].partition(" unsigned")[0]
    fields: dict[str, Any] = {
        "base_type": sql_type, "cast_type": bare, "category": "N", "element": None, "not_null": False,
        "generated": False, "identity": False, "default_text": None, "deterministic": True, "collation": None,
        "exact": True, "native": True, "moves": False, "unfit": False,
    }  # fmt: skip
    return Column(name=name, type=sql_type, number=number, **{**fields, **other})


def materialisation(dialect: str, *existing: Column, **overrides: Any) -> Materialisation:
    """A prediction on mltest.churn_inserts, with the function that `apply` would make.

    Args:
        existing: further columns that the table has.
        overrides: of the prediction; `model` has a section `aurora`.
    """
    usual = {"table": "mltest.churn_inserts", "inputs": ["state", "acc_length", "day_mins"]}
    asked = prediction(**{**usual, "outputs": {"p": "double precision"}, **overrides})
    capabilities = capabilities_of(dialect)
    types = COLUMNS["postgresql" if dialect == "postgresql" else "mysql"]
    every = [column(name, kind, number) for number, (name, kind) in enumerate(types.items(), 1)]
    columns = {item.name: item for item in (*every, *existing)}
    table = Table("oid", "mltest", "churn_inserts", "r", False, False, "app", 0, columns, (), (), ())
    outputs = tuple(_output(capabilities, columns, name, kind) for name, kind in asked.outputs.items())
    inputs = tuple(_input_type(dialect, types, item.column) for item in asked.inputs)
    function = foresee_function(asked, "mltest", outputs, inputs, dialect)
    return Materialisation(asked, table, (every[0],), outputs, inputs, function, dialect)


def _output(capabilities: Any, columns: dict[str, Column], name: str, asked: str) -> Output:
    known = columns.get(name)
    server = known.type if known is not None else asked
    if capabilities.dialect != "postgresql" and known is None:
        found = capabilities.find_type(None, asked)
        server = found.type
    kind = capabilities.output_type(server, "", None)
    bare = server.partition("(")[0]
    return Output(name, server, bare, kind, capabilities.sent_type(kind))


def _input_type(dialect: str, types: dict[str, str], name: str | None) -> str:
    """As the driver tells it: PostgreSQL's without length, MySQL's without more than the name."""
    if name is None:
        return "double precision" if dialect == "postgresql" else "decimal"
    bare = types[name].partition("(")[0]
    if dialect == "postgresql":
        return bare
    return {"text": "varchar"}.get(bare, bare.partition(" ")[0])


def facts(m: Materialisation, services: Services = AURORA, **known: Any) -> Facts:
    """What the plan is made from: a fresh table, and a server that has the services."""
    usual: dict[str, Any] = {
        "materialisation": m, "abilities": ABLE, "migrations": "", "registration": None, "marked": (),
        "claimed": {}, "partition_keys": frozenset(), "costly_types": frozenset(),
        "relations": (Relation("oid", "mltest", "churn_inserts", "r", None),), "indexes": (), "watched": (),
        "trigger": None, "trigger_there": False, "trigger_enabled": False, "function": None, "views": (),
        "services": services if m.dialect != "postgresql" else replace(services, functions=ML),
    }  # fmt: skip
    return Facts(**{**usual, **known})
