"""What `doctor` finds around the database: folders that shadow rowscore's packages, the broker, other workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.predictions import configuration
from worker.config import Configuration, parse_configuration
from worker.demo.loopback import free_port
from worker.demo.servers import RedisServer, python_path
from worker.doctor.findings import Level
from worker.doctor.imports import check_imports
from worker.doctor.services import check_broker, compare_workers

OWN = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("marker", [True, False], ids=["package", "folder"])
def test_a_folder_that_shadows_a_package_is_named(tmp_path: Path, marker: bool) -> None:
    (tmp_path / "tasks").mkdir()
    if marker:
        (tmp_path / "tasks" / "__init__.py").touch()
    elsewhere = [path for path in sys.path if Path(path).resolve() not in (OWN, Path.cwd()) and path]
    found = list(check_imports(OWN, tmp_path, [*elsewhere, str(OWN)] if marker else elsewhere))
    assert [(item.level, str(tmp_path / "tasks") in item.message) for item in found] == [(Level.ERROR, True)]


def test_rowscores_own_folders_shadow_nothing() -> None:
    assert [item.level for item in check_imports(OWN, OWN, [str(OWN)])] == [Level.OK]


def test_a_shadowed_name_is_found_by_the_command_itself(tmp_path: Path) -> None:
    (tmp_path / "sql.py").write_text("x = 1\n")
    script = "from worker.doctor.imports import check_own_imports as c; print(*[f.message for f in c()])"
    # -P: like the installed script, Python itself does not look into the current folder; Celery does.
    words = [sys.executable, "-P", "-c", script]
    done = subprocess.run(
        words, cwd=tmp_path, env=python_path(), capture_output=True, text=True, check=True, timeout=60
    )
    assert f"`import sql` finds {tmp_path / 'sql.py'} instead of {OWN / 'sql'}" in done.stdout


def with_broker(url: str) -> Configuration:
    section = {"table": "items", "inputs": ["a"], "outputs": {"p": "float8"}, "model": {"sql": "predict"}}
    return parse_configuration(
        {"database": "postgresql:///x", "broker": url, "predictions": {"churn": section}}
    )


def test_a_broker_that_answers_and_has_no_worker(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        found = list(check_broker(with_broker(redis.url())))
    assert [(item.subject, item.level) for item in found] == [
        ("broker", Level.OK),
        ("workers", Level.WARNING),
    ]


def test_a_broker_that_does_not_answer_is_named_without_its_password() -> None:
    (found,) = check_broker(with_broker(f"redis://:hidden@127.0.0.1:{free_port()}/0"))
    assert found.level is Level.ERROR
    assert "hidden" not in found.message


def test_without_a_broker_run_still_works_and_it_says_so() -> None:
    (found,) = check_broker(with_broker("$H7_NO_BROKER"))
    assert found.level is Level.WARNING
    assert "`rowscore run` works" in found.message


def test_a_worker_with_another_definition_is_named() -> None:
    config = with_broker("redis://x")
    own = {"churn": {"definition": config.predictions["churn"].definition_hash, "version": ""}}
    same = {"one@host": {"predictions": own}}
    assert [item.level for item in compare_workers(config, same)] == [Level.OK]
    other = {"two@host": {"predictions": {"churn": {"definition": "0" * 12, "version": ""}}}}
    (found,) = compare_workers(config, {**same, **other})
    assert found.level is Level.ERROR
    assert found.message.startswith("two@host was started with another definition of churn")


def test_who_would_score_old_rows_again_has_to_listen_for_it() -> None:
    config = configuration("postgresql://127.0.0.1:1/none", max_age="30d")
    own = {"churn": {"definition": config.predictions["churn"].definition_hash, "version": ""}}
    usual = {"one@host": {"predictions": own, "queues": ["rowscore"]}}
    _, found = compare_workers(config, usual)
    assert found.level is Level.WARNING
    assert found.message == (
        "no worker listens on the queue rowscore-backfill: what max_age of churn asks for waits"
    )
    assert found.remedy == "celery -A worker worker -Q rowscore-backfill"
    both = {**usual, "two@host": {"predictions": own, "queues": ["rowscore-backfill"]}}
    older = {"one@host": {"predictions": own}}
    for answers, asked in ((both, config), (older, config), (usual, configuration("postgresql://h/none"))):
        assert [item.level for item in compare_workers(asked, answers)] == [Level.OK]
