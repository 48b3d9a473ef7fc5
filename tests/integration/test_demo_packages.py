"""Downloads of Debian's packages, from an apt-get that is made up: what is left when one fails or is killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from worker.demo.packages import VARIABLE, cache_folder, unpacked
from worker.demo.process import ProcessError
from worker.demo.servers import python_path

CONTROL = "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: a test's\n"
APT = """\
#!/bin/sh
# apt-get -c FILE -qq WHAT ...
echo "$4" >>{calls}
case $4 in
    update) grep -q '^#clear APT::Update::Post-Invoke;' "$2" ;;
    indextargets) echo mirror://somewhere/debian/ ;;
    install) {install} ;;
esac
"""
COPY = 'cp {archive} "$(dirname "$2")/cache/archives/"'
FAIL = "echo no such package >&2; exit 100"


class Apt:
    """An apt-get of this test's own, first on PATH, which notes its calls."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._calls = folder / "calls"
        self.archive = folder / "tiny.deb"
        (folder / "bin").mkdir()
        self.answers(COPY.format(archive=self.archive))

    @property
    def calls(self) -> list[str]:
        """What it was asked, in order."""
        return self._calls.read_text().split()

    def answers(self, install: str) -> None:
        """From now on this is what its `install` does."""
        program = self._folder / "bin" / "apt-get"
        program.write_text(APT.format(calls=self._calls, install=install))
        program.chmod(0o755)

    def build(self) -> None:
        """Makes the package tiny, which holds a program and a page of documentation."""
        tree = self._folder / "tree"
        for name in ("DEBIAN", "usr/sbin", "usr/share/doc/tiny"):
            (tree / name).mkdir(parents=True)
        (tree / "DEBIAN" / "control").write_text(CONTROL)
        (tree / "usr/sbin/tiny").write_text("tiny")
        subprocess.run(["dpkg-deb", "--build", tree, self.archive], check=True, capture_output=True)


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apt:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("there is no dpkg-deb")
    made = Apt(tmp_path)
    made.build()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "the cache"))
    return made


def test_a_package_is_unpacked_once_without_what_no_server_reads(apt: Apt) -> None:
    root = unpacked("tiny")
    assert root == cache_folder() / "tiny"
    assert (root / "usr/sbin/tiny").read_text() == "tiny"
    assert not (root / "usr/share/doc").exists()
    assert root.stat().st_mode & 0o777 == 0o755
    assert unpacked("tiny", download=False) == root
    assert apt.calls == ["update", "install"]
    assert sorted(path.name for path in root.parent.iterdir()) == ["tiny", "tiny.lock"]


def test_a_pattern_is_asked_for_and_single_files_may_be_left_out(apt: Apt) -> None:
    asks = COPY.format(archive=apt.archive)
    apt.answers(f'case "$*" in *" tiny-.*") {asks} ;; *) exit 1 ;; esac')
    root = unpacked("tiny-.*", not_needed=("usr/sbin/t*", "nothing"))
    assert root == cache_folder() / "tiny"
    assert (root / "usr/share/doc/tiny").is_dir()
    assert not (root / "usr/sbin/tiny").exists()


def test_unstable_is_asked_at_the_mirror_of_the_machine(apt: Apt) -> None:
    apt.answers(f'cat "$(dirname "$2")/unstable.list" >&2; {FAIL}')
    with pytest.raises(ProcessError, match=r"mirror://somewhere/debian/ unstable main"):
        unpacked("tiny", unstable=True)
    assert apt.calls == ["update", "indextargets", "update", "install"]


def test_a_download_that_fails_says_why_and_leaves_nothing(apt: Apt) -> None:
    apt.answers(FAIL)
    with pytest.raises(ProcessError, match=r"(?s)apt-get .* failed.*no such package"):
        unpacked("tiny")
    assert [path.name for path in cache_folder().iterdir()] == ["tiny.lock"]


def test_what_a_killed_download_left_is_removed_and_never_used(apt: Apt) -> None:
    apt.answers("kill -9 $PPID")
    code = "from worker.demo.packages import unpacked; unpacked('tiny')"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, env={**os.environ, **python_path()}, check=False).returncode == -9
    left = [path.name for path in cache_folder().glob("tiny.draft-*")]
    assert left
    apt.answers(COPY.format(archive=apt.archive))
    assert (unpacked("tiny") / "usr/sbin/tiny").exists()
    assert sorted(path.name for path in cache_folder().iterdir()) == ["tiny", "tiny.lock"]


def test_two_processes_download_once(apt: Apt) -> None:
    code = "from worker.demo.packages import unpacked; print(unpacked('tiny'))"
    environment = {**os.environ, **python_path()}
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert {child.communicate()[0].strip() for child in both} == {str(cache_folder() / "tiny")}
    assert apt.calls == ["update", "install"]


def test_nothing_is_downloaded_unasked_or_without_apt(apt: Apt, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProcessError, match="tiny has not been downloaded"):
        unpacked("tiny", download=False)
    monkeypatch.setenv("PATH", str(apt.archive))
    with pytest.raises(ProcessError, match="there is no apt-get"):
        unpacked("tiny")


def test_a_cache_that_can_not_be_written_is_named(apt: Apt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(apt.archive / "below a file"))
    with pytest.raises(ProcessError, match=f"set {VARIABLE}"):
        unpacked("tiny")


def test_the_cache_is_in_the_home_unless_it_is_named(tmp_path: Path) -> None:
    assert cache_folder({}) == Path.home() / ".cache" / "rowscore"
    assert cache_folder({VARIABLE: str(tmp_path)}) == tmp_path
