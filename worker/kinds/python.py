"""Models of kind python: callables in the worker's own process."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from worker.kinds.base import CalledModel


class PythonModel(CalledModel):
    """A Python callable, named `package.module:function`, that takes a `worker.models.protocol.Batch`."""

    kind: Literal["python"] = Field("python", exclude=True)
    python: str

    @field_validator("python")
    @classmethod
    def _is_import_path(cls, value: str) -> str:
        if not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", value):
            raise ValueError(f'expected "package.module:function", not {value!r}')
        return value
