"""Keys as only MySQL and MariaDB have them: every row is scored once, none is skipped at a window's edge."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.databases import databases
from tests.support.predictions import applied, configuration, drain, opened, series

ROWS = 137

# Columns, and the values of row i. Texts mix cases and accents that their collation holds for equal or orders otherwise
# than bytes do.
KEYS = {
    "bigint": ("id bigint PRIMARY KEY", "i"),
    "bigint unsigned": ("id bigint unsigned PRIMARY KEY", "18446744073709551615 - i"),
    "smallint negative": ("id smallint PRIMARY KEY", "i - 70"),
    "decimal": ("id decimal(30,10) PRIMARY KEY", "i / 7 + 12345678901234567890"),
    "binary uuid": ("id binary(16) PRIMARY KEY", "UNHEX(LEFT(SHA2(i, 256), 32))"),
    "varbinary": ("id varbinary(40) PRIMARY KEY", "CONCAT(CHAR(i MOD 256), '\\0', i)"),
    "case-insensitive": ("id varchar(40) PRIMARY KEY", "CONCAT(ELT(i MOD 4 + 1, 'a', 'B', 'É', ' \\'\"\\\\{},'), i)"),
    "accents": (
        "id varchar(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci PRIMARY KEY",
        "CONCAT(ELT(i MOD 5 + 1, 'é', 'E', 'ß', 'SS', '日本'), i)",
    ),
    "binary collation": (
        "id varchar(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY",
        "CONCAT(ELT(i MOD 2 + 1, 'a', 'A'), i DIV 2)",
    ),
    "latin1": ("id varchar(40) CHARACTER SET latin1 PRIMARY KEY", "CONCAT(ELT(i MOD 3 + 1, 'é', 'Z', 'a'), i)"),
    "pad space": (
        "word char(10) NOT NULL, n int NOT NULL, PRIMARY KEY (word, n)",
        "CONCAT('w', i MOD 3, REPEAT(' ', i MOD 4)), i",
    ),
    "date": ("id date PRIMARY KEY", "DATE '2024-01-01' + INTERVAL i DAY"),
    "datetime": ("id datetime(6) PRIMARY KEY", "TIMESTAMP '2024-02-28 00:00:00.000001' + INTERVAL i * 7 HOUR"),
    "timestamp": ("id timestamp(6) PRIMARY KEY", "TIMESTAMP '2024-10-27 00:00:00.5' + INTERVAL i * 10 MINUTE"),
    "time": ("id time(6) PRIMARY KEY", "SEC_TO_TIME((i - 70) * 3600.000001)"),
    "year": ("id year, n int, PRIMARY KEY (id, n)", "2000 + i MOD 20, i"),
    "enum": ("id enum('sad', 'ok', 'happy'), n int, PRIMARY KEY (id, n)", "ELT(i MOD 3 + 1, 'sad', 'ok', 'happy'), i"),
    "bit": ("id bit(9) PRIMARY KEY", "i"),
    "composite": (
        "region varchar(10), at datetime(3), id binary(4), PRIMARY KEY (region, at, id)",
        "CONCAT('r', i MOD 3), TIMESTAMP '2024-01-01 00:00:00' + INTERVAL i MOD 5 DAY, UNHEX(LEFT(SHA2(i, 256), 8))",
    ),
    "unique not null": ("id int NOT NULL UNIQUE", "i"),
    "unsigned composite": ("x int unsigned, y tinyint, PRIMARY KEY (x, y)", "4294967295 - i DIV 10, i MOD 10 - 5"),
}  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Not for PostgreSQL."""
    here = [name for name in databases() if name != "postgresql"]
    if "database_url" in metafunc.fixturenames:
        metafunc.parametrize("database_url", here, indirect=True)


@pytest.mark.parametrize("model", [{"sql": "predict"}, {"python": "x:y"}], ids=["database", "worker"])
@pytest.mark.parametrize("key", KEYS)
def test_every_row_is_scored_whatever_its_key(
    database_url: str, connect: Connect, key: str, model: dict[str, str]
) -> None:
    columns, values = KEYS[key]
    application = connect()
    application.execute(f"CREATE TABLE keyed ({columns}, a double)")
    application.execute("CREATE FUNCTION predict(a double) RETURNS double DETERMINISTIC NO SQL RETURN a * 2")
    config = configuration(database_url, table="keyed", inputs=["a"], model=model, max_rows_per_claim=10)
    double = None if "sql" in model else lambda batch: [(row[0] * 2,) for row in batch.rows]
    with opened(config, double) as engine:
        applied(engine)
        width = len(engine.materialisation(engine.prediction()).key)
        names = list(engine.materialisation(engine.prediction()).table.columns)[: width + 1]
        application.execute(
            f"INSERT INTO keyed ({', '.join(names)}) SELECT {values}, i FROM {series(application, 1, ROWS)}"
        )
        summary = drain(engine)
        assert (summary.scored, summary.lost) == (ROWS, 0)
        assert summary.batches == ROWS // 10 + 1
        wrong = application.execute("SELECT count(*) FROM keyed WHERE NOT p <=> a * 2 OR churn_state <> 1")
        assert wrong.fetchone() == (0,)
