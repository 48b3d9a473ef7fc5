"""Debian's packages unpacked into a folder of the user's cache, as any user and without installing anything.

apt does the work, from an empty state of its own beside the machine's: it finds the mirrors in the machine's own
sources, checks the signatures, and resolves the package with all that it needs, libc included. So what was unpacked
runs on its own libraries, whatever the machine has. This knows no particular server.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from worker.demo.private import remove
from worker.demo.process import ProcessError

VARIABLE = "ROWSCORE_CACHE"
TIMEOUT = 600  # seconds for one command: the larger download has 60 MB
KEYRINGS = ("debian-archive-keyring.pgp", "debian-archive-keyring.gpg")
NOT_NEEDED = ("etc", "usr/bin", "usr/share/[!m]*", "usr/share/man", "usr/lib/*/perl*", "usr/lib/*/gconv")
CONFIGURATION = """\
// Apart from the machine's apt: no lock, no list and no archive of it is touched, and its hooks do not run.
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
APT::Default-Release "";
APT::Sandbox::User "root";
Acquire::Languages "none";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
"""
UNSTABLE = """\
Dir::Etc::SourceList "{folder}/unstable.list";
Dir::Etc::SourceParts "/dev/null";
"""


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where downloads are kept: $ROWSCORE_CACHE, or else .cache/rowscore in the user's home."""
    return Path(environment.get(VARIABLE) or Path.home() / ".cache" / "rowscore").absolute()


def unpacked(
    package: str,
    *,
    unstable: bool = False,
    download: bool = True,
    not_needed: Sequence[str] = NOT_NEEDED,
) -> Path:
    """The folder in which a package and all that it needs lie unpacked, downloaded if it is not there yet.

    The package is the one of the machine's own release, or with `unstable` Debian's newest; a name that holds a
    star is a pattern, of which the release has one. Raises ProcessError where it can not be had, or is not there and
    may not be downloaded.

    Args:
        package: its name.
        unstable: see above.
        download: whether it may be downloaded.
        not_needed: patterns of what is removed again, for the room that it takes.
    """
    name = package.replace(".*", "").rstrip("-")
    final = cache_folder() / (f"{name}-unstable" if unstable else name)
    if final.exists():
        return final
    if not download:
        raise ProcessError(f"{final.name} has not been downloaded to {final.parent}")
    if missing := [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]:
        raise ProcessError(f"{package} can not be downloaded here: there is no {missing[0]}")
    with _locked(final):
        if not final.exists():
            _provide(package, final, not_needed, unstable=unstable)
    return final


@contextmanager
def _locked(final: Path) -> Iterator[None]:
    """Keeps other processes waiting; the system lets go of the lock of one that was killed."""
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with final.with_name(f"{final.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as exc:
        raise ProcessError(f"the cache can not be written ({exc}): set {VARIABLE} to another folder") from exc


def _provide(package: str, final: Path, not_needed: Sequence[str], *, unstable: bool) -> None:
    """Downloads and unpacks beside the final folder, which appears in one step."""
    for left in final.parent.glob(f"{final.name}.draft-*"):  # by a run that was killed
        remove(left)
    draft = Path(tempfile.mkdtemp(prefix=f"{final.name}.draft-", dir=final.parent))
    try:
        root = draft / "root"
        root.mkdir()
        for archive in _download(package, draft, unstable=unstable):
            _call("dpkg-deb", "-x", str(archive), str(root))
        for pattern in not_needed:
            for path in root.glob(pattern):
                path.unlink() if path.is_file() or path.is_symlink() else remove(path)
        root.chmod(0o755)
        root.rename(final)
    finally:
        remove(draft)


def _download(package: str, folder: Path, *, unstable: bool) -> list[Path]:
    """The archives of a package and of all that it needs, from libc up."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()  # nothing is installed
    configuration = folder / "apt.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder))
    apt = ("apt-get", "-c", str(configuration), "-qq")
    _call(*apt, "update")
    if unstable:
        (folder / "unstable.list").write_text(_unstable_source(apt))
        configuration.write_text((CONFIGURATION + UNSTABLE).format(folder=folder))
        _call(*apt, "update")
    _call(*apt, "install", "--yes", "--download-only", "--no-install-recommends", package)
    return sorted((folder / "cache/archives").glob("*.deb"))


def _unstable_source(apt: tuple[str, ...]) -> str:
    """Debian unstable, at the mirror from which this machine has its own Debian."""
    fields = (
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
        "Origin: Debian",
        "Label: Debian",
        "Component: main",
    )
    mirrors = _call(*apt, "indextargets", *fields).split()
    if not mirrors:
        raise ProcessError("there is no mirror of Debian in this machine's apt sources")
    keys = [path for name in KEYRINGS if (path := Path("/usr/share/keyrings", name)).exists()]
    return f"deb {f'[signed-by={keys[0]}] ' if keys else ''}{mirrors[0]} unstable main\n"


def _call(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT)
    except subprocess.CalledProcessError as exc:
        raise ProcessError(f"{' '.join(command)} failed. It says:\n{exc.stderr.strip()}") from exc
    except subprocess.TimeoutExpired as exc:
        raise ProcessError(f"{' '.join(command)} took longer than {TIMEOUT} seconds") from exc
    return done.stdout
