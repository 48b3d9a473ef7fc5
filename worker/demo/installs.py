"""Where MariaDB's and MySQL's programs are: on this machine, or in Debian's packages; it starts no server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from worker.demo.packages import unpacked
from worker.demo.process import ProcessError

Flavour = Literal["mariadb", "mysql"]

PROGRAMS: dict[Flavour, tuple[str, ...]] = {"mariadb": ("mariadbd", "mysqld"), "mysql": ("mysqld",)}
TITLES: dict[Flavour, str] = {"mariadb": "MariaDB", "mysql": "MySQL"}
BESIDE_PATH = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec")  # where systems put servers, off a user's PATH
LOADERS = ("lib*/ld-linux*.so.*", "usr/lib*/ld-linux*.so.*")
LIBRARIES = ("lib/*-linux-*", "usr/lib/*-linux-*")


@dataclass(frozen=True, slots=True)
class Install:
    """A server's program with what it reads.

    `root` is the folder that was unpacked, whose own libraries it runs on; None is a program of this machine.
    `share` holds the messages, the character sets and MariaDB's system tables.
    """

    flavour: Flavour
    version: str
    program: Path
    share: Path
    root: Path | None = None

    @classmethod
    def of(cls, program: Path, root: Path | None = None) -> Self:
        """The install that a program belongs to; ProcessError if it does not run."""
        command = [*loader(root), str(program), "--no-defaults", "--version"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        except (OSError, subprocess.SubprocessError) as exc:
            words = getattr(exc, "stderr", None) or exc
            raise ProcessError(f"{program} does not run here: {words}. Remove {root or program}") from exc
        found = re.search(r"Ver (\d[\d.]*)", done.stdout)
        if found is None:
            raise ProcessError(f"{program} is no MariaDB and no MySQL server; it says: {done.stdout.strip()}")
        flavour: Flavour = "mariadb" if "MariaDB" in done.stdout else "mysql"
        return cls(flavour, found[1], program, shared_folder(program), root)

    @property
    def title(self) -> str:
        """Its name and version, for people."""
        return f"{TITLES[self.flavour]} {self.version}"

    @property
    def command(self) -> tuple[str, ...]:
        """The words that start the program."""
        return (*loader(self.root), str(self.program))

    def moved(self, root: Path) -> Self:
        """The same, in a copy of its folder."""
        if self.root is None:
            return self
        program, share = (root / path.relative_to(self.root) for path in (self.program, self.share))
        return replace(self, program=program, share=share, root=root)


def loader(root: Path | None) -> tuple[str, ...]:
    """What runs a program on the libraries of the folder that was unpacked, libc included."""
    if root is None:
        return ()
    found = [path for pattern in LOADERS for path in sorted(root.glob(pattern))]
    if not found:
        raise ProcessError(f"{root} holds no loader of programs. Remove it")
    libraries = [str(path) for pattern in LIBRARIES for path in sorted(root.glob(pattern))]
    return (str(found[0]), "--library-path", os.pathsep.join(libraries))


def shared_folder(program: Path) -> Path:
    """The folder of messages that belongs to a program: MariaDB and MySQL use each other's old names."""
    share = program.resolve().parents[1] / "share"
    for folder in (share / "mariadb", share / "mysql", share):
        if (folder / "english" / "errmsg.sys").exists():
            return folder
    raise ProcessError(f"{program} has no messages in {share}")


def mariadb_install(*, download: bool = True) -> Install:
    """MariaDB's server on this machine, or else the one of its release of Debian, downloaded once."""
    return _on_path("mariadb") or _debian("mariadb", "mariadb-server-core", download=download)


def mysql_install(*, download: bool = True) -> Install:
    """MySQL's server on this machine, or else the newest that Debian packages, downloaded once.

    Debian's releases have MariaDB in its place, so it comes from unstable.
    """
    return _on_path("mysql") or _debian("mysql", "mysql-server-core", unstable=True, download=download)


def _on_path(flavour: Flavour) -> Install | None:
    folders = os.pathsep.join((os.environ.get("PATH", os.defpath), *BESIDE_PATH))
    for name in PROGRAMS[flavour]:
        if found := shutil.which(name, path=folders):
            with suppress(ProcessError):  # one that does not run is as good as none
                install = Install.of(Path(found))
                if install.flavour == flavour:
                    return install
    return None


def _debian(flavour: Flavour, package: str, *, unstable: bool = False, download: bool) -> Install:
    try:
        root = unpacked(package, unstable=unstable, download=download)
    except ProcessError as exc:
        title = TITLES[flavour]
        raise ProcessError(
            f"there is no {title} server on this machine ({exc}): install your system's package {flavour}-server"
        ) from exc
    return Install.of(root / "usr/sbin" / PROGRAMS[flavour][0], root)
