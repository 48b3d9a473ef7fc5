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

    With `aurora` it is a function that calls a service of AWS, which `apply` makes on Aurora.
    """

    UNDECIDING: ClassVar[frozenset[str]] = ModelSettings.UNDECIDING | {"mode"}

    kind: Literal["sql"] = Field("sql", exclude=True)
    sql: TableName
    mode: Literal["update", "select"] = "update"
    aurora: Annotated[AuroraService, BeforeValidator(service_of_kind)] | None = None

    def check(self, inputs: Sequence[str], outputs: Mapping[str, str]) -> None:
        """See `ModelSettings.check`."""
        if self.aurora is not None:
            check_service(self.aurora, list(inputs), len(outputs))
