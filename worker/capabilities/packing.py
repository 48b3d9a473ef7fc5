"""Columns that PostgreSQL sends as one value each: how it packs them (in macros.jinja), and what they are here.

A row of 20 columns as a message of its own, and then as Python values in a tuple, takes 0.8 µs of processor time in the
server and 1.5 here; packed, 1.1 and 0.5 (windows of 10,000 rows).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.columns import Column, Numbers, Values


@dataclass(frozen=True, slots=True)
class Packing:
    """How a column of one type is packed.

    Attributes:
        send: the function that gives a value's bytes, which are put one after the other.
        element: instead of that, the type of an array's elements, which the driver loads as it loads single values.
        null: in hexadecimal, the bytes that stand for NULL.
        dtype: numpy's type of those bytes, in the order in which they are sent; None: texts, with a byte 0 between two,
            which no text can hold.
    """

    send: str = ""
    null: str = ""
    dtype: str | None = None
    element: str = ""

    @property
    def narrow(self) -> bool:
        """Whether no value of the type is long."""
        return bool(self.element) or self.dtype is not None

    def unpack(self, packed: Any, *, some_null: bool) -> Column:
        """The column's values.

        Args:
            packed: as the driver loads it.
            some_null: whether what stands for NULL is to be taken for it.
        """
        if self.element:
            return Values(packed)
        if self.dtype is None:
            return Values(_texts(packed, some_null=some_null))
        dtype, nulls = np.dtype(self.dtype), None
        raw = np.frombuffer(packed, f">u{dtype.itemsize}")
        if some_null and not (nulls := raw == int(self.null, 16)).any():
            nulls = None
        values = raw == 1 if dtype.kind == "b" else raw.view(dtype)
        return Numbers(values.astype(dtype.newbyteorder("=")), nulls)


def unpack(
    packings: Sequence[Packing], identity: int, answer: Sequence[Any]
) -> tuple[list[Column], list[Column]] | None:
    """The first columns of a packed read, which are never NULL, and the others.

    None where NULL cannot be told from a value, since some row has the value that stands for it.

    Args:
        identity: how many are never NULL.
        answer: how many rows there are, how many NULLs they have, and the columns; NULL where there are no rows.
    """
    rows, nulls, *packed = answer
    if not rows:
        return [Values([]) for _ in packed[:identity]], [Values([]) for _ in packed[identity:]]
    columns = [
        packing.unpack(each, some_null=bool(nulls) and place >= identity)
        for place, (packing, each) in enumerate(zip(packings, packed, strict=True))
    ]
    inputs = columns[identity:]
    return (columns[:identity], inputs) if sum(map(_nulls, inputs)) == nulls or not nulls else None


def _nulls(column: Column) -> int:
    if isinstance(column, Numbers):
        return 0 if column.nulls is None else int(np.count_nonzero(column.nulls))
    return column.values.count(None)


def _texts(packed: bytes, *, some_null: bool) -> list[Any]:
    """Texts of valid UTF-8, in which the byte that stands for NULL never is."""
    if not some_null:
        return packed.decode().split("\0")
    return [None if part == b"\xff" else part.decode() for part in packed.split(b"\0")]


# What stands for NULL is a value that hardly any row has: near the least, or a NaN that no text makes.
_NUMBERS = {
    "boolean": Packing("boolsend", "02", "?"),
    "smallint": Packing("int2send", "8001", ">i2"),
    "integer": Packing("int4send", "80000001", ">i4"),
    "bigint": Packing("int8send", "8000000000000001", ">i8"),
    "real": Packing("float4send", "ffd0dead", ">f4"),
    "double precision": Packing("float8send", "fffa0000deadbeef", ">f8"),
    "xid": Packing("xidsend", "00000000", "V4"),
}
_TEXTS = {
    "text": Packing("textsend", "ff"),
    "character varying": Packing("varcharsend", "ff"),
    "character": Packing("bpcharsend", "ff"),
}
_ARRAYS = (
    "numeric", "uuid", "date", "timestamp without time zone", "timestamp with time zone", "time without time zone",
    "interval", "inet", "cidr",
)  # fmt: skip
_PACKINGS = _NUMBERS | _TEXTS | {name: Packing(element=name) for name in _ARRAYS}


def packing(bare: str) -> Packing | None:
    """How a column of that type, without its length, is packed, if it may be: no arrays, and none of large values.

    Texts may be large as well; see `worker.reading`.
    """
    return _PACKINGS.get(bare)
