"""The churn table of `docker compose up`, made and filled where it is not there yet; it applies and scores nothing."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from worker.demo import churn
from worker.demo.connections import CannotConnectError, connect, dialect_of


def fill(url: str, count: int) -> int:
    """Makes the churn table, with so many made-up customers if it has none; returns how many were added."""
    with connect(url) as connection:
        churn.create(connection)
        text: Any = churn.statement("begin_tally", dialect_of(connection), **churn.named(churn.TABLE))
        tally: Any = connection.execute(text).fetchone()
        if count == 0 or tally.last > 0:
            return 0
        churn.load(connection, count)
        churn.analyze(connection)
    return count


def options(words: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m worker.demo.table", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--url", required=True, help="the database's URL: libpq's, or mysql://")
    parser.add_argument("--rows", type=int, default=200_000, help="customers of an empty table (200000)")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Fills the table of the command line; 1 if the database cannot be reached."""
    chosen = options(words)
    try:
        added = fill(chosen.url, chosen.rows)
    except CannotConnectError as exc:
        sys.stderr.write(f"cannot connect: {exc}\n")
        return 1
    done = f"{added:,} customers loaded" if added else "as it was"
    sys.stdout.write(f"{churn.TABLE}: {done}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
