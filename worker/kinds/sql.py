"""Models of kind sql: functions of the database, called where the rows are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from worker.kinds.aurora import AuroraService, check_service, service_of_kind
from worker.kinds.base import ModelSettings
from worker.sections import TableName


class SqlModel(ModelSettings):
    """A function of the database, called with the inputs in order: inside the UPDATE, or by an unlocked SELECT.

    With `aurora` it is a function that calls a service of AWS, which `apply` makes on Aurora; with `expression` one
    that computes an expression over the inputs' names, which `apply` makes anywhere.
    """

    UNDECIDING: ClassVar[frozenset[str]] = ModelSettings.UNDECIDING | {"mode"}

    kind: Literal["sql"] = Field("sql", exclude=True)
    sql: TableName
    mode: Literal["update", "select"] = "update"
    aurora: Annotated[AuroraService, BeforeValidator(service_of_kind)] | None = None
    expression: Annotated[str, Field(min_length=1)] | None = None

    @property
    def made(self) -> bool:
        """Whether `apply` makes the function, where nobody else has."""
        return self.aurora is not None or self.expression is not None

    def check(self, inputs: Sequence[str], outputs: Mapping[str, str]) -> None:
        """See `ModelSettings.check`."""
        if self.expression is not None and self.aurora is not None:
            raise ValueError(
                "model: a function calls a service (`aurora`) or computes an `expression`, not both"
            )
        if self.expression is not None and len(outputs) != 1:
            raise ValueError(
                f"model.expression: it gives one answer and {len(outputs)} outputs are configured"
            )
        if self.aurora is not None:
            check_service(self.aurora, list(inputs), len(outputs))
