"""Models of kind onnx: a file that the worker itself computes with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator

from worker.kinds.base import CalledModel
from worker.sections import Count


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class OnnxModel(CalledModel):
    """A model in a file, computed in the worker's own process.

    Attributes:
        onnx: the file; a relative path begins at rowscore.toml's folder.
        tensor: the model's input that takes the prediction's inputs as one matrix; None: as the model declares.
        output: for each output of the prediction one of the model's, or a part of it: "probabilities.1".
        threads: that compute one call: there are other calls and other processes.
    """

    UNDECIDING: ClassVar[frozenset[str]] = CalledModel.UNDECIDING | {"threads"}

    kind: Literal["onnx"] = Field("onnx", exclude=True)
    onnx: str
    tensor: str | None = None
    output: Annotated[tuple[str, ...] | None, BeforeValidator(_listed)] = None
    threads: Count = 1

    @field_validator("onnx")
    @classmethod
    def _is_file(cls, value: str) -> str:
        if not value.strip():
            raise ValueError('expected a file, such as "models/churn.onnx"')
        return value

    def check(self, inputs: Sequence[str], outputs: Mapping[str, str]) -> None:
        """See `ModelSettings.check`."""
        super().check(inputs, outputs)
        if self.output is not None and len(self.output) != len(outputs):
            raise ValueError(
                f"model.output: expected one for each of {', '.join(outputs)}, such as "
                f'["label", "probabilities.1"], not {len(self.output)}'
            )
