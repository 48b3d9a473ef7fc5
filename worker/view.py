"""The SQL of the view over scored and unscored rows; whether it must be made is `plan`'s concern."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sql
from worker.materialisation import Materialisation

STATE_NAME = "prediction_state"


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """A column of the view and its type as the table has it."""

    name: str
    type: str


def view_sql(
    materialisation: Materialisation,
    view: tuple[str, str],
    columns: Sequence[ViewColumn],
    *,
    security_invoker: bool,
    replace: bool = False,
    mark: str = "",
) -> str:
    """CREATE VIEW: `prediction_state`, then the table's columns in their order.

    With `live = true` a third branch calls the model's function for waiting rows, once a row; rows for which
    `where` does not hold, and those that were there before `apply`, are never sent.

    Args:
        materialisation: what is materialised.
        view: schema and name.
        columns: the table's columns without the internal states.
        security_invoker: whether the server lets a view run with its reader's rights (PostgreSQL 15).
        replace: whether an older view of that name is replaced.
        mark: a literal by which `apply` knows the view again, where views have no comments.
    """
    types = {column.name: column.type for column in columns}
    answered_as = f"a.{sql.quote('rowscore$a', materialisation.dialect)}"
    function = materialisation.function if materialisation.prediction.live else None
    answered = {}
    if function is not None:
        for place, output in enumerate(materialisation.outputs):
            answer = function.answer(answered_as, place)
            answered[output.name] = materialisation.show(
                "cast_answer", answer=answer, type=types[output.name]
            )
    return materialisation.show(
        "create_view",
        view=qualified(view, materialisation.dialect),
        columns=[column.name for column in columns],
        security_invoker=security_invoker,
        replace=replace,
        live=function is not None,
        answered=answered,
        mark=mark,
    )


def qualified(address: tuple[str, str], dialect: str) -> str:
    """Schema and name, quoted."""
    return ".".join(sql.quote(part, dialect) for part in address)
