"""What `doctor` finds, to ask for by subject, and its remedies, each of which is run."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.databases import Session
from tests.support.predictions import opened
from worker.config import Configuration
from worker.doctor.examination import examine
from worker.doctor.findings import Finding, Level


def findings(config: Configuration) -> list[Finding]:
    """All but the broker's, which these tests do without."""
    with opened(config) as engine:
        found = list(examine(engine, config.predictions.values()))
    assert [item.subject for item in found[-1:]] == ["broker"]
    return found[:-1]


def about(found: list[Finding], subject: str) -> list[Finding]:
    """The findings about one subject."""
    return [finding for finding in found if finding.subject == subject]


def the(found: list[Finding], subject: str) -> Finding:
    """The only finding about a subject."""
    (finding,) = about(found, subject)
    return finding


def bad(found: list[Finding]) -> list[Finding]:
    """Errors and warnings; the tests' PostgreSQL has autovacuum off."""
    return [finding for finding in found if finding.level is not Level.OK and finding.subject != "vacuum"]


def mended(admin: Session, ask: Callable[[], list[Finding]], rounds: int = 6) -> list[str]:
    """Runs the remedies of all errors until there is none; returns them in order. No remedy comes twice."""
    run: list[str] = []
    for _ in range(rounds):
        errors = [finding for finding in ask() if finding.level is Level.ERROR]
        if not errors:
            return run
        remedies = [finding.remedy for finding in errors]
        assert all(remedy and remedy.endswith(";") for remedy in remedies), errors
        assert not set(remedies) & set(run), f"a remedy did not mend it: {errors}"
        for remedy in remedies:
            admin.execute(str(remedy))
            run.append(str(remedy))
    raise AssertionError(f"still errors after {run}")
