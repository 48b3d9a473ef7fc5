"""Answers that are remembered in Redis: what is not sent again, what comes back, and what the lack of Redis costs."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from time import sleep
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Connect
from tests.support.databases import Session, one
from tests.support.predictions import add_up, applied, configuration, drain, make_items, opened, states
from worker import memory as remembering
from worker.cli.statustext import describe
from worker.config import Configuration
from worker.demo.loopback import free_port
from worker.drain import Summary
from worker.engine import Engine
from worker.errors import FailureClass
from worker.memory import Memory, read, written
from worker.models.protocol import Batch, RowFailure
from worker.states import RowState
from worker.status import read_status
from worker.store import Store

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates() | st.uuids()
    | st.decimals() | st.timedeltas()
    | st.one_of(st.times(), st.datetimes(), st.datetimes(timezones=st.just(UTC))).map(lambda at: at.replace(fold=0))
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6
)


def kept(store: Store, definition: str = "a", version: str = "1", outputs: int = 1) -> Memory:
    return Memory(store, definition, version, outputs=outputs, seconds=3600)


def told(value: Any) -> str:
    """A value with its types, to the last bit; each NaN is one."""
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}[{', '.join(map(told, value))}]"
    if isinstance(value, dict):
        return f"dict[{', '.join(f'{told(key)}: {told(item)}' for key, item in value.items())}]"
    return f"{type(value).__name__} {value!r}"


@given(st.lists(VALUES, min_size=1, max_size=3).map(tuple))
def test_answers_come_back_with_the_same_types_to_the_last_bit(answer: tuple[Any, ...]) -> None:
    text = written(answer)
    assert text is not None
    assert told(read(text)) == told(answer)


@pytest.mark.parametrize(
    "value", [-0.0, 5e-324, Decimal("1.10"), Decimal("-0E+5"), "list", ["list", "x"], {"Decimal": ["1"]}, b"\x00",
              datetime(2026, 3, 29, 2, 30, tzinfo=timezone(timedelta(hours=2))), time(0, 0, 0, 1), date.min,
              UUID(int=1), timedelta(days=-1, microseconds=1), 1 << 70, [[], [None, {}]]],
)  # fmt: skip
def test_odd_values_come_back_as_they_were(value: Any, store: Store) -> None:
    answers = kept(store)
    (key,) = answers.keys([("row",)])
    assert key is not None
    answers.keep({key: (value,)})
    (found,) = answers.recall([key])
    assert found is not None
    assert told(found[0]) == told(value)


def test_what_cannot_be_written_exactly_is_not_remembered(store: Store) -> None:
    answers = kept(store)
    (key,) = answers.keys([(1,)])
    assert key is not None
    answers.keep({key: (object(),)})
    assert answers.recall([key]) == [None]


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"1", b"[]", b"[1,2]", b'[["Decimal","x"]]', b'[["os.system","true"]]', b'[["date"]]', b"\x80\x04.",
     b'[{"a":1}]', b'[["timedelta","x"]]', b'[["dict",1]]', b"[" * 100_000],
)  # fmt: skip
def test_what_somebody_else_wrote_there_is_no_answer(text: bytes, store: Store) -> None:
    answers = kept(store)
    (key,) = answers.keys([(1,)])
    assert key is not None
    store.put_many({key: text}, 60)
    assert answers.recall([key]) == [None]


def test_rows_of_other_types_definitions_and_versions_are_others(store: Store) -> None:
    rows: list[tuple[Any, ...]] = [
        (1,), (1.0,), (True,), ("1",), (Decimal(1),), (Decimal("1.0"),), (0.0,), (-0.0,), (None,), ("",), (b"",),
        (date(2026, 1, 1),), ("2026-01-01",), (datetime(2026, 1, 1),), (datetime(2026, 1, 1, tzinfo=UTC),),
        (["Decimal", "1"],), ([1],), ((1,),), ({"a": 1},), ("a", "bc"), ("ab", "c"), (1, None), (None, 1),
        (Decimal(1), "x"), (["Decimal", "1"], Decimal(1)),
    ]  # fmt: skip
    memories = [kept(store), kept(store, version="2"), kept(store, definition="b")]
    keys = [key for each in memories for key in each.keys(rows)]
    assert None not in keys
    assert len(set(keys)) == len(memories) * len(rows)
    assert kept(store).keys(rows) == memories[0].keys([tuple(row) for row in rows]), (
        "the same in every process"
    )


def test_answers_end(store: Store) -> None:
    answers = Memory(store, "a", "1", outputs=1, seconds=7 * 86_400)
    (key,) = answers.keys([(1,)])
    assert key is not None
    answers.keep({key: (1.0,)})
    left: Any = store._ask(lambda client: client.ttl(key))
    assert 7 * 86_400 - 60 < left <= 7 * 86_400


# --- drains ----------------------------------------------------------------------------------------------------

ROWS, DISTINCT = 100_000, 1_000


class Paid:
    """Adds up after so many seconds, and counts what it was asked."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.rows = 0
        self._seconds = seconds

    def __call__(self, batch: Batch) -> list[tuple[float]]:
        self.rows += len(batch)
        sleep(self._seconds)
        return add_up(batch)


def remembering_items(database_url: str, redis_url: str, **section: Any) -> Configuration:
    model = {"python": "tests.support.predictions:add_up", "remember": "7d"}
    options: dict[str, Any] = {"model": model, "version": {"column": "v", "value": "1"}, **section}
    return configuration(database_url, **options).model_copy(update={"broker": redis_url})


def add_equal_items(application: Session, rows: int, distinct: int) -> None:
    application.execute(
        f"INSERT INTO items (a, b) SELECT n % {distinct}, 10 FROM generate_series(1, {rows}) AS s(n)"
    )


def drained(engine: Engine, model: Paid) -> tuple[Summary, list[int], int]:
    """Drain; the rows of each batch, and the rows that were paid for."""
    sizes: list[int] = []
    before = model.rows
    summary = drain(engine, progress=lambda _, result: sizes.append(result.taken))
    return summary, [size for size in sizes if size], model.rows - before


def test_what_is_paid_of_100_000_rows_with_1_000_distinct_inputs(
    database_url: str, connect: Connect, redis_url: str
) -> None:
    application, model = connect(), Paid()
    make_items(application)
    forgetful = remembering_items(
        database_url, redis_url, model={"python": "tests.support.predictions:add_up"}
    )
    with opened(forgetful, model) as engine:
        applied(engine)
        add_equal_items(application, ROWS, DISTINCT)
        summary, sizes, paid = drained(engine, model)
        assert (summary.scored, sum(sizes)) == (ROWS, ROWS)
        assert paid == summary.call_rows == sum(min(size, DISTINCT) for size in sizes), "each batch's own"
        assert paid > 5 * DISTINCT
        assert (summary.equal, summary.remembered) == (ROWS - paid, 0)
        before = paid
    with opened(remembering_items(database_url, redis_url), model) as engine:
        application.execute("UPDATE items SET churn_state = 0, p = NULL")
        summary, sizes, paid = drained(engine, model)
        assert (summary.scored, sum(sizes)) == (ROWS, ROWS)
        assert paid == summary.call_rows == DISTINCT
        assert summary.asked == ROWS == summary.call_rows + summary.remembered + summary.equal
        assert one(application, "SELECT count(*) FROM items WHERE p IS DISTINCT FROM a + b") == 0
        status = read_status(engine)  # of both drains
        activity = status.activity
        assert activity is not None
        assert (activity.asked, activity.sent) == (2 * ROWS, before + DISTINCT)
        assert activity.remembered == summary.remembered
        assert activity.sent + activity.remembered + activity.equal == 2 * ROWS
        (line,) = [line.text for line in describe(status) if line.text.strip().startswith("not sent")]
        assert f"{summary.remembered:,} remembered" in line


def test_one_worker_pays_once_for_inputs_that_neighbouring_batches_share(
    database_url: str, connect: Connect, redis_url: str
) -> None:
    application, model = connect(), Paid(seconds=0.01)  # so that batches that overlap would meet
    make_items(application)
    section = {"http": "http://127.0.0.1:9/", "remember": "7d"}
    sizes = {"concurrency": 4, "max_rows_per_claim": 50, "max_rows_per_batch": 10}
    with opened(remembering_items(database_url, redis_url, model=section, **sizes), model) as engine:
        applied(engine)
        application.execute(
            "INSERT INTO items (a, b) SELECT n / 30, 10 FROM generate_series(0, 1979) AS s(n)"
        )
        summary, sizes_taken, paid = drained(engine, model)
        assert (summary.scored, paid) == (1980, 66)
        assert len(sizes_taken) >= 40


def test_another_version_asks_anew_and_the_same_one_does_not(
    database_url: str, connect: Connect, redis_url: str
) -> None:
    application, model = connect(), Paid()
    make_items(application)
    first = remembering_items(database_url, redis_url)
    with opened(first, model) as engine:
        applied(engine)
        add_equal_items(application, 50, 10)
        assert drained(engine, model)[2] == 10
        application.execute("UPDATE items SET churn_state = 0")
        assert drained(engine, model)[2] == 0
    second = remembering_items(database_url, redis_url, version={"column": "v", "value": "2"})
    with opened(second, model) as engine:
        applied(engine)
        application.execute("UPDATE items SET churn_state = 0")
        assert drained(engine, model)[2] == 10


def test_failures_are_not_remembered_and_nulls_are(
    database_url: str, connect: Connect, redis_url: str
) -> None:
    application = connect()
    make_items(application)
    asked: list[float] = []

    def model(batch: Batch) -> list[Any]:
        asked.extend(row[0] for row in batch.rows)
        refused = RowFailure(FailureClass.ROW_PERMANENT, "one is refused")
        return [refused if row[0] == 1 else (None,) if row[0] == 2 else (row[0],) for row in batch.rows]

    with opened(remembering_items(database_url, redis_url), model) as engine:
        applied(engine)
        add_equal_items(application, 3, 5)
        drain(engine)
        assert sorted(asked) == [1, 2, 3]
        application.execute("UPDATE items SET churn_state = 0")
        summary = drain(engine)
        assert sorted(asked) == [1, 1, 2, 3]
        assert (summary.remembered, summary.call_rows) == (2, 1)
        assert states(application) == {RowState.SCORED: 2, RowState.FAILED: 1}
        assert one(application, "SELECT p FROM items WHERE a = 2") is None


def test_what_is_remembered_draws_on_no_budget(database_url: str, connect: Connect, redis_url: str) -> None:
    application, model = connect(), Paid()
    make_items(application)
    with opened(remembering_items(database_url, redis_url, daily_budget="40 rows"), model) as engine:
        applied(engine)
        add_equal_items(application, 30, 10)
        assert drain(engine).scored == 30
        application.execute("UPDATE items SET churn_state = 0")
        assert drain(engine).scored == 30
        assert one(application, "SELECT sum(spent_rows) FROM rowscore.run") == model.rows == 10


def test_without_redis_the_model_is_asked_and_that_is_said_once(
    database_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    application, model = connect(), Paid()
    make_items(application)
    said: list[tuple[str, str]] = []
    monkeypatch.setattr(
        remembering._log, "warning", lambda text, error: said.append((text, error)), raising=False
    )
    away = f"redis://:hush@127.0.0.1:{free_port()}/0"
    with opened(remembering_items(database_url, away, max_rows_per_claim=50), model) as engine:
        applied(engine)
        add_equal_items(application, 200, 100)
        summary = drain(engine)
        assert (summary.scored, model.rows) == (200, 200)
        assert summary.batches >= 4
    ((text, error),) = said
    assert "the model is asked" in text
    assert "hush" not in error
