"""What a check of `rowscore doctor` found, as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import sql


class Level(StrEnum):
    """How bad it is: an error keeps rows from being scored, a warning costs time or surprises somebody."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what was looked at, in a word or two.
        message: what was found, on one line.
        remedy: what mends it: SQL that ends in semicolons, a command, or a sentence.
        prediction: whose it is; None where it concerns all predictions.
    """

    level: Level
    subject: str
    message: str
    remedy: str | None = None
    prediction: str | None = None


Findings = Iterator[Finding]


def ok(subject: str, message: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, subject, message)


def warning(subject: str, message: str, remedy: str | None = None) -> Finding:
    """Rows are scored, but something costs time or may surprise somebody."""
    return Finding(Level.WARNING, subject, message, remedy)


def error(subject: str, message: str, remedy: str | None = None) -> Finding:
    """Rows cannot be scored, or not all of them."""
    return Finding(Level.ERROR, subject, message, remedy)


def remedy(dialect: str, name: str, **names: object) -> str:
    """SQL of `remedies.sql`, which ends in a semicolon; names go in quoted."""
    return sql.load(dialect)[name].show(**names) + ";"


def worst(levels: Iterator[Level]) -> Level:
    """The worst of the levels; ok where there are none."""
    order = list(Level)
    return max(levels, key=order.index, default=Level.OK)
