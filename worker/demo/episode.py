"""The demo's traffic: rowscore keeps up while the model dies and comes back; then a trigger, simulated."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from worker.demo import churn, measure
from worker.demo.connections import connect
from worker.demo.measure import Meter, Progress, Tally
from worker.demo.narrator import Narrator
from worker.demo.process import Process
from worker.demo.scene import Scene, finished, shown
from worker.errors import RowscoreError

EACH = 10.0  # inserts a second of each client; with the trigger a client could make 15
DOWN_AT, DOWN_FOR, DOWN_MOST = (
    0.4,
    0.2,
    4.0,
)  # when the model goes, in shares of the traffic; for seconds at most
TRIGGER_SHARE, TRIGGER_MOST = 0.3, 6.0  # how long the trigger's traffic takes
POLL = 0.25
CATCH_UP = 60.0  # seconds that the backlog may take after the traffic


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    rows: int
    clients: int
    seconds: float

    @property
    def rate(self) -> float:
        """Inserts a second of all clients."""
        return self.clients * EACH


@dataclass(frozen=True, slots=True)
class Episode:
    """The traffic that rowscore kept up with, and when the model was down, by the database's clock."""

    since: Tally
    down: datetime
    up: datetime
    report: dict[str, Any]


class Watch:
    """Looks at the table a few times a second while the traffic runs, and shows what it sees."""

    def __init__(self, meter: Meter, since: Tally, traffic: Process, show: Callable[[str], None]) -> None:
        self._meter = meter
        self._since = since
        self._traffic = traffic
        self._show = show
        self._began: datetime | None = None
        self.now = Progress(0, 0, since.now)

    @property
    def second(self) -> float:
        """Seconds since the first insert."""
        return (self.now.now - self._began).total_seconds() if self._began else 0.0

    @property
    def moment(self) -> str:
        """The second as the narrative's lines begin."""
        return f"{self.second:4.1f} s"

    def until(self, reached: Callable[[], bool]) -> None:
        """Looks until that is so."""
        while True:
            self._look()
            if reached():
                return
            time.sleep(POLL)

    def until_second(self, second: float) -> None:
        """Looks until that second of the traffic.

        Raises:
            RowscoreError: the traffic ended before.
        """
        self.until(lambda: self.second >= second or not self._traffic.alive)
        if not self._traffic.alive:
            finished(self._traffic)
            raise RowscoreError(
                f"the clients were done after {self.second:.1f} s, too early; is this machine asleep?"
            )

    def _look(self) -> None:
        self.now = self._meter.progress(self._since)
        if self._began is None and self.now.arrived:
            self._began = self._meter.began(self._since)
        self._show(f"{self.moment}  {self.now.arrived:,} rows arrived, {self.now.waiting:,} wait")


def insert_and_score(scene: Scene, narrator: Narrator, size: Size, meter: Meter) -> Episode:
    """The application inserts, the workers keep up, and the model is killed and comes back.

    Raises:
        RowscoreError: the clients could not insert, or the backlog does not come to an end.
    """
    down_for = min(size.seconds * DOWN_FOR, DOWN_MOST)
    narrator.step(
        f"{size.clients} clients insert {size.rate:,.0f} rows a second for {size.seconds:g} s; "
        f"for {down_for:g} of them the model is dead",
        "The application does not know of the model: it inserts, and the workers score what arrives.",
    )
    since = meter.tally()
    process = scene.traffic(
        "traffic", table=churn.TABLE, clients=size.clients, seconds=size.seconds, rate=size.rate
    )
    with narrator.moving("connecting") as show:
        watch = Watch(meter, since, process, show)
        watch.until(lambda: watch.now.arrived > 0)
        watch.until_second(size.seconds * DOWN_AT)
        scene.endpoint.process.kill()
        down = meter.tally().now
        narrator.say(f"{watch.moment}  model killed (SIGKILL)", "bad")
        watch.until_second(size.seconds * DOWN_AT + down_for)
        narrator.say(
            f"{watch.moment}  model started again; {watch.now.waiting:,} rows wait for it, no insert does",
            "good",
        )
        scene.endpoint.start()
        up = meter.tally().now
        watch.until(lambda: not process.alive)
        finished(process)
        narrator.say(f"{watch.moment}  the clients are done: {watch.now.arrived:,} rows arrived")
        _catch_up(watch, scene)
        narrator.say(f"{watch.moment}  nothing waits any more", "good")
    return Episode(since, down, up, measure.read_report(scene.report("traffic")))


def _catch_up(watch: Watch, scene: Scene) -> None:
    deadline = time.monotonic() + CATCH_UP
    watch.until(lambda: watch.now.waiting == 0 or time.monotonic() > deadline)
    if watch.now.waiting:
        raise RowscoreError(
            f"{watch.now.waiting:,} rows wait after {CATCH_UP:g} s; see {shown(scene.folder)}/worker.log"
        )


def compare_trigger(scene: Scene, narrator: Narrator, size: Size) -> dict[str, Any]:
    """The same inserts with the model call inside, simulated."""
    lasts = min(size.seconds * TRIGGER_SHARE, TRIGGER_MOST)
    narrator.step(
        f"The same inserts for {lasts:g} s into a table whose trigger calls the model for each row",
        f"Simulated: it waits in {scene.database.sleep}(65 ms), which has no limit of its own, as a model has.",
    )
    with connect(scene.database.url) as connection:
        churn.create_trigger(connection)
    process = scene.traffic(
        "trigger", table=churn.TRIGGER_TABLE, clients=size.clients, seconds=lasts, rate=size.rate
    )
    with narrator.moving("inserting"):
        finished(process)
    report = measure.read_report(scene.report("trigger"))
    narrator.say(
        f"{report['inserts']:,} inserts, half of them in {report['latency_ms'].get('p50', 0):.0f} ms or less"
    )
    return report
