"""A PostgreSQL with PL/Python, which the wheel's lacks: this machine's own, or Debian's packages unpacked."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from worker.demo.mysql import link_or_copy
from worker.demo.packages import unpacked
from worker.demo.postgres import PostgresServer
from worker.demo.process import ProcessError

_PROGRAMS = "usr/lib/postgresql/*/bin"
_LANGUAGE = "lib/plpython3.so"  # beside bin/
_LIBRARIES = ("lib/*-linux-*", "usr/lib/*-linux-*")
# Of 280 MB unpacked 110: what compiles queries, perl, words in other languages.
_NOT_NEEDED = (
    "bin", "sbin", "etc", "var", "usr/bin", "usr/sbin", "usr/libexec", "usr/share/[!p]*", "usr/share/perl*",
    "usr/share/postgresql/*/man", "usr/lib/*/libLLVM*", "usr/lib/*/libz3*", "usr/lib/*/libperl*", "usr/lib/*/perl*",
    "usr/lib/*/gconv", "usr/lib/postgresql/*/lib/llvm*", "usr/lib/postgresql/*/lib/bitcode",
)  # fmt: skip


class PythonServer(PostgresServer):
    """That server; ProcessError at its start where none can be had.

    A downloaded one runs on its own libraries and its own Python, whose release is the machine's.
    """

    def _start(self, port: int) -> None:
        if self._install is None:
            self._install = _own() or self._downloaded()
        super()._start(port)

    def _downloaded(self) -> Path:
        self.home.mkdir(exist_ok=True)
        root = unpacked("postgresql-plpython3-.*", not_needed=_NOT_NEEDED)
        if self._account is not None and not self._may_run(_programs(root) / "postgres"):
            copy = self.home / "install"
            if not copy.exists():
                shutil.copytree(root, copy, symlinks=True, copy_function=link_or_copy)
            root = copy
        libraries = [str(path) for pattern in _LIBRARIES for path in sorted(root.glob(pattern))]
        self.environment = {
            **self.environment,
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "PYTHONHOME": str(root / "usr"),
        }
        return _programs(root).parent


def _own() -> Path | None:
    """What this machine has."""
    if sys.platform != "linux":
        return None
    found = [path.parent for path in sorted(Path("/").glob(_PROGRAMS)) if (path.parent / _LANGUAGE).exists()]
    return found[-1] if found else None


def _programs(root: Path) -> Path:
    found = sorted(root.glob(_PROGRAMS))
    if not found:
        raise ProcessError(f"{root} holds no PostgreSQL. Remove it")
    return found[-1]
