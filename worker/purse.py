"""What calls cost, reserved before they are made: a budget holds whatever fails, and however many workers there are."""

from __future__ import annotations

import threading

from worker.config import Prediction
from worker.database import Database
from worker.errors import BudgetSpentError, ModelError, ThrottledError
from worker.gates import Failed
from worker.materialisation import Materialisation
from worker.models.protocol import Weight
from worker.options import Budget


def cost(prediction: Prediction, calls: int, rows: int) -> float | None:
    """Money for so many calls and rows; None where the model has no price."""
    each, row = prediction.model.cost_per_call, prediction.model.cost_per_row
    return None if each is None and row is None else calls * (each or 0.0) + rows * (row or 0.0)


class Purse:
    """One budget, kept in the row of the run that spends it. Several threads and workers may draw at once.

    Args:
        daily: its sums begin anew at midnight UTC.
        account: the run that keeps the sums, where that is another one.
    """

    def __init__(
        self,
        database: Database,
        materialisation: Materialisation,
        budget: Budget,
        *,
        daily: bool,
        account: int | None = None,
    ) -> None:
        self._database = database
        self._m = materialisation
        self._budget = budget
        self._daily = daily
        self._account = account

    def draw(self, run: int, calls: int, rows: int) -> None:
        """Reserve what a call is going to cost, in a transaction of its own.

        Raises:
            BudgetSpentError: the budget does not allow it; nothing was reserved.
        """
        money = round(cost(self._m.prediction, calls, rows) or 0.0, 6)
        asked = {"calls": calls, "rows": rows, "money": money}[self._budget.unit]
        statement = self._m.render("spend", daily=self._daily, unit=self._budget.unit)
        with self._database.transaction(lock_timeout="5s") as transaction:
            done = transaction.execute(
                statement,
                run=self._account or run,
                calls=calls,
                rows=rows,
                money=money,
                asked=asked,
                amount=self._budget.amount,
            )
            if not done.rowcount:
                raise BudgetSpentError(spent(self._budget, daily=self._daily))

    def give_back(self, run: int, calls: int, rows: int) -> None:
        """What was reserved and is known not to have been spent."""
        if not calls and not rows:
            return
        money = round(cost(self._m.prediction, calls, rows) or 0.0, 6)
        with self._database.transaction(lock_timeout="5s") as transaction:
            statement = self._m.render("give_back", daily=self._daily)
            transaction.execute(statement, run=self._account or run, calls=calls, rows=rows, money=money)


def spent(budget: Budget, *, daily: bool) -> str:
    """That it is, for people."""
    return f"the {'daily budget' if daily else 'budget'} of {budget.text} is spent"


class Account:
    """A purse and the run that keeps its sums: the gate that calls are paid at."""

    def __init__(self, purse: Purse, run: int) -> None:
        self._purse = purse
        self._run = run

    def draw(self, calls: int, rows: int) -> None:
        """See `Purse.draw`."""
        self._purse.draw(self._run, calls, rows)

    def give_back(self, calls: int, rows: int) -> None:
        """See `Purse.give_back`."""
        self._purse.give_back(self._run, calls, rows)

    def enter(self, weight: Weight, _stop: threading.Event) -> Failed:
        """See `worker.gates.Gate`: a call draws before it is sent, and what is throttled was not paid for.

        Raises:
            BudgetSpentError: nothing was reserved.
        """
        self.draw(weight.requests, weight.rows)

        def failed(error: ModelError) -> None:
            if not error.sent or isinstance(error, ThrottledError):
                self.give_back(weight.requests, weight.rows)

        return failed
