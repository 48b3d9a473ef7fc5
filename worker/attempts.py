"""Statements that may be refused, where the refusal itself is what the caller wants to know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.exc import DBAPIError

from worker import errors
from worker.database import Transaction, one_line


def attempt(transaction: Transaction, statement: str, **parameters: Any) -> Sequence[Any]:
    """The statement's rows; the transaction goes on whatever happens.

    Raises:
        DatabaseError: the server refuses it; the subclass says why.
    """
    try:
        with transaction.connection.begin_nested():
            return transaction.rows(statement, **parameters)
    except DBAPIError as refusal:
        origin: Any = refusal.orig or refusal
        message = one_line(transaction.capabilities.message(origin))
        raise transaction.capabilities.classify(origin)(message) from refusal


def refusal_of(transaction: Transaction, statement: str) -> errors.DatabaseError | None:
    """Why the server refuses the statement; None where it does not."""
    try:
        attempt(transaction, statement)
    except errors.DatabaseError as refusal:
        return refusal
    return None
