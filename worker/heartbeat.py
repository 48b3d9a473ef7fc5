"""A file that is touched as long as a worker or a beat is alive, for health checks; it checks nothing itself.

A container's health check runs every few seconds. `celery inspect ping` imports all of Celery each time: 1.6 s of
a processor, to be told by a worker that answers. The age of a file costs nothing, and says the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celery import signals

VARIABLE = "ROWSCORE_HEARTBEAT_FILE"


def connect_heartbeat(environ: Mapping[str, str] | None = None) -> None:
    """Touch $ROWSCORE_HEARTBEAT_FILE, if it is set, at each heartbeat of a worker and each message of a beat.

    A worker's heart beats every 2 s while it is connected to its broker, busy or not. A beat that cannot reach
    the broker touches nothing; one that can sends a message at least each minute, an hour where `cron` is set.
    Celery logs what goes wrong with the file, and goes on.
    """
    values = os.environ if environ is None else environ
    name = values.get(VARIABLE)
    if not name:
        return
    file = Path(name)

    def touch(**_: Any) -> None:
        file.touch()

    def follow(**_: Any) -> None:
        signals.after_task_publish.connect(
            touch, weak=False
        )  # in beat alone: a worker's tasks send messages too

    signals.heartbeat_sent.connect(touch, weak=False)
    signals.beat_init.connect(follow, weak=False)
