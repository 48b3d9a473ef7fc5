"""The cookbook, docs/models.md: each of its configurations is run as it stands there, against what it asks for."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from psycopg.rows import dict_row

from tests.conftest import Connect
from tests.support.cli import Cli
from tests.support.cookbook import RECIPES, Example, Place, examples
from worker.config import Prediction, parse_configuration
from worker.kinds import KINDS

EXAMPLES = examples()
NOT_HERE = {
    "broker",
    "vacuum",
}  # what the doctor warns of since these tests have no Redis and a server of their own


def test_every_kind_has_an_example_and_every_example_a_recipe() -> None:
    assert {example.kind for example in EXAMPLES} == set(KINDS)
    named = [(example.kind, example.prediction) for example in EXAMPLES]
    assert len(named) == len(set(named)), "two examples of a section have the same prediction's name"
    assert set(named) == set(RECIPES)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_the_example_scores_rows(
    example: Example, tmp_path: Path, database_url: str, connect: Connect
) -> None:
    cli = Cli(tmp_path, database_url)
    cli.environment.pop("CELERY_BROKER_URL", None)
    (tmp_path / "rowscore.toml").write_text(example.text)
    connection = connect()
    with RECIPES[example.kind, example.prediction](Place(connection, tmp_path, example)) as dish:
        cli.environment |= dish.environment
        prediction = parse_configuration(tomllib.loads(example.text), "the example").prediction()
        dish.insert()
        cli.run("apply")
        cli.run("backfill")
        dish.insert()
        cli.run("run")

        with connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(f"SELECT * FROM {prediction.table} ORDER BY 1").fetchall()
        assert len(rows) >= 2
        assert {row[prediction.state_column] for row in rows} == {1}, cli.run("failures").out
        assert [_differences(prediction, row, dish.expected(row)) for row in rows] == [{}] * len(rows)

        found = cli.run("doctor", "--json").document
        assert [
            item for item in found["findings"] if item["level"] != "ok" and item["subject"] not in NOT_HERE
        ] == []
        (status,) = cli.call("status", "--json").document["predictions"]
        assert status["rows"]["scored"] == len(rows)
        shown = tomllib.loads(cli.call("status", "--config").out)
        assert parse_configuration(shown).prediction().definition_hash == prediction.definition_hash


def _differences(prediction: Prediction, row: dict[str, Any], expected: Any) -> dict[str, Any]:
    """The outputs that are not as they should be, with what they are and what they should be."""
    assert set(expected) == set(prediction.outputs)
    return {
        name: (row[name], value) for name, value in expected.items() if not _is_expected(row[name], value)
    }


def _is_expected(found: Any, value: Any) -> bool:
    if callable(value):
        return bool(value(found))
    return bool(found == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value))
