"""How inputs are written for a model that is called with text or JSON; the formats' modules carry it out."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from worker.sections import Section


class Encoding(Section):
    """As the model was trained.

    Attributes:
        booleans: what stands for false and for true; None: as the format has them (0 and 1 in CSV).
        null: what stands for NULL; None: an empty field in CSV, null in JSON, NaN in a tensor of floats.
        refuse_null: a row with NULL in an input is not sent, and fails by that input's name.
        decimals: exact decimals as numbers, digit by digit, or as texts (JSON alone can tell them apart).
        header: whether CSV begins with a line of the inputs' names.
    """

    booleans: tuple[str | int | bool, str | int | bool] | None = None
    null: str | int | Annotated[float, Field(allow_inf_nan=False)] | None = None
    refuse_null: bool = False
    decimals: Literal["number", "text"] = "number"
    header: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.booleans is not None and str(self.booleans[0]) == str(self.booleans[1]):
            raise ValueError(
                f'booleans: expected what stands for false, then for true, such as ["no", "yes"], '
                f"not {self.booleans[0]!r} for both"
            )
        if self.refuse_null and self.null is not None:
            raise ValueError("refuse_null sends no NULL, so `null` has nothing to stand for: leave one out")
        return self
