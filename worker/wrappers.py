"""What becomes of the function by which Aurora calls a service: made, put in another's place, dropped, let be; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sql
from worker.aurora import ServiceObject, service_objects
from worker.changes import Change
from worker.config import SHADOW_SUFFIX
from worker.errors import RefusedError
from worker.facts import Facts, OwnModel
from worker.names import literal


@dataclass(frozen=True, slots=True)
class Wrapping:
    """The statements that bring the function to what is wanted; none where it is.

    Attributes:
        anew: whether it is dropped before it is made, so that the view that calls it has to go first.
    """

    statements: tuple[str, ...] = ()
    label: str = ""
    anew: bool = False


def wanted_objects(facts: Facts) -> tuple[ServiceObject, ...]:
    """The objects that `apply` has to have made."""
    stand_in = facts.services is not None and facts.services.stand_in
    return service_objects(facts.materialisation, stand_in=stand_in)


def plan_function(facts: Facts) -> Wrapping:
    """What makes the function, and the type that it answers, as they are wanted.

    A function that keeps its arguments is replaced where the database can do that: privileges on it stay, and so does
    the view that calls it.

    Raises:
        RefusedError: something of somebody else's is built upon what would have to be dropped.
    """
    dialect = facts.materialisation.dialect
    wanted = wanted_objects(facts)
    pairs = [(item, old) for item in wanted if not foreign(old := standing(facts, item), facts)]
    differ = unlike(facts)
    if not differ:
        return Wrapping()
    label = f"{wanted[-1].schema}.{wanted[-1].name}"
    if "comment_model" in sql.load(dialect, "aurora") and all(_same(item, old) for item, old in differ):
        return Wrapping(tuple(text for item, _ in differ for text in _comment(item, dialect)), label)
    if len(differ) == 1 and (old := differ[0][1]) is not None and _replaceable(differ[0][0], old):
        item = differ[0][0]
        return Wrapping((item.replace or "", *_comment(item, dialect)), label)
    if not any(
        item.kind == "type" for item, _ in pairs
    ):  # nothing but a type keeps another from being dropped
        pairs = differ
    old_ones = [old for _, old in pairs if old is not None]
    if built := [dependent for old in old_ones for dependent in old.dependents]:
        raise RefusedError(
            f"the function {label} has to be made anew, with other arguments or another answer, and "
            f"{', '.join(built)} depends on it; drop that first and make it again afterwards"
        )
    drops = [_drop(old, dialect) for old in reversed(old_ones)]
    made = [text for item, _ in pairs for text in (item.create, *_comment(item, dialect))]
    return Wrapping((*drops, *made), label, anew=bool(drops))


def standing(facts: Facts, item: ServiceObject) -> OwnModel | None:
    """What bears the object's name: this prediction's own before another's of the same name."""
    named = [
        old for old in facts.models if (old.kind, old.schema, old.name) == (item.kind, item.schema, item.name)
    ]
    return next((old for old in named if not foreign(old, facts)), next(iter(named), None))


def foreign(old: OwnModel | None, facts: Facts) -> bool:
    """Whether it is somebody else's: not made for this prediction, nor for its shadow, which has another model now."""
    prediction = facts.materialisation.prediction
    own = {prediction.name}
    shadow = prediction.shadow
    if shadow is not None and getattr(shadow.model, "sql", None) != getattr(prediction.model, "sql", None):
        own.add(prediction.name + SHADOW_SUFFIX)
    return old is not None and (old.mark is None or old.mark.prediction not in own)


def unlike(facts: Facts) -> list[tuple[ServiceObject, OwnModel | None]]:
    """The objects that have to be made, each with that of ours in whose place it comes."""
    pairs = [(item, standing(facts, item)) for item in wanted_objects(facts)]
    return [
        (item, old)
        for item, old in pairs
        if not foreign(old, facts) and (old is None or old.mark != item.mark)
    ]


def plan_handover(facts: Facts, there: Iterable[OwnModel]) -> list[str]:
    """Mark the prediction's function, which was made for another one, as its own; none where it is marked so.

    Where the mark is a part of the statement that makes the function it is made anew, and no dependency is kept.

    Args:
        facts: of the prediction as it shall be.
        there: what bears the wanted names, whoever has it.

    Raises:
        RefusedError: what is there is not what the prediction needs.
    """
    dialect = facts.materialisation.dialect
    known = {(old.kind, old.schema, old.name): old for old in there}
    steps: list[str] = []
    for item in wanted_objects(facts):
        old = known.get((item.kind, item.schema, item.name))
        if old is not None and (old.mark is None or old.mark == item.mark):  # by hand, or done
            continue
        in_place = "comment_model" in sql.load(dialect, "aurora")
        if old is not None and in_place and old.mark is not None and old.mark.digest != item.mark.digest:
            raise RefusedError(
                f"the {item.kind} {old.label} is not as {facts.materialisation.name} would need it, and cannot be "
                f"handed over; make the function by hand"
            )
        if in_place:
            steps += _comment(item, dialect)
        else:
            steps += [*([_drop(old, dialect)] if old is not None else []), item.create]
    return steps


def plan_leftovers(facts: Facts) -> list[Change]:
    """Drops what `apply` made for this prediction under another name, or for a model that it had before."""
    wanted = {(item.kind, item.schema, item.name) for item in wanted_objects(facts)}
    function = facts.materialisation.function
    called = function.label if function is not None else None
    old = [
        item
        for item in facts.models
        if item.mark is not None
        and item.mark.prediction == facts.materialisation.name
        and (item.kind, item.schema, item.name) not in wanted
    ]
    if any(item.label == called for item in old):  # still called, as a function like any other
        return []
    return drop_models(old, facts.materialisation.dialect)


def drop_models(models: Sequence[OwnModel], dialect: str) -> list[Change]:
    """Drops functions, then the types that they answer."""
    if not models:
        return []
    ordered = sorted(models, key=lambda item: item.kind == "type")
    title = "drop " + ", ".join(f"the {item.kind} {item.label}" for item in ordered)
    return [Change(title, tuple(_drop(item, dialect) for item in ordered), destructive=True)]


def _same(item: ServiceObject, old: OwnModel | None) -> bool:
    """Whether it is as wanted, and only marked as another prediction's."""
    return old is not None and old.mark is not None and old.mark.digest == item.mark.digest


def _replaceable(item: ServiceObject, old: OwnModel) -> bool:
    same = (item.names, item.types, item.returns) == (old.names, old.types, old.returns)
    return item.replace is not None and same


def _comment(item: ServiceObject, dialect: str) -> Iterable[str]:
    statements = sql.load(dialect, "aurora")
    if "comment_model" not in statements:  # the mark was made with it
        return
    comment = literal(str(item.mark), dialect)
    yield statements["comment_model"].show(kind=item.kind, signature=item.signature, comment=comment)


def _drop(item: OwnModel, dialect: str) -> str:
    return sql.load(dialect, "aurora")["drop_model"].show(kind=item.kind, signature=item.signature)
