"""The periodic messages of each prediction, as Celery beat takes them; it sends none.

Every message is a hint that may come twice, late or never: the database holds the truth. So messages expire
when their successor is due, two beats do no harm, and beat keeps no file of what it sent.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

from celery.schedules import ParseException, crontab

from worker.config import Configuration, Prediction
from worker.errors import ConfigurationError

RETRY_EVERY = timedelta(minutes=1)
PRUNE_EVERY = timedelta(hours=1)
VERIFY_EVERY = timedelta(
    hours=1
)  # whether a walk is due the database tells, however often beat is started anew
LOOK_AT_VIEW_EVERY = timedelta(hours=1)
LOOKS_PER_REFRESH = 4  # at whether a rescore by `max_age` is due, which the database knows
_FIELDS = 5
_HOUR = 3600.0


def beat_schedule(configuration: Configuration) -> dict[str, dict[str, Any]]:
    """Beat's table: for each prediction a tick, the retry of failed rows, the pruning of its log, a look at its view.

    A prediction with `max_age` has rows scored again that are too old. One with `cron` retries and begins that with it
    too: whoever confines scoring to the night means the model's bill.

    Raises:
        ConfigurationError: a `cron` cannot be read; it names the key.
    """
    table: dict[str, dict[str, Any]] = {}
    for name, prediction in configuration.predictions.items():
        when = cron_schedule(prediction, configuration.path)
        expires = interval(prediction, configuration.path)
        table[f"{name}: tick"] = _entry("tick", name, when or prediction.every, expires)
        table[f"{name}: retry"] = _entry(
            "retry", name, when or RETRY_EVERY, expires if when else RETRY_EVERY.total_seconds()
        )
        table[f"{name}: prune"] = _entry("prune", name, PRUNE_EVERY, PRUNE_EVERY.total_seconds())
        if (every := prediction.verified_every) is not None:
            looks = min(every, VERIFY_EVERY)
            table[f"{name}: verify"] = _entry("verify", name, looks, looks.total_seconds())
        if prediction.view_name is not None:
            table[f"{name}: view"] = _entry(
                "view", name, LOOK_AT_VIEW_EVERY, LOOK_AT_VIEW_EVERY.total_seconds()
            )
        if prediction.refresh_every is not None:
            looks = prediction.refresh_every / LOOKS_PER_REFRESH
            table[f"{name}: refresh"] = _entry(
                "refresh", name, when or looks, expires if when else looks.total_seconds()
            )
    return table


def cron_schedule(prediction: Prediction, path: str) -> crontab | None:
    """The prediction's `cron` in UTC (minute, hour, day of the month, month, day of the week), if it has one.

    Raises:
        ConfigurationError: it is not a cron expression.
    """
    if prediction.cron is None:
        return None
    where = f"{path}: predictions.{prediction.name}.cron"
    fields = prediction.cron.split()
    if len(fields) != _FIELDS:
        raise ConfigurationError(
            f'{where}: expected five fields such as "*/5 * * * *", not {prediction.cron!r}'
        )
    try:
        return crontab.from_string(" ".join(fields))
    except (ParseException, ValueError, KeyError) as error:
        raise ConfigurationError(f"{where}: {prediction.cron!r} cannot be read: {error}") from error


def interval(prediction: Prediction, path: str) -> float:
    """Seconds after which a message of the prediction is out of date: its successor has been sent by then.

    With `cron` the shortest time between two minutes of an hour, an hour at most: a nightly tick may come
    late.
    """
    when = cron_schedule(prediction, path)
    if when is None:
        return prediction.every.total_seconds()
    minutes = sorted(when.minute)
    gaps = [60.0 * (after - before) for before, after in pairwise(minutes)]
    return float(min([*gaps, _HOUR - 60.0 * (minutes[-1] - minutes[0])]))


def _entry(task: str, name: str, schedule: timedelta | crontab, expires: float) -> dict[str, Any]:
    return {
        "task": f"rowscore.{task}",
        "schedule": schedule,
        "args": (name,),
        "options": {"expires": expires},
    }
