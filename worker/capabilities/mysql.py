"""MySQL 8.0 and later, MariaDB 10.6 and later, Aurora MySQL included, through PyMySQL."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pymysql
from pymysql.constants import CLIENT, FIELD_TYPE
from sqlalchemy import URL
from sqlalchemy import Connection as PooledConnection

from worker import errors
from worker.answers import OutputKind, OutputType
from worker.capabilities.alteration import Alteration, Lock
from worker.capabilities.calling import Calling
from worker.capabilities.counsel import Counsel
from worker.capabilities.packing import Packing
from worker.capabilities.protocol import FoundType, bare_type, decimal_type, seconds
from worker.capabilities.tls import Connection, password_argument, tls_arguments
from worker.columns import Listed
from worker.conversion import clock
from worker.names import literal

_EXACT = {
    0: errors.ConnectionFailedError,
    1040: errors.ConnectionFailedError,  # too many connections
    1044: errors.ConnectionFailedError,
    1045: errors.ConnectionFailedError,
    1049: errors.ConnectionFailedError,
    1053: errors.ConnectionFailedError,
    1130: errors.ConnectionFailedError,
    1158: errors.ConnectionFailedError,
    1927: errors.ConnectionFailedError,
    2002: errors.ConnectionFailedError,
    2003: errors.ConnectionFailedError,
    2006: errors.ConnectionFailedError,
    2013: errors.ConnectionFailedError,
    2014: errors.ConnectionFailedError,
    2026: errors.ConnectionFailedError,  # TLS is asked for, and the server has none
    2059: errors.ConnectionFailedError,
    1142: errors.PrivilegeError,
    1143: errors.PrivilegeError,
    1227: errors.PrivilegeError,
    1370: errors.PrivilegeError,
    1419: errors.PrivilegeError,
    1054: errors.MissingObjectError,
    1146: errors.MissingObjectError,
    1176: errors.MissingObjectError,  # an index that a statement names
    1305: errors.MissingObjectError,
    1205: errors.LockTimeoutError,
    3572: errors.LockTimeoutError,
    1213: errors.ConflictError,
    1020: errors.ConflictError,  # MariaDB: the record has changed since it was read
    1317: errors.StatementTimeoutError,
    1969: errors.StatementTimeoutError,  # MariaDB's max_statement_time
    3024: errors.StatementTimeoutError,  # MySQL's max_execution_time
    1845: errors.CopyNeededError,
    1846: errors.CopyNeededError,
    4092: errors.CopyNeededError,  # MySQL: no further version of the rows without writing them anew
    # One row's data: out of range, truncated, not a value of the type, a constraint, a SIGNAL of the user's.
    **dict.fromkeys(
        (1048, 1062, 1138, 1172, 1242, 1264, 1265, 1292, 1339, 1364, 1365, 1366, 1367, 1406, 1411, 1416, 1451, 1452,
         1526, 1644, 1690, 1748, 3140, 3141, 3156, 3819, 3903, 4025, 4038, 4078),
        errors.DataError,
    ),
}  # fmt: skip
_BY_CLASS = {
    "08": errors.ConnectionFailedError,
    "22": errors.DataError,
    "23": errors.DataError,
    "45": errors.DataError,
}
_CASTS = frozenset({"SIGNED", "UNSIGNED", "DATETIME(6)", "TIME(6)", "date"})
# SIGNAL of a function or a trigger of the user's: one row's data, unless its SQLSTATE speaks of a service.
_SIGNALED = 1644
_OF_A_SERVICE = {"08": errors.ConnectionFailedError, "53": errors.DatabaseError}

_WHOLE = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "year"})
_BINARY = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"})
_TEXTS = frozenset({"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "set"})
_TIMES = frozenset({"date", "datetime", "timestamp", "time"})

# What users write in `outputs`, and what the server calls it.
_SYNONYMS = {
    "double precision": "double", "float8": "double", "real": "double", "float4": "float", "integer": "int",
    "boolean": "tinyint(1)", "bool": "tinyint(1)", "numeric": "decimal", "dec": "decimal", "int4": "int",
    "int8": "bigint",
    "int2": "smallint", "character varying": "varchar",
}  # fmt: skip
_KNOWN = (
    _WHOLE
    | _BINARY
    | _TEXTS
    | _TIMES
    | {"float", "double", "decimal", "bit", "json", "enum", "vector", "uuid", "inet6"}
)

# A type as a column of the user's may have it, and nothing after it: no default, no further column.
_TYPE = re.compile(
    r"""(?P<name>[a-z][a-z0-9]*(?:\ precision|\ varying)?)\s*
        (?P<rest>(?:\((?:\s*(?:\d+|'(?:[^'\\]|'')*')\s*,?)+\))?
        (?:\s+unsigned)?(?:\s+zerofill)?(?:\s+character\s+set\s+\w+)?(?:\s+collate\s+\w+)?)""",
    re.VERBOSE | re.IGNORECASE,
)

_BRIEFLY = "exclusive metadata lock on the table, for milliseconds; nothing is copied or scanned"
_ALTERATION = Alteration(
    transactional=False,
    copies=True,
    replaces_views=True,
    state_type="smallint",
    time_type="timestamp(6)",
    version_type="varchar(500) CHARACTER SET utf8mb4",
    fingerprint_type="bigint",
    time_types=frozenset({"timestamp", "datetime"}),
    pending_defaults=frozenset({"0"}),
    locks={
        Lock.ALTER: _BRIEFLY,
        Lock.COPY: "exclusive while the table is copied: reads and writes wait",
        Lock.BUILD: "none while it builds, exclusive for milliseconds at its beginning and end; "
        "waits for older transactions",
        Lock.DROP_INDEX: _BRIEFLY,
        Lock.ADD_TRIGGER: _BRIEFLY,
        Lock.CHANGE_TRIGGER: _BRIEFLY,
    },
    client=("mysql --comments --default-character-set=utf8mb4 DATABASE < THIS_FILE",),
)

_COUNSEL = Counsel(
    oldest=80_000,
    oldest_label="MySQL 8.0",
    pooler="rowscore sets variables of its session, so it must give a session a connection of its own "
    "(RDS Proxy pins it by itself)",
    cleaner="purge",
    own_missing="the tables rowscore_... are not there yet; `rowscore apply` makes them",
    trigger_guard="begin its body with IF NOT (NEW.column <=> OLD.column) for the columns that it is about",
    batch_sign='"Batched machine learning"',
    batch_remedy="name the function of Aurora's itself under `model`: inside another function's body it is called once "
    "for each row",
    built_in_remedy='mode = "select" under `model`: AWS documents batches for Comprehend in SELECT, and not in UPDATE',
)

_FIELDS = {
    FIELD_TYPE.DECIMAL: "decimal", FIELD_TYPE.NEWDECIMAL: "decimal", FIELD_TYPE.TINY: "tinyint",
    FIELD_TYPE.SHORT: "smallint", FIELD_TYPE.INT24: "mediumint", FIELD_TYPE.LONG: "int",
    FIELD_TYPE.LONGLONG: "bigint", FIELD_TYPE.FLOAT: "float", FIELD_TYPE.DOUBLE: "double", FIELD_TYPE.BIT: "bit",
    FIELD_TYPE.JSON: "json", FIELD_TYPE.DATE: "date", FIELD_TYPE.DATETIME: "datetime",
    FIELD_TYPE.TIMESTAMP: "timestamp", FIELD_TYPE.TIME: "time", FIELD_TYPE.YEAR: "year",
    FIELD_TYPE.GEOMETRY: "geometry",
}  # fmt: skip
_BINARY_CHARSET = 63

_FILE_TYPES = {
    "tinyint": "int8", "smallint": "int16", "mediumint": "int32", "int": "int32", "bigint": "int64", "year": "int16",
    "bit": "uint64", "float": "double", "double": "double", "date": "date32", "datetime": "timestamp[us]",
    "timestamp": "timestamp[us, tz=UTC]", "time": "duration[us]",
}  # fmt: skip

_SENT = {
    OutputKind.FLOAT: "DOUBLE",
    OutputKind.INTEGER: "DECIMAL(65,0)",
    OutputKind.BOOLEAN: "TINYINT",
}
_TEXT = "LONGTEXT CHARACTER SET utf8mb4"


def _plain(sql_type: str) -> str:
    """`int(10) unsigned` as `int`, `decimal(10,2)` as `decimal`."""
    return bare_type(sql_type).removesuffix(" zerofill").removesuffix(" unsigned").strip()


_CALLING = Calling(
    product="Aurora MySQL",
    composites=False,
    most_inputs=None,
    takes_batch_size=False,
    aliases=True,
    built_in_sentiment="aws_comprehend_detect_sentiment",
    role_by_parameter=True,
    forbidden_in="a trigger or a generated column",
    charset="utf8mb4",
    returnable="numbers (not BIT) and VARCHAR; neither TEXT, JSON, BLOB nor dates",
    missing="connect to an Aurora MySQL cluster, or make a function {function} by hand, "
    "which `apply` then leaves as it is",
    outdated="",
)
_UTF8 = "CHARSET utf8mb4"  # what the services answer, whatever a function declares
_WIDEST_ANSWER = (
    2048  # characters: a longer one is refused by the column, which says so, and not cut by the function
)
_LENGTH = re.compile(r"\((\d+)\)")


class MySQL:
    """MySQL and Aurora MySQL."""

    dialect = "mysql"
    driver_error: type[Exception] = pymysql.Error
    plan_pins: Mapping[
        str, str | int
    ] = {}  # FORCE INDEX and STRAIGHT_JOIN stand in the statements themselves
    own_schema: str | None = None
    row_version: tuple[str, str] | None = None
    locks_first = True
    json_as_text = True
    booleans_as_numbers = True
    reads_forgive = True
    steps_over = True
    alteration = _ALTERATION
    counsel = _COUNSEL
    calling = _CALLING

    # Which values expressions, comparisons and texts mean must not depend on the server's settings. Keys of type
    # timestamp travel as text, which is unambiguous in UTC alone.
    _SESSION = (
        "SET SESSION time_zone = '+00:00', group_concat_max_len = 100000000, "
        "sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'"
        # MySQL keeps a table's size for a day otherwise; MariaDB takes this for a comment.
        " /*!80000 , information_schema_stats_expiry = 0 */"
    )

    def connect_arguments(self, application_name: str, url: URL) -> dict[str, Any]:
        """Counts are of rows found, not of rows changed; scripts hold several statements."""
        return {
            "client_flag": CLIENT.FOUND_ROWS | CLIENT.MULTI_STATEMENTS,
            "charset": "utf8mb4",
            "connect_timeout": 10,
            "program_name": application_name,
            "init_command": self._SESSION,
            **password_argument(url.password),
            **tls_arguments(url.query),
        }

    def connect(self, arguments: Mapping[str, Any]) -> Any | None:
        """PyMySQL's, but quicker."""
        return Connection(**arguments)

    def local_settings(self, settings: Mapping[str, str | int]) -> str:
        """MySQL has no SET LOCAL: what a transaction relies on is set at its beginning, all of it, each time."""
        lock = max(1, math.ceil(seconds(settings.get("lock_timeout", "50s"))))
        statement = seconds(settings.get("statement_timeout", 0))
        return (
            f"SET SESSION innodb_lock_wait_timeout = {lock}, lock_wait_timeout = {lock}, "
            f"{self._statement_timeout(statement)}"
        )

    def _statement_timeout(self, seconds: float) -> str:
        return f"max_execution_time = {round(seconds * 1000)}"

    def interruption(self, connection: PooledConnection) -> str | None:
        """`max_execution_time` holds for a SELECT alone, and for none that calls a function which changes something."""
        driver: pymysql.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        return f"KILL QUERY {driver.thread_id()}"  # type: ignore[no-untyped-call]

    def at_once(self, sql: str) -> str:
        """SKIP LOCKED does."""
        return sql

    @contextmanager
    def binary_cursor(self, connection: PooledConnection) -> Iterator[Any]:
        """PyMySQL has one protocol."""
        driver: pymysql.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        with driver.cursor() as cursor:
            yield cursor

    def is_native_key(self, sql_type: str) -> bool:
        """Whole numbers; everything else travels as text."""
        return _plain(sql_type) in _WHOLE

    def is_unfit_key(self, base_type: str) -> bool:
        """FLOAT keys fail equality after a round trip; a JSON has no order."""
        return _plain(base_type) in {"float", "double", "json", "geometry"}

    def is_exact(self, base_type: str, *, deterministic: bool) -> bool:
        """Numbers and times; texts are equal under their collation where their bytes differ."""
        return _plain(base_type) in _WHOLE | _TIMES | {"decimal", "double", "bit", "enum"}

    def fingerprint(
        self, expressions: Sequence[str], types: Sequence[str], *, deterministic: bool
    ) -> tuple[str, str]:
        """SHA2 of a JSON array: CONCAT_WS collides on NULL, and MySQL 9 has no MD5 any more."""
        parts = [
            _as_text(expression, sql_type) for expression, sql_type in zip(expressions, types, strict=False)
        ]
        parts += expressions[len(types) :]
        return f"SHA2(JSON_ARRAY({', '.join(parts)}), 256)", "VARCHAR(64) CHARACTER SET utf8mb4"

    def lasting_fingerprint(
        self, expressions: Sequence[str], types: Sequence[str], *, deterministic: bool
    ) -> tuple[str, str]:
        """The same: it is of values alone."""
        return self.fingerprint(expressions, types, deterministic=deterministic)

    def folded(self, fingerprint: str, sql_type: str) -> str:
        """Ten hexadecimal digits are 40 bits."""
        return f"CAST(CONV(LEFT({fingerprint}, 10), 16, 10) AS SIGNED)"

    def constant(self, value: float | int | str | bool, sql_type: str, cast_type: str) -> str:
        """CAST has names of its own for types; what it has none for is a text or a DOUBLE."""
        written = literal(str(int(value) if isinstance(value, bool) else value), self.dialect)
        if cast_type in {"double", "float"}:
            return f"({written} + 0e0)"
        castable = cast_type.startswith("DECIMAL") or cast_type in _CASTS
        return f"CAST({written} AS {cast_type})" if castable else written

    def read_expression(self, expression: str, sql_type: str) -> str:
        """A FLOAT is sent rounded to six digits unless made a DOUBLE, and a BIT as bytes unless made a number."""
        if _plain(sql_type) == "float":
            return f"({expression}) + 0e0"
        return f"({expression}) + 0" if _plain(sql_type) == "bit" else expression

    def packing(self, sql_type: str) -> Packing | None:
        """Never: it has no aggregate of bytes that is not cut at a limit."""
        return None

    def expression_types(self, transaction: Any, statement: str) -> tuple[str, ...]:
        """By the answer's description; a text of bytes differs from one of letters by its character set alone."""
        with transaction.connection.connection.cursor() as cursor:
            cursor.execute(statement, {})
            fields = cursor._result.fields
        return tuple(
            _FIELDS.get(field.type_code) or ("varbinary" if field.charsetnr == _BINARY_CHARSET else "varchar")
            for field in fields
        )

    def ends_walks(self, connection: PooledConnection) -> bool:
        """Ranges of an index end where they end."""
        return True

    def sqlstate(self, error: BaseException) -> str | None:
        """SQLSTATE as the server gave it."""
        return getattr(error, "sqlstate", None) or None

    def message(self, error: BaseException) -> str:
        """The server's words without PyMySQL's tuple around them; its number, by which people search."""
        if len(error.args) < 2 or not isinstance(error.args[0], int):
            return str(error)
        number, text = error.args[:2]
        return f"{text} ({number})" if number else str(text)

    def classify(self, error: BaseException) -> type[errors.DatabaseError]:
        """By the server's number, else by SQLSTATE's class, else by the driver's own class."""
        number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        if isinstance(error, pymysql.err.InterfaceError):
            return errors.ConnectionFailedError
        state = (self.sqlstate(error) or "")[:2]
        if number == _SIGNALED and state in _OF_A_SERVICE:
            return _OF_A_SERVICE[state]
        if found := _EXACT.get(number):
            return found
        if found := _BY_CLASS.get(state):
            return found
        if isinstance(error, (pymysql.err.DataError, pymysql.err.IntegrityError)):
            return errors.DataError
        return errors.DatabaseError

    def sent_type(self, kind: OutputType) -> str:
        """The type of the answers' column in JSON_TABLE; bytes travel as hexadecimal digits."""
        if kind.name and _plain(kind.name) in _BINARY:
            return "HEX"
        if kind.name.startswith("bigint") and kind.name.endswith("unsigned"):
            return _TEXT  # MySQL's JSON_TABLE takes its upper half for negative
        return _SENT.get(kind.kind, _TEXT)

    def sent_values(self, values: Sequence[Any], kind: OutputType) -> Listed:
        """Numbers and booleans as they are; JSON as text; everything else as its text."""
        if kind.kind in _SENT:
            return list(values)
        return [self._sent_value(value, kind) for value in values]

    def _sent_value(self, value: Any, kind: OutputType) -> Any:
        if value is None:
            return value
        if kind.kind is OutputKind.JSON:
            return json.dumps(value, ensure_ascii=False)
        if kind.name and _plain(kind.name) in _BINARY:
            return (value if isinstance(value, bytes) else str(value).encode()).hex()
        return value if isinstance(value, str) else str(value)

    def bind_columns(self, columns: Mapping[str, tuple[Listed, str]]) -> dict[str, Any]:
        """One JSON document of rows, which JSON_TABLE takes apart."""
        rows = list(zip(*(values for values, _ in columns.values()), strict=True))
        return {"rows": json.dumps(rows, default=_written)}

    def find_type(self, transaction: Any, asked: str) -> FoundType | None:
        """The server's own name for a type by a table of names: it has no catalogue of types."""
        match = _TYPE.fullmatch(re.sub(r"\s+", " ", asked.strip()))
        if match is None:
            return None
        name = match["name"].lower()
        known = _SYNONYMS.get(name, name)
        if _plain(known) not in _KNOWN:
            return None
        full = known + match["rest"].rstrip()
        return FoundType(full, full, "", None)

    def output_type(self, sql_type: str, category: str, element: str | None, oid: int = 0) -> OutputType:
        """By the column's type; tinyint(1) is how MySQL spells boolean."""
        if sql_type.startswith("tinyint(1)"):
            return OutputType(OutputKind.BOOLEAN, None, sql_type)
        plain = _plain(sql_type)
        kinds = {"float": OutputKind.FLOAT, "double": OutputKind.FLOAT, "decimal": OutputKind.NUMERIC,
                 "json": OutputKind.JSON}  # fmt: skip
        kind = kinds.get(plain) or (
            OutputKind.INTEGER
            if plain in _WHOLE
            else OutputKind.TEXT
            if plain in _TEXTS
            else OutputKind.OTHER
        )
        return OutputType(kind, None, sql_type)

    def file_type(self, sql_type: str) -> str:
        """A FLOAT is read as a DOUBLE and a BIT as a number, and a TIMESTAMP in UTC; times are in microseconds."""
        plain = _plain(sql_type)
        if plain == "decimal":
            return decimal_type(sql_type)
        unsigned = "u" if "unsigned" in sql_type and plain in _WHOLE else ""
        return unsigned + _FILE_TYPES.get(plain, "binary" if plain in _BINARY else "string")

    def argument_type(self, sql_type: str, column_type: str | None) -> str:
        """The column's own; in utf8mb4 whatever the database's is, and what is no number or time as text."""
        known = (column_type or sql_type).lower()
        plain = _plain(known)
        if plain in ("char", "varchar") and (length := _LENGTH.search(known)):
            return f"varchar({length[1]}) {_UTF8}"
        if plain in _TIMES:
            return known
        if plain == "decimal" and column_type is None:  # of an expression: nobody says how many digits
            return "double"
        return _sized(known) if plain in _NUMBERS else f"text {_UTF8}"

    def answer_type(self, name: str, cast_type: str, *, document: bool) -> str | None:
        """Numbers but BIT, and VARCHAR; where an ordinary function takes the answer out of a document, anything."""
        plain = _plain(name)
        if plain == "varchar":
            length = int(match[1]) if (match := _LENGTH.search(name)) else 0
            return f"varchar({max(length, _WIDEST_ANSWER)}) {_UTF8}"
        if plain in _NUMBERS:
            return _sized(name)
        if document:
            return f"longtext {_UTF8}" if plain in _TEXTS | {"json"} else _sized(name)
        return None


class MariaDB(MySQL):
    """MariaDB."""

    dialect = "mariadb"
    counsel = replace(_COUNSEL, oldest=100_600, oldest_label="MariaDB 10.6")
    # Its SKIP LOCKED queues up for the held row, and leaves the queue again. An application's session that begins to
    # wait in that moment finds a cycle, and is rolled back: one transaction in 100,000 was.
    steps_over = False

    def interruption(self, connection: PooledConnection) -> str | None:
        """`max_statement_time` holds for every statement."""
        return None

    def at_once(self, sql: str) -> str:
        """With no time to wait it does not queue up; not beside SKIP LOCKED, which then undoes the transaction."""
        return f"SET STATEMENT innodb_lock_wait_timeout = 0 FOR {sql}"

    def _statement_timeout(self, seconds: float) -> str:
        return f"max_statement_time = {seconds:g}"


_NUMBERS = _WHOLE - {"year"} | {"float", "double", "decimal"}
_WIDTH = re.compile(r"^((?:small|medium|big)?int|year)\(\d+\)|^(tinyint)\((?!1\))\d+\)")


def _sized(sql_type: str) -> str:
    """A type spelt alike before and after it is a column's: MariaDB adds a width to whole numbers, all to DECIMAL."""
    known = _WIDTH.sub(lambda match: match[1] or match[2], sql_type.lower().replace(", ", ","))
    if known.split()[0] == "decimal":
        return known.replace("decimal", "decimal(10,0)", 1)
    return re.sub(r"^decimal\((\d+)\)", r"decimal(\1,0)", known)


def _as_text(expression: str, sql_type: str) -> str:
    """A form whose JSON text differs where the value does."""
    plain = _plain(sql_type)
    if plain == "float":
        return f"({expression}) + 0e0"
    if plain in _BINARY or plain in {"bit", "geometry"}:
        return f"HEX({expression})"
    return f"CAST({expression} AS CHAR)" if plain == "json" else expression


def _written(value: Any) -> str:
    """An answer of the database's own, as PyMySQL gives it, in the form that is sent."""
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    return clock(value) if isinstance(value, timedelta) else str(value)
