"""Models of kind http: model servers that the worker calls."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from worker.kinds.base import ServiceModel


class HttpModel(ServiceModel):
    """An endpoint that takes text/csv, one row a line, and answers one line a row (SageMaker's container contract)."""

    UNDECIDING: ClassVar[frozenset[str]] = ServiceModel.UNDECIDING | {"headers"}

    kind: Literal["http"] = Field("http", exclude=True)
    http: str
    headers: dict[str, str] = Field(default_factory=dict)

    @field_validator("http")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if not re.match(r"https?://[^/\s]+|\$\w+", value):
            raise ValueError(f"expected http:// or https://, not {value!r}")
        return value
