"""moto's server: AWS's APIs as others have written them. It is a process, since moto changes the boto3 beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.demo.loopback import free_port

_SECONDS = 60.0


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The server's address, while the block runs; what it says goes to `moto.log` in the folder."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (folder / "moto.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_for(address, process)
            yield address
        finally:
            process.terminate()
            process.wait(30)


def environment(address: str) -> dict[str, str]:
    """The variables that lead boto3 there, with an account that moto takes."""
    none = os.devnull
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_CONFIG_FILE": none,
        "AWS_SHARED_CREDENTIALS_FILE": none,
    }


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    ends_at = time.monotonic() + _SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{address}/moto-api/data.json", timeout=5):
                return
        except OSError:
            assert process.poll() is None, "moto's server ended"
            assert time.monotonic() < ends_at, "moto's server does not answer"
            time.sleep(0.05)
