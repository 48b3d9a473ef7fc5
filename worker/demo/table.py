"""The churn table of `docker compose up`, made and filled where it is not there yet; it applies and scores nothing."""

from __future__ import annotations

import argparse
import sys

import psycopg

from worker.demo import churn


def fill(url: str, count: int) -> int:
    """Makes the churn table, with so many made-up customers if it has none; returns how many were added."""
    table = churn.named(churn.TABLE)
    with psycopg.connect(url) as connection:
        churn.create(connection)
        tally = connection.execute(churn.statement("begin_tally", **table)).fetchone()
        if count == 0 or (tally is not None and tally[1] > 0):
            return 0
        churn.load(connection, count)
        connection.execute(churn.statement("analyze", **table))
    return count


def options(words: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m worker.demo.table", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--url", required=True, help="the database's URL, as libpq takes it")
    parser.add_argument("--rows", type=int, default=200_000, help="customers of an empty table (200000)")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Fills the table of the command line; 1 if the database cannot be reached."""
    chosen = options(words)
    try:
        added = fill(chosen.url, chosen.rows)
    except psycopg.OperationalError as exc:
        sys.stderr.write(f"cannot connect: {str(exc).strip()}\n")
        return 1
    done = f"{added:,} customers loaded" if added else "as it was"
    sys.stdout.write(f"{churn.TABLE}: {done}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
