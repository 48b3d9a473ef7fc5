"""docker-compose.yml and Dockerfile, read as files: what must hold in them, and that what they name is there.

Nothing here needs a container engine. The table that the service `setup` fills is filled in a real PostgreSQL.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from tests.conftest import Connect
from worker.app import BACKFILL_QUEUE
from worker.cli import app
from worker.config import read_configuration
from worker.demo import churn, scene, table
from worker.heartbeat import VARIABLE
from worker.kinds.http import HttpModel
from worker.shutdown import GRACE

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]

ONCE = {"setup", "backfill", "traffic"}
LASTING = {"postgres", "redis", "endpoint", "worker", "backfiller", "beat", "flower"}
WORKERS = ["worker", "backfiller"]
IMAGES = {"postgres": "postgres:18", "redis": "redis:8"}
OWN = sorted((ONCE | LASTING) - IMAGES.keys())
PYTHON = "python:3.11-slim-bookworm"

every_service = pytest.mark.parametrize("name", sorted(SERVICES))


def instructions(word: str) -> list[str]:
    """The arguments of each such instruction of the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n(?:#.*\n)*", " ", DOCKERFILE)
    return re.findall(rf"^{word}\s+(.*)$", text, re.MULTILINE)


def words(name: str) -> list[str]:
    """A service's command as one list of words; a script's are split as a shell would."""
    return " ".join(SERVICES[name]["command"]).split()


def seconds(text: str) -> float:
    """A duration as Compose writes it; here always whole seconds."""
    return float(text.removesuffix("s"))


def let_into_the_build() -> set[str]:
    """What .dockerignore, which begins with everything, lets through."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*", "what is not named must stay outside: .env, .git"
    return {rule[1:] for rule in rules if rule.startswith("!")}


def bind_mounts() -> Iterator[tuple[str, str, str]]:
    """Service, source and the rest of each mount of a file of this repository."""
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source, _, rest = volume.partition(":")
            if source.startswith((".", "/", "~")):
                yield name, source, rest


def test_the_services_are_there() -> None:
    assert SERVICES.keys() == ONCE | LASTING


def test_ports_are_published_on_loopback_only_and_flowers_is() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"flower": ["127.0.0.1:${FLOWER_PORT:-5555}:5555"]}
    assert not any("network_mode" in service for service in SERVICES.values())


@every_service
def test_a_container_can_do_no_more_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["mem_limit"]
    assert not {"cap_add", "privileged", "devices", "pid", "userns_mode"} & service.keys()


@every_service
def test_no_container_runs_as_root(name: str) -> None:
    user = SERVICES[name].get("user", instructions("USER")[-1] if name in OWN else "root")
    assert user.partition(":")[0] not in ("", "0", "root")


@pytest.mark.parametrize("name", sorted(LASTING))
def test_what_stays_is_started_again_and_has_a_health_check(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries", "start_period"} < check.keys()


@pytest.mark.parametrize("name", [*WORKERS, "beat"])
def test_the_heartbeat_is_checked_where_it_is_written(name: str) -> None:
    file = SERVICES[name]["environment"][VARIABLE]
    assert f"find {file} " in SERVICES[name]["healthcheck"]["test"][1]
    assert str(Path(file).parent) in SERVICES[name]["tmpfs"]


@every_service
def test_nobody_waits_for_what_cannot_happen(name: str) -> None:
    for other, wanted in SERVICES[name].get("depends_on", {}).items():
        expected = "service_completed_successfully" if other in ONCE else "service_healthy"
        assert wanted == {"condition": expected}, other


@pytest.mark.parametrize("name", sorted(ONCE))
def test_what_runs_once_is_not_started_again(name: str) -> None:
    assert SERVICES[name]["restart"] == "no"


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_has_time_for_the_batch_in_flight(name: str) -> None:
    assert seconds(SERVICES[name]["stop_grace_period"]) >= max(30.0, GRACE + 10.0)


def test_each_queue_has_its_own_worker() -> None:
    """Celery's option -Q names all queues of a worker; without it there is the usual one."""
    queues = {name: words(name)[words(name).index("-Q") + 1] for name in WORKERS if "-Q" in words(name)}
    assert queues == {"backfiller": BACKFILL_QUEUE}
    assert SERVICES["backfiller"].keys() == SERVICES["worker"].keys()
    assert [key for key in SERVICES["worker"] if SERVICES["worker"][key] != SERVICES["backfiller"][key]] == [
        "command"
    ]


def test_images_are_pinned_and_one_service_builds_the_own_one() -> None:
    assert {name: SERVICES[name]["image"] for name in IMAGES} == IMAGES
    assert {SERVICES[name]["image"] for name in OWN} == {"rowscore"}
    assert [name for name in SERVICES if "build" in SERVICES[name]] == ["endpoint"]
    assert SERVICES["endpoint"]["build"] == "."
    assert {SERVICES[name]["pull_policy"] for name in OWN} == {"never"}, "a registry has no such image"


def test_the_builder_and_the_image_have_the_same_pinned_python() -> None:
    assert instructions("FROM") == [f"{PYTHON} AS builder", PYTHON]
    assert not DOCKERFILE.startswith("# syntax"), "another image to fetch"
    lowest = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert re.match(rf"python:{re.escape(lowest)}-", PYTHON), (
        "the image has the oldest Python that is supported"
    )


def test_the_image_holds_constrained_wheels_and_has_a_user_with_a_fixed_number() -> None:
    installs = [step for step in instructions("RUN") if "pip install" in step]
    assert installs
    assert all("-c constraints.txt" in step for step in installs)
    assert not any(re.search(r"\bapt(-get)? ", step) for step in instructions("RUN"))
    user, _, group = instructions("USER")[-1].partition(":")
    made = next(step for step in instructions("RUN") if "useradd" in step)
    assert f"--uid {user} " in made
    assert f"--gid {group} " in made


def test_no_secret_is_in_the_image_and_the_one_of_compose_is_for_development() -> None:
    settings = " ".join(instructions("ENV") + instructions("ARG")).upper()
    assert not re.search(r"PASSWORD|TOKEN|SECRET|DATABASE_URL|BROKER_URL", settings)
    found = re.findall(r"^\s*\w*PASSWORD: *(.*)$", COMPOSE, re.MULTILINE)
    assert found == ["&password ${POSTGRES_PASSWORD:-for-development-only}", "*password"]
    assert not re.search(r"://[^/\s:@]*:[^/\s@]+@", COMPOSE), "a URL holds a password"


def test_every_file_that_is_copied_or_mounted_is_there() -> None:
    sources = [word for step in instructions("COPY") if "--from" not in step for word in step.split()[:-1]]
    mounts = list(bind_mounts())
    assert sources
    assert mounts
    assert [source for source in sources if not (ROOT / source).exists()] == []
    for name, source, rest in mounts:
        assert (ROOT / source).is_file(), name
        assert rest.endswith(":ro"), name


def test_the_build_is_given_the_packages_and_what_pyproject_reads() -> None:
    project = PROJECT["project"]
    packages = {name.rstrip("*") for name in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    wanted = packages | {"pyproject.toml", "constraints.txt", project["readme"], *project["license-files"]}
    assert let_into_the_build() == wanted
    assert all((ROOT / name).exists() for name in wanted)


def test_every_data_file_of_the_packages_is_installed() -> None:
    kinds = {pattern.removeprefix("*") for pattern in PROJECT["tool"]["setuptools"]["package-data"]["*"]}
    for package in ("schedules", "sql", "tasks", "worker"):
        files = [
            file for file in (ROOT / package).rglob("*") if file.is_file() and "__pycache__" not in file.parts
        ]
        assert {file.suffix for file in files} <= kinds | {".py"}
        assert all((file.parent / "__init__.py").exists() for file in files), "not a package: left out"


@pytest.mark.parametrize("name", OWN)
def test_every_command_is_one_that_there_is(name: str) -> None:
    said = words(name)
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    modules = [said[at + 1] for at, word in enumerate(said) if word == "-m"]
    assert all(find_spec(module) for module in modules)
    assert all(said[at + 1] in commands for at, word in enumerate(said) if word == "rowscore")
    assert said[0] in ("celery", "python", "rowscore", "sh")
    if said[0] == "celery":
        assert said[1:4] == ["-A", "worker", "worker" if name in WORKERS else name]


def test_every_variable_is_named_at_the_top_with_its_default() -> None:
    head = COMPOSE.partition("\nname:")[0]
    for variable, default in re.findall(r"\$\{(\w+):-([^}]*)\}", COMPOSE.removeprefix(head)):
        said = variable if variable == "POSTGRES_PASSWORD" else f"{variable}={default}"
        assert re.search(rf"\b{re.escape(said)}\b", head), said


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The mounted configuration, read where the image expects it, in the environment of the worker's container."""
    mounted = {(source, rest) for _, source, rest in bind_mounts()}
    ((source, rest),) = mounted
    assert f"ROWSCORE_CONFIG={rest.removesuffix(':ro')}" in " ".join(instructions("ENV"))
    for name, value in SERVICES["worker"]["environment"].items():
        monkeypatch.setenv(name, value)
    return read_configuration(ROOT / source)


def test_the_configuration_is_that_of_the_demo(configured: Any) -> None:
    prediction = configured.prediction()
    assert prediction.name == scene.NAME
    assert prediction.table == churn.TABLE
    assert tuple(item.name for item in prediction.inputs) == churn.FEATURES
    assert prediction.version_value == scene.VERSION
    assert prediction.max_rows_per_batch == scene.ROWS_PER_CALL


def test_the_configuration_leads_to_the_services(configured: Any) -> None:
    prediction = configured.prediction()
    assert isinstance(prediction.model, HttpModel)
    port = next(word for word in words("endpoint") if word.startswith("--port=")).removeprefix("--port=")
    assert prediction.model.http == f"http://endpoint:{port}/invocations"
    assert f"127.0.0.1:{port}/ping" in SERVICES["endpoint"]["healthcheck"]["test"][-1]
    postgres = SERVICES["postgres"]["environment"]
    expected = f"postgresql://{postgres['POSTGRES_USER']}@postgres:5432/{postgres['POSTGRES_DB']}"
    assert configured.database_url(prediction) == expected
    assert configured.broker_url() == "redis://redis:6379/0"


def test_the_table_is_filled_once(
    database_url: str, connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table.main(["--url", database_url, "--rows", "123"]) == 0
    assert capsys.readouterr().out == "mltest.churn_inserts: 123 customers loaded\n"
    assert table.main(["--url", database_url, "--rows", "123"]) == 0
    assert capsys.readouterr().out == "mltest.churn_inserts: as it was\n"
    assert connect().execute(f"SELECT count(*) FROM {churn.TABLE}").fetchone() == (123,)


def test_an_unreachable_database_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert table.main(["--url", "postgresql://127.0.0.1:1/nowhere"]) == 1
    assert capsys.readouterr().err.startswith("cannot connect: ")
