"""Real model servers on ports of their own: MLflow, MLServer, and sentence embeddings behind the API of OpenAI."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.docs.documents import ROOT
from tests.support.absent import absent

FOLDER = ROOT / "tests" / "servers"
KEY = "sesame-open-1234"
"""What the embeddings' server takes for a key."""


def python() -> str:
    """The Python of the servers' environment; see `absent` for where there is none."""
    folder = Path(os.environ.get("ROWSCORE_TEST_SERVERS", ROOT / ".venv" / "servers"))
    found = folder / "bin" / "python"
    if not found.exists():
        absent(f"the model servers are not installed in {folder}: `make test` does it")
    return str(found)


@contextmanager
def mlflow() -> Iterator[str]:
    """MLflow's scoring server as `mlflow models serve` starts it; its address for rows."""
    (port,) = _ports(1)
    command = [
        "-m", "uvicorn", "--port", str(port), "--log-level", "warning", "mlflow.pyfunc.scoring_server.app:app",
    ]  # fmt: skip
    model = {"__pyfunc_model_path__": str(FOLDER / "mlflow")}
    with _running(command, model, f"http://127.0.0.1:{port}/ping"):
        yield f"http://127.0.0.1:{port}/invocations"


@contextmanager
def mlserver(folder: Path) -> Iterator[str]:
    """MLServer with the model `risk`; its address for rows. Its settings are written into the folder."""
    ports = _ports(3)
    names = ("http_port", "grpc_port", "metrics_port")
    settings = {"host": "127.0.0.1", "parallel_workers": 0, **dict(zip(names, ports, strict=True))}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text((FOLDER / "mlserver" / "model-settings.json").read_text())
    path = {"PYTHONPATH": str(FOLDER / "mlserver")}
    url = f"http://127.0.0.1:{ports[0]}/v2/models/risk"
    with _running(
        ["-c", "from mlserver.cli import main; main()", "start", str(folder)], path, f"{url}/ready"
    ):
        yield f"{url}/infer"


@contextmanager
def embeddings(name: str = "l2-supercat-256") -> Iterator[str]:
    """OpenAI's API over a real model of sentences, which is called by that name; its address with the version."""
    (port,) = _ports(1)
    url = f"http://127.0.0.1:{port}/v1"
    with _running([str(FOLDER / "embeddings.py"), str(port), name], {}, f"{url}/models/{name}"):
        yield url


def _ports(count: int) -> Sequence[int]:
    """Free ports, different ones."""
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in taken]
    for server in taken:
        server.close()
    return ports


@contextmanager
def _running(arguments: Sequence[str], environment: Mapping[str, str], health: str) -> Iterator[None]:
    """A server while the block runs, from the moment it says that it is well."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OTEL"))}
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [python(), *arguments], env={**own, **environment}, stdout=log, stderr=log
        ) as process,
    ):
        try:
            if not _is_well(process, health):
                log.seek(0)
                raise AssertionError(f"{health} never answered: {log.read()[-2000:]}")
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _is_well(process: subprocess.Popen[bytes], health: str) -> bool:
    with httpx.Client(trust_env=False) as client:
        for _ in range(600):
            try:
                if client.get(health, timeout=5).is_success:
                    return True
            except httpx.TransportError:
                pass
            if process.poll() is not None:
                return False
            time.sleep(0.05)
    return False
