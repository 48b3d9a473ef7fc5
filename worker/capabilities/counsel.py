"""What people are told about a database, where another one needs other words: limits, advice, signs of batch mode."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counsel:
    """The words of `explain`, `doctor` and `init`.

    Attributes:
        oldest: the oldest version that rowscore speaks to, as `find_server` counts versions.
        oldest_label: the same for people.
        pooler: what a proxy or pooler between rowscore and the server has to do.
        cleaner: what removes old row versions, and waits for old transactions.
        own_missing: that rowscore's own tables are not there yet.
        trigger_guard: how an UPDATE trigger of the application's leaves rowscore's writes alone.
        batch_sign: by what Aurora shows batch mode in a plan; `{service}` is the service's function.
        batch_remedy: what makes Aurora call `{function}` in batches.
        built_in_remedy: the same for a function of the server's own.
    """

    oldest: int
    oldest_label: str
    pooler: str
    cleaner: str
    own_missing: str
    trigger_guard: str
    batch_sign: str
    batch_remedy: str
    built_in_remedy: str
