"""PostgreSQL, Aurora PostgreSQL included, through psycopg 3."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types.datetime import (
    DateBinaryLoader,
    IntervalBinaryLoader,
    TimeBinaryLoader,
    TimestampBinaryLoader,
    TimestamptzBinaryLoader,
)
from psycopg.types.string import StrBinaryDumper, StrDumper
from sqlalchemy import URL, Connection

import sql
from worker import errors
from worker.answers import OutputKind, OutputType
from worker.capabilities.alteration import Alteration, Lock
from worker.capabilities.calling import Calling
from worker.capabilities.counsel import Counsel
from worker.capabilities.packing import Packing, packing
from worker.capabilities.protocol import FoundType, bare_type, decimal_type
from worker.columns import Listed
from worker.names import literal

# What libpq says first and the URL says better.
_SERVER = re.compile(r'^connection (failed|is bad): connection to server at "[^"]*"[^:]*: (FATAL: +)?')

# Key types that the driver carries in binary without loss. All others travel as text: psycopg cannot load
# `infinity`, dates BC and years above 9999, and text is what a lease's bounds are kept in anyway.
_NATIVE_KEYS = frozenset({"smallint", "integer", "bigint"})

# Types whose hash functions never fail and tell apart what their text tells apart; 0.33 µs a row of 20 columns
# against 1.17 µs for md5(record_send(...)), which takes every type.
_HASHABLE = frozenset(
    {
        "smallint", "integer", "bigint", "real", "double precision", "numeric", "boolean", "text", "uuid", "date",
        "character varying", "character", "timestamp without time zone", "timestamp with time zone", "bytea",
    }
)  # fmt: skip

# Input types (and arrays of them) that the driver loads from binary as Python values; others are read as text.
_READABLE = _HASHABLE | {"json", "jsonb", "interval", "time without time zone", "inet", "cidr"}

# Beside numeric, whose precision is part of it.
_FILE_TYPES = {
    "smallint": "int16", "integer": "int32", "bigint": "int64", "real": "float", "double precision": "double",
    "boolean": "bool", "date": "date32", "timestamp without time zone": "timestamp[us]",
    "timestamp with time zone": "timestamp[us, tz=UTC]", "time without time zone": "time64[us]",
    "interval": "duration[us]", "bytea": "binary",
}  # fmt: skip

# Types of the server's own whose text depends on settings, or that arrays are made of; besides those.
_BUILT_IN = _READABLE | {
    "money", "time with time zone", "int4range", "int8range", "numrange", "daterange", "tsrange", "tstzrange",
    "int4multirange", "int8multirange", "nummultirange", "datemultirange", "tsmultirange", "tstzmultirange",
}  # fmt: skip

_UNFIT_KEYS = frozenset({"real", "double precision", "money", "json", "xml", "point", "box", "jsonpath"})

_EXACT = {
    "08P01": errors.DatabaseError,
    "40001": errors.ConflictError,
    "40P01": errors.ConflictError,
    "55P03": errors.LockTimeoutError,
    "57014": errors.StatementTimeoutError,
    "42501": errors.PrivilegeError,
    "42P01": errors.MissingObjectError,
    "42703": errors.MissingObjectError,
    "42883": errors.MissingObjectError,
    "42704": errors.MissingObjectError,
    "3F000": errors.MissingObjectError,
    "3D000": errors.ConnectionFailedError,
    "44000": errors.DataError,
}
_BY_CLASS = {
    "08": errors.ConnectionFailedError,
    "28": errors.ConnectionFailedError,
    "57": errors.ConnectionFailedError,
    "20": errors.DataError,  # a CASE of PL/pgSQL without a branch for the value
    "21": errors.DataError,
    "22": errors.DataError,
    "23": errors.DataError,
    "2F": errors.DataError,
    "38": errors.DataError,
    "39": errors.DataError,
    "54": errors.DataError,  # a row's text is too long for a tsvector or an index
    "P0": errors.DataError,
    "XX": errors.DataError,
}
_KINDS = {
    "smallint": OutputKind.INTEGER,
    "integer": OutputKind.INTEGER,
    "bigint": OutputKind.INTEGER,
    "real": OutputKind.FLOAT,
    "double precision": OutputKind.FLOAT,
    "boolean": OutputKind.BOOLEAN,
    "numeric": OutputKind.NUMERIC,
    "json": OutputKind.JSON,
    "jsonb": OutputKind.JSON,
    "text": OutputKind.TEXT,
    "character varying": OutputKind.TEXT,
    "character": OutputKind.TEXT,
    "vector": OutputKind.VECTOR,
    "halfvec": OutputKind.VECTOR,
}


_SENT = {
    OutputKind.FLOAT: "double precision",
    OutputKind.INTEGER: "bigint",
    OutputKind.BOOLEAN: "boolean",
}


_VECTORS = ("vector", "halfvec")  # whose extension may be in a schema that is not on the search path


def _kind(sql_type: str) -> OutputKind:
    bare = bare_type(sql_type)
    return _KINDS.get(bare.rpartition(".")[2] if bare.endswith(_VECTORS) else bare, OutputKind.OTHER)


def _is_packed_vector(kind: OutputType) -> bool:
    return bool(kind.oid) and bare_type(kind.name).rpartition(".")[2] == "vector"


def _of_a_lasting_type(expression: str, sql_type: str) -> str:
    """The expression in a type that has the same number in every server."""
    bare = bare_type(sql_type.removesuffix("[]"))
    if bare in ("character", "bit"):
        return expression
    return f"CAST({expression} AS {sql_type if bare in _BUILT_IN else 'text'})"


def _array_text(values: Any) -> str:
    """A list, nested or not, as PostgreSQL's array text; every element quoted, so that no text needs a special case."""
    if values is None:
        return "NULL"
    if isinstance(values, (list, tuple)):
        return "{" + ",".join(_array_text(value) for value in values) + "}"
    text = json.dumps(values) if isinstance(values, (bool, dict)) else str(values)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# Numpy's type, and the element's oid. The driver reads an xid as the four bytes that it is sent as.
_PACKED = {"bigint": (">i8", 20), "double precision": (">f8", 701), "xid": ("V4", 28)}


class _PackedArray:
    """A one-dimensional array in PostgreSQL's binary form: header, then length and value of each element."""

    __slots__ = ("data",)

    def __init__(self, values: Listed, dtype: str, oid: int) -> None:
        body = np.empty(len(values), dtype=[("size", ">i4"), ("value", dtype)])
        joined = dtype.startswith("V") and not isinstance(values, np.ndarray)
        raw = np.frombuffer(b"".join(values), dtype) if joined else values
        body["size"], body["value"] = np.dtype(dtype).itemsize, raw
        self.data = struct.pack(">iiIii", 1, 0, oid, len(values), 1) + body.tobytes()


class _PackedVectors(Sequence[Any]):
    """Vectors of pgvector's as an array in PostgreSQL's binary form: a vector of 64 numbers takes 2 µs, as text 40.

    Args:
        values: lists of numbers, vectors as the server sends them, None.
        oid: the type's.
    """

    def __init__(self, values: Sequence[Any], oid: int) -> None:
        self._values = values
        self._oid = oid

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, place: Any) -> Any:
        return self._values[place]

    @property
    def data(self) -> bytes:
        if not self._values:
            return struct.pack(">iiI", 0, 0, self._oid)
        kinds = set(map(type, self._values))
        if kinds == {list} and len(set(map(len, self._values))) == 1:
            body = _vectors(self._values)
        else:
            body = b"".join(
                _NULL if value is None else struct.pack(">i", len(value)) + value
                for value in map(_vector, self._values)
            )
        some_null = int(type(None) in kinds)
        return struct.pack(">iiIii", 1, some_null, self._oid, len(self._values), 1) + body


_NULL = struct.pack(">i", -1)


def _vector(value: Any) -> bytes | None:
    """In pgvector's binary form: how many, a number of no use, the numbers; those out of range it refuses itself."""
    if value is None or isinstance(value, bytes):
        return value
    with np.errstate(over="ignore"):
        numbers = np.array(value, ">f4")
    return struct.pack(">hh", len(numbers), 0) + numbers.tobytes()


def _vectors(values: Sequence[list[Any]]) -> bytes:
    """Vectors of one length, each with its length in bytes."""
    count = len(values[0])
    body = np.empty(
        len(values), [("size", ">i4"), ("count", ">i2"), ("unused", ">i2"), ("numbers", ">f4", (count,))]
    )
    body["size"], body["count"], body["unused"] = 4 + 4 * count, count, 0
    with np.errstate(over="ignore"):
        body["numbers"] = np.array(values, np.float64)
    return body.tobytes()


class _PackedDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: _PackedArray | _PackedVectors) -> bytes:
        return obj.data


def _far(moment: str) -> str:
    """Numpy's text of a moment as PostgreSQL writes and reads it: the year before 1 is 1 BC, not 0."""
    year, _, rest = moment.removeprefix("-").partition("-")
    number = -int(year) if moment.startswith("-") else int(year)
    return moment if number > 0 else f"{1 - number:04}-{rest} BC"


class _OpenEnded:
    """Mixed into psycopg's loaders: `infinity` and years that Python lacks come as text, not as an error."""

    _unit: Literal["us", "D"] = "us"

    def load(self, data: Any) -> Any:
        try:
            return super().load(data)  # type: ignore[misc]
        except psycopg.DataError:
            count = int.from_bytes(data, "big", signed=True)
            limit = 2 ** (8 * len(data) - 1)
            if count == limit - 1:
                return "infinity"
            if count == -limit:
                return "-infinity"
            return _far(str(np.datetime64("2000-01-01") + np.timedelta64(count, self._unit)))


class _TimestampLoader(_OpenEnded, TimestampBinaryLoader):
    pass


class _TimestamptzLoader(_OpenEnded, TimestamptzBinaryLoader):
    pass


class _DateLoader(_OpenEnded, DateBinaryLoader):
    _unit = "D"


class _TimeLoader(TimeBinaryLoader):
    """24:00 is a time of PostgreSQL's and none of Python's."""

    def load(self, data: Any) -> Any:
        try:
            return super().load(data)
        except psycopg.DataError:
            return "24:00:00"


class _IntervalLoader(IntervalBinaryLoader):
    """`infinity`, and more days than Python's timedelta holds, come as text that PostgreSQL reads."""

    def load(self, data: Any) -> Any:
        try:
            return super().load(data)
        except psycopg.DataError:
            microseconds, days, months = struct.unpack("!qii", data)
            if months == 2**31 - 1:
                return "infinity"
            if months == -(2**31):
                return "-infinity"
            return f"{months} mons {days} days {microseconds} microseconds"


_LOADERS: dict[str, Any] = {
    "time": _TimeLoader,
    "interval": _IntervalLoader,
    "timestamp": _TimestampLoader,
    "timestamptz": _TimestamptzLoader,
    "date": _DateLoader,
}

# The join of a claimed batch to its table must never scan the table: with the planner's choice a batch of 10,000 was
# a hash join over the whole table (42k rows/s against 195k). JIT costs more than it saves on statements this short.
_PLAN_PINS: Mapping[str, str | int] = {
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": 0,
    # A worker that is killed must not keep its locks until its statement ends (5.7 s seen).
    "client_connection_check_interval": "1s",
}


def _array(values: Listed, sent_type: str) -> Any:
    if isinstance(values, _PackedVectors):
        return values
    packed = _PACKED.get(sent_type)
    if packed is None or not len(values) or (not isinstance(values, np.ndarray) and None in values):
        return list(values)
    return _PackedArray(values, *packed)


_ENDS_WALKS_FROM = 180000

_ALTERATION = Alteration(
    transactional=True,
    copies=False,
    replaces_views=False,
    state_type="smallint",
    time_type="timestamp with time zone",
    version_type="text",
    fingerprint_type="bigint",
    time_types=frozenset({"timestamp with time zone", "timestamp without time zone"}),
    pending_defaults=frozenset({"0", "'0'::smallint", "(0)::smallint"}),
    locks={
        Lock.ALTER: "ACCESS EXCLUSIVE on the table, for milliseconds; nothing is rewritten or scanned",
        Lock.BUILD: "SHARE UPDATE EXCLUSIVE while it builds: reads and writes go on; waits for older transactions",
        Lock.DROP_INDEX: "SHARE UPDATE EXCLUSIVE: reads and writes go on; waits for older transactions",
        Lock.FRAME: "SHARE on it, for milliseconds; nothing is rewritten or scanned",
        Lock.DROP_FRAME: "ACCESS EXCLUSIVE on the table and its partitions, for milliseconds; "
        "nothing is rewritten or scanned",
        Lock.ATTACH: "SHARE UPDATE EXCLUSIVE on the partition, for milliseconds; nothing is rewritten or scanned",
        Lock.ADD_TRIGGER: "SHARE ROW EXCLUSIVE on the table, for milliseconds; nothing is rewritten or scanned",
        Lock.CHANGE_TRIGGER: "ACCESS EXCLUSIVE on the table, for milliseconds; nothing is rewritten or scanned",
    },
    client=(
        "psql --set ON_ERROR_STOP=1 --file THIS_FILE",
        "without --single-transaction: an index that is built concurrently refuses to run in one.",
    ),
)

_COUNSEL = Counsel(
    oldest=140_000,
    oldest_label="PostgreSQL 14",
    pooler="PgBouncer in transaction mode works, because rowscore keeps nothing in a session",
    cleaner="vacuum",
    own_missing="the schema rowscore is not there yet; `rowscore apply` makes it",
    trigger_guard="make it UPDATE OF its own columns, or give it WHEN (OLD.column IS DISTINCT FROM NEW.column)",
    batch_sign="scan of {service} below a nested loop",
    batch_remedy="make {function} LANGUAGE SQL PARALLEL SAFE COST 5000, and its body one SELECT of the call",
    built_in_remedy="",
)

# A call takes 100 arguments, of which aws_sagemaker.invoke_endpoint has two of its own.
_CALLING = Calling(
    product="Aurora PostgreSQL",
    composites=True,
    most_inputs=98,
    takes_batch_size=True,
    aliases=False,
    built_in_sentiment="",
    role_by_parameter=False,
    forbidden_in="",
    charset="",
    returnable="any type",
    missing="on Aurora CREATE EXTENSION IF NOT EXISTS aws_ml CASCADE; elsewhere `rowscore sql aws_ml | psql` makes a "
    "stand-in, or make a function {function} by hand, which `apply` then leaves as it is",
    outdated="ALTER EXTENSION aws_ml UPDATE; (Bedrock came with 2.0)",
)


class PostgreSQL:
    """PostgreSQL 14 and later through psycopg 3, Aurora PostgreSQL included."""

    dialect = "postgresql"
    driver_error: type[Exception] = psycopg.Error
    plan_pins = _PLAN_PINS
    own_schema: str | None = "rowscore"
    row_version: tuple[str, str] | None = ("c.xmin", "xid")
    locks_first = False
    json_as_text = False
    booleans_as_numbers = False
    reads_forgive = False
    steps_over = True
    alteration = _ALTERATION
    counsel = _COUNSEL
    calling = _CALLING

    # Text forms that keys and answers travel in must not depend on the role's or the database's settings.
    _ALWAYS: Mapping[str, str | int] = {
        "DateStyle": "ISO",
        "IntervalStyle": "postgres",
        "extra_float_digits": 1,
        "array_nulls": "on",
    }

    def connect_arguments(self, application_name: str, url: URL) -> dict[str, Any]:
        """No prepared statements: a generic plan after five executions is not the plan that was measured."""
        return {
            "prepare_threshold": None,
            "application_name": application_name,
            "connect_timeout": 10,
            "client_encoding": "utf8",  # in which `record_send` writes texts: a kept fingerprint has to last
        }

    def connect(self, arguments: Mapping[str, Any]) -> Any | None:
        """The driver's own does."""
        return None

    def local_settings(self, settings: Mapping[str, str | int]) -> str:
        """SET LOCAL for the standing settings and these; names and values are rowscore's own, never a user's."""
        merged = {**self._ALWAYS, **settings}
        return "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in merged.items())

    def interruption(self, connection: Connection) -> str | None:
        """`statement_timeout` holds for every statement."""
        return None

    def at_once(self, sql: str) -> str:
        """SKIP LOCKED does."""
        return sql

    @contextmanager
    def binary_cursor(self, connection: Connection) -> Iterator[Any]:
        """Psycopg's cursor with binary results."""
        driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        with driver.cursor(binary=True) as cursor:
            # `text[]` for lists of strings: left unknown, the server would guess from the first use.
            cursor.adapters.register_dumper(str, StrDumper)
            cursor.adapters.register_dumper(str, StrBinaryDumper)
            cursor.adapters.register_dumper(_PackedArray, _PackedDumper)
            cursor.adapters.register_dumper(_PackedVectors, _PackedDumper)
            for name, loader in _LOADERS.items():
                cursor.adapters.register_loader(name, loader)
            yield cursor

    def is_native_key(self, sql_type: str) -> bool:
        """Whole numbers; everything else travels as text."""
        return sql_type in _NATIVE_KEYS

    def is_unfit_key(self, base_type: str) -> bool:
        """FLOAT keys fail equality after a round trip, and money's text depends on the locale."""
        return bare_type(base_type) in _UNFIT_KEYS

    def is_exact(self, base_type: str, *, deterministic: bool) -> bool:
        """Types whose hash never fails, under collations whose equality is that of the bytes."""
        return deterministic and bare_type(base_type) in _HASHABLE

    def fingerprint(
        self, expressions: Sequence[str], types: Sequence[str], *, deterministic: bool
    ) -> tuple[str, str]:
        """`hash_record_extended` where it is exact, else MD5 of the record as it is sent, which takes every type."""
        if all(self.is_exact(sql_type, deterministic=deterministic) for sql_type in types):
            return f"hash_record_extended(ROW({', '.join(expressions)}), 0)", "bigint"
        return f"md5(record_send(ROW({', '.join(expressions)})))", "text"

    def lasting_fingerprint(
        self, expressions: Sequence[str], types: Sequence[str], *, deterministic: bool
    ) -> tuple[str, str]:
        """As above, but that `record_send` has the types' numbers, which a restored dump changes for a user's types.

        So those go as text, and a domain as what it is a domain over; a cast to `character` or `bit` would cut.
        """
        found, kind = self.fingerprint(expressions, types, deterministic=deterministic)
        if kind == "bigint":
            return found, kind
        parts = [_of_a_lasting_type(*part) for part in zip(expressions, types, strict=False)]
        return f"md5(record_send(ROW({', '.join([*parts, *expressions[len(types) :]])})))", kind

    def folded(self, fingerprint: str, sql_type: str) -> str:
        """The lower bits of a hash, or ten hexadecimal digits."""
        if sql_type == "bigint":
            return f"({fingerprint} & {2**40 - 1})"
        return f"CAST(CAST('x' || left({fingerprint}, 10) AS bit(40)) AS bigint)"

    def constant(self, value: float | int | str | bool, sql_type: str, cast_type: str) -> str:
        """Whatever the type reads."""
        return f"CAST({literal(str(value))} AS {sql_type})"

    def read_expression(self, expression: str, sql_type: str) -> str:
        """Types that the driver does not know are read as text."""
        known = bare_type(sql_type.removesuffix("[]")) in _READABLE
        return expression if known else f"CAST({expression} AS text)"

    def packing(self, sql_type: str) -> Packing | None:
        """By type."""
        return packing(bare_type(sql_type))

    def expression_types(self, transaction: Any, statement: str) -> tuple[str, ...]:
        """The answer's description has the types' oids, and the catalogue their names."""
        oids = transaction.describe(statement)
        rows = transaction.rows(sql.load(self.dialect)["name_types"].render(), oids=oids)
        return tuple(row[0] for row in rows)

    def find_type(self, transaction: Any, asked: str) -> FoundType | None:
        """By the catalogue."""
        found = transaction.row(sql.load(self.dialect)["find_type"].render(), type=asked)
        return None if found is None else FoundType(**found._mapping)

    def ends_walks(self, connection: Connection) -> bool:
        """From PostgreSQL 18 on; 15 and 16 walk to the index's end (seen), which grows with the backlog."""
        driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
        return driver.info.server_version >= _ENDS_WALKS_FROM

    def sqlstate(self, error: BaseException) -> str | None:
        """SQLSTATE as the server gave it; a connection that was refused or broke has none."""
        state: str | None = getattr(error, "sqlstate", None)
        return state

    def message(self, error: BaseException) -> str:
        """As libpq words it, without what the URL says better."""
        return _SERVER.sub("", str(error))

    def classify(self, error: BaseException) -> type[errors.DatabaseError]:
        """No SQLSTATE: the connection; else exact states first, then their class."""
        state = self.sqlstate(error) or ""
        if not state and isinstance(error, psycopg.OperationalError):
            return errors.ConnectionFailedError
        return _EXACT.get(state) or _BY_CLASS.get(state[:2]) or errors.DatabaseError

    def sent_type(self, kind: OutputType) -> str:
        """Numbers, booleans and vectors in binary, everything else as the text that the type's input function reads."""
        return kind.name if _is_packed_vector(kind) else _SENT.get(kind.kind, "text")

    def sent_values(self, values: Sequence[Any], kind: OutputType) -> Listed:
        """Numbers and booleans as they are, vectors packed; JSON, arrays and other vectors in PostgreSQL's own text."""
        if kind.kind in _SENT:
            return list(values)
        if _is_packed_vector(kind):
            return _PackedVectors(values, kind.oid)
        return [self._sent_value(value, kind) for value in values]

    def _sent_value(self, value: Any, kind: OutputType) -> Any:
        if value is None or (isinstance(value, str) and kind.kind is not OutputKind.JSON):
            return value
        if kind.kind is OutputKind.JSON:
            return json.dumps(value)
        if kind.kind is OutputKind.ARRAY:
            return _array_text(value)
        if kind.kind is OutputKind.VECTOR and not isinstance(value, bytes):
            return json.dumps(list(value))
        return str(value)

    def bind_columns(self, columns: Mapping[str, tuple[Listed, str]]) -> dict[str, Any]:
        """An array each: numbers without NULL packed by numpy (0.14 ms for 5,000, psycopg's own list 0.86)."""
        return {name: _array(values, sent_type) for name, (values, sent_type) in columns.items()}

    def output_type(self, sql_type: str, category: str, element: str | None, oid: int = 0) -> OutputType:
        """By pg_type: category A is an array of `element`; the name without its modifier decides otherwise."""
        if category == "A" and element is not None:
            return OutputType(OutputKind.ARRAY, _KINDS.get(bare_type(element), OutputKind.OTHER), sql_type)
        kind = _kind(sql_type)
        if kind is OutputKind.VECTOR:
            return OutputType(kind, OutputKind.FLOAT, sql_type, oid)
        return OutputType(kind, None, sql_type)

    def file_type(self, sql_type: str) -> str:
        """What the driver reads as text is a string here, too; times are in microseconds."""
        if sql_type.endswith("[]"):
            return f"list<{self.file_type(sql_type.removesuffix('[]'))}>"
        if bare_type(sql_type) == "numeric":
            return decimal_type(sql_type)
        return _FILE_TYPES.get(bare_type(sql_type), "string")

    def argument_type(self, sql_type: str, column_type: str | None) -> str:
        """The input's own."""
        return sql_type

    def answer_type(self, name: str, cast_type: str, *, document: bool) -> str | None:
        """The column's without its length: what is too long is refused when it is assigned, and not cut."""
        return cast_type
