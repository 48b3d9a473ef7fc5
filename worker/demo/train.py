"""Trains the demo's churn model and writes it to its file and to sql/demo; the demo itself never trains.

`python -m worker.demo.train` rebuilds all files byte for byte: customers are made up from a fixed seed and
leave by a known process with noise that the model does not see, and weights are rounded, which hides what
processors and libraries round differently.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.demo.churn import FEATURES, TYPES, Columns, columns
from worker.demo.model import FILE, Model
from worker.demo.terms import Factor, Term, above, among, excess, value

SEED = 7
TRAINED, HELD_OUT = 80_000, 20_000  # customers
DIGITS = 6  # of a weight, after the point
RIDGE = 1.0  # weight penalty; keeps Newton's step defined whatever the customers
SQL_FOLDER = Path(__file__).resolve().parents[2] / "sql" / "demo"
NAME = "create_predict_churn"
PURPOSE = "The shipped churn model as a function; written by `python -m worker.demo.train`, do not edit."

FUNCTIONS: Mapping[str, str] = {
    "postgresql": """\
CREATE OR REPLACE FUNCTION predict_churn(
{inputs}
) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE COST 5000 AS $$
SELECT 0.5 + 0.5 * tanh(0.5 * (
{odds}
))
$$;
""",
    # No TANH there; EXP of more than 709 is an error. OR REPLACE is MariaDB's alone.
    "mysql": """\
DROP FUNCTION IF EXISTS predict_churn;
CREATE FUNCTION predict_churn(
{inputs}
) RETURNS double DETERMINISTIC NO SQL
RETURN 1e0 / (1e0 + EXP(LEAST(700e0, -(
{odds}
))));
""",
}
# Of a text any length is taken; in MySQL it must be said, as must that upper and lower case differ.
PARAMETERS: Mapping[str, Callable[[str], str]] = {
    "postgresql": lambda kind: kind.partition("(")[0],
    "mysql": lambda kind: re.sub(
        r"varchar.*", "varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", kind.partition(" ")[0]
    ),
}

Numbers = NDArray[np.float64]

CHARGES = ("day_charge", "eve_charge", "night_charge", "int_charge")
FAR_STATES = ("CA", "MD", "ME", "MI", "MS", "MT", "NJ", "NV", "SC", "TX", "WA")
SCALES = {
    "acc_length": (100, 40),
    "vmail_msg": (8, 14),
    "day_mins": (180, 54),
    "day_calls": (100, 20),
    "eve_mins": (201, 51),
    "eve_calls": (100, 20),
    "night_mins": (201, 51),
    "night_calls": (100, 20),
    "int_mins": (10, 3),
    "int_calls": (4, 2.5),
    "cust_service_calls": (1.5, 1.3),
}
ABROAD, MAILBOX = among("int_plan", "yes"), among("vmail_plan", "yes")
UPSET = above("cust_service_calls", limit=3)


def _named(name: str, *factors: Factor) -> Term:
    return Term(name, factors)


TERMS = (
    *(_named(name, value(name, limit=limit, scale=scale)) for name, (limit, scale) in SCALES.items()),
    _named("far state", among("state", *FAR_STATES)),
    _named("area code 415", above("area_code", limit=414), value("area_code", limit=510, scale=-95)),
    _named("international plan", ABROAD),
    _named("voice mail plan", MAILBOX),
    _named("bill above 60", excess(*CHARGES, limit=60, scale=10)),
    _named("bill above 70", excess(*CHARGES, limit=70, scale=10)),
    _named("bill above 70 with voice mail", excess(*CHARGES, limit=70, scale=10), MAILBOX),
    _named("many service calls", UPSET),
    _named("many service calls, bill above 50", UPSET, excess(*CHARGES, limit=50, scale=10)),
    _named("few calls abroad on the plan", ABROAD, value("int_calls", limit=4, scale=2.5)),
    _named("long calls abroad on the plan", ABROAD, above("int_mins", limit=13.1)),
)


def leaving(made: Columns, rng: np.random.Generator) -> Numbers:
    """Who leaves (1.0) or stays (0.0): smooth where the model has steps, with a mood that nobody records."""
    bill = np.sum([made[name] for name in CHARGES], axis=0)
    abroad, mailbox = made["int_plan"] == "yes", made["vmail_plan"] == "yes"
    upset = _step((made["cust_service_calls"] - 3.3) * 2.5)
    odds = -3.6 + 0.5 * np.isin(made["state"], FAR_STATES) - 0.1 * (made["acc_length"] - 100) / 40
    odds += 6.5 * _step((bill - 74) / 3.5) * np.where(mailbox, 0.25, 1.0)
    odds += upset * (3.6 - 3.0 * _step((bill - 58) / 4))
    odds += abroad * (
        0.9 + 3.2 * _step((made["int_mins"] - 13.1) * 2) + 3.2 * _step((2.6 - made["int_calls"]) * 3)
    )
    mood = rng.random((6, len(odds))).sum(axis=0) - 3.0
    return (rng.random(len(odds)) < _step(odds + 0.8 * mood)).astype(float)


def _step(odds: Numbers) -> Numbers:
    return np.asarray(1.0 / (1.0 + np.exp(-odds)), dtype=float)


def fit(inputs: Numbers, target: Numbers) -> Numbers:
    """The weights of a logistic regression, the intercept first, by Newton's method."""
    design = np.column_stack([np.ones(len(inputs)), inputs])
    penalty = np.diag([0.0] + [RIDGE] * inputs.shape[1])
    weights = np.zeros(design.shape[1])
    for _ in range(50):
        answer = _step(design @ weights)
        slope = design.T @ (answer - target) + penalty @ weights
        bend = (design * (answer * (1 - answer))[:, None]).T @ design + penalty
        change = np.linalg.solve(bend, slope)
        weights = weights - change
        if np.abs(change).max() < 1e-12:
            break
    return weights


def area_under_curve(target: Numbers, answer: Numbers) -> float:
    """The chance that one who left got a higher probability than one who stayed; ties count half."""
    _, inverse, counts = np.unique(answer, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    left = target == 1.0
    n_left, n_stayed = int(left.sum()), int((~left).sum())
    return float((ranks[left].sum() - n_left * (n_left + 1) / 2) / (n_left * n_stayed))


@dataclass(frozen=True, slots=True)
class Trained:
    """A model and what it was found to be worth."""

    model: Model
    auc: float
    share_leaving: float


def train(seed: int = SEED) -> Trained:
    """Makes customers up, trains on some and measures on the others."""
    rng = np.random.default_rng(seed)
    made = columns(rng, TRAINED + HELD_OUT)
    target = leaving(made, rng)
    inputs = np.column_stack([term.evaluate(made) for term in TERMS])
    weights = [round(float(weight), DIGITS) for weight in fit(inputs[:TRAINED], target[:TRAINED])]
    model = Model(weights[0], TERMS, tuple(weights[1:]))
    held_out = {name: values[TRAINED:] for name, values in made.items()}
    auc = area_under_curve(target[TRAINED:], model.probabilities(held_out))
    return Trained(model, auc, float(target.mean()))


def model_file(trained: Trained, seed: int = SEED) -> str:
    """The text of churn-model.json."""
    model = trained.model
    metadata: dict[str, Any] = {
        "kind": "logistic regression over terms, see worker/demo/terms.py",
        "customers": "made up by worker/demo/churn.py; who leaves is decided in worker/demo/train.py",
        "seed": seed,
        "trained_on": TRAINED,
        "held_out": HELD_OUT,
        "held_out_auc": round(trained.auc, 4),
        "share_leaving": round(trained.share_leaving, 4),
    }
    weighted = zip(model.terms, model.weights, strict=True)
    terms = [{"weight": weight, **term.as_json()} for term, weight in weighted]
    found = {"name": "churn", "metadata": metadata, "inputs": FEATURES, "intercept": model.intercept}
    return json.dumps({**found, "terms": terms}, indent=1) + "\n"


def model_function(model: Model, dialect: str) -> str:
    """The named statement that creates predict_churn(...) in a database of the dialect."""
    weighted = zip(model.weights, model.terms, strict=True)
    suffix = "e0" if dialect == "mysql" else ""
    terms = [f"    {weight:+.{DIGITS}f}{suffix} * {term.sql(dialect)}" for weight, term in weighted]
    odds = "\n".join([f"    {model.intercept:+.{DIGITS}f}{suffix}", *terms])
    inputs = ",\n".join(f"    {name} {PARAMETERS[dialect](kind)}" for name, kind in TYPES.items())
    return f"-- name: {NAME}\n-- {PURPOSE}\n{FUNCTIONS[dialect].format(inputs=inputs, odds=odds)}"


def with_function(sql_text: str, function: str) -> str:
    """The SQL file's text with the function's statement replaced, or added at the end."""
    others = re.split(r"(?m)^(?=-- name: )", sql_text)
    kept = "".join(part for part in others if not part.startswith(f"-- name: {NAME}\n"))
    return f"{kept.rstrip()}\n\n{function}"


def main() -> None:
    """Writes all files and says what the model is worth."""
    trained = train()
    FILE.write_text(model_file(trained), encoding="utf-8")
    for dialect in FUNCTIONS:
        file = SQL_FOLDER / f"{dialect}.sql"
        function = model_function(trained.model, dialect)
        file.write_text(with_function(file.read_text(encoding="utf-8"), function), encoding="utf-8")
    sys.stdout.write(
        f"held-out AUC {trained.auc:.4f}; {trained.share_leaving:.1%} leave; wrote {FILE.name}\n"
    )


if __name__ == "__main__":
    main()
