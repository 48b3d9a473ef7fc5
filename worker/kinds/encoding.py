"""How inputs are written for a model that is called with text or JSON; the formats' modules carry it out."""

from __future__ import annotations

from typing import Literal

from worker.sections import Section


class Encoding(Section):
    """As the model was trained.

    Attributes:
        booleans: what stands for false and for true; None: as the format has them (0 and 1 in CSV).
        null: what stands for NULL; None: an empty field in CSV, null in JSON, NaN in a tensor of floats.
        decimals: exact decimals as numbers, digit by digit, or as texts (JSON alone can tell them apart).
        header: whether CSV begins with a line of the inputs' names.
    """

    booleans: tuple[str | int | bool, str | int | bool] | None = None
    null: str | int | float | None = None
    decimals: Literal["number", "text"] = "number"
    header: bool = False
