"""`python -m tests.docs`: one line for each mistake in the documents, and exit status 1 if there is any."""

from __future__ import annotations

import sys

from tests.docs.checks import CHECKS
from tests.docs.documents import read_all


def main() -> int:
    """Run all checks and say what they found."""
    documents = read_all()
    problems = [problem for check in CHECKS for problem in check(documents)]
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"{len(documents)} documents: what they name is there, and nothing is missing")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
