"""Columns of values, as arrays in PostgreSQL's binary form.

The server takes such an array as it is, while it reads one that is written as text letter by
letter. A connection sends them once it was told how: `learn_arrays`.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence

from psycopg import Connection
from psycopg.adapt import Dumper
from psycopg.pq import Format


class Integers(bytes):
    """A `bigint[]`."""


class Booleans(bytes):
    """A `boolean[]`."""


class Texts(bytes):
    """A `text[]`."""


class _Sent(Dumper):
    """Sends what is in its binary form already."""

    format = Format.BINARY

    def dump(self, obj: bytes) -> bytes:
        """Return it."""
        return obj


class _SentIntegers(_Sent):
    oid = 1016


class _SentBooleans(_Sent):
    oid = 1000


class _SentTexts(_Sent):
    oid = 1009


_INTEGER, _BOOLEAN, _TEXT = 20, 16, 25  # the types of the elements

_head = struct.Struct("!iiIii")
_size = struct.Struct("!i").pack
_integer = struct.Struct("!iq").pack
_NULL = _size(-1)
_TRUE = _size(1) + b"\x01"
_FALSE = _size(1) + b"\x00"


def learn_arrays(connection: Connection) -> None:
    """Let a connection send arrays."""
    adapters = connection.adapters
    adapters.register_dumper(Integers, _SentIntegers)
    adapters.register_dumper(Booleans, _SentBooleans)
    adapters.register_dumper(Texts, _SentTexts)


def integers(values: Sequence[int | None]) -> Integers:
    """Return an array of numbers."""
    if values and values.count(values[0]) == len(values):
        return _same_integers(values[0], len(values))
    if None in values:
        packed = b"".join([_NULL if value is None else _integer(8, value) for value in values])
    else:
        each = [8] * (2 * len(values))
        each[1::2] = values  # type: ignore[assignment]  # none is null
        packed = _integers(len(values)).pack(*each)
    return Integers(_header(_INTEGER, len(values)) + packed)


def booleans(values: Sequence[bool | None]) -> Booleans:
    """Return an array of truth values."""
    packed = b"".join([_NULL if v is None else _TRUE if v else _FALSE for v in values])
    return Booleans(_header(_BOOLEAN, len(values)) + packed)


def texts(values: Sequence[str | bytes | None]) -> Texts:
    """Return an array of texts; what is bytes is UTF-8 already."""
    parts = [_header(_TEXT, len(values))]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            encoded = value if isinstance(value, bytes) else value.encode()
            parts += (_size(len(encoded)), encoded)
    return Texts(b"".join(parts))


def integers_in(found: bytes | None) -> tuple[int, ...]:
    """Return the numbers of an array that the server has sent; none is null."""
    if found is None:
        return ()
    return _integers((len(found) - _head.size) // 12).unpack_from(found, _head.size)[1::2]


def booleans_in(found: bytes | None) -> tuple[bool, ...]:
    """Return the truth values of an array that the server has sent; none is null."""
    return () if found is None else tuple(map(bool, found[_head.size + 4 :: 5]))


@functools.lru_cache(maxsize=1024)
def _same_integers(value: int | None, count: int) -> Integers:
    """Return one number so many times: often a batch's writes are all of the same form."""
    element = _NULL if value is None else _integer(8, value)
    return Integers(_header(_INTEGER, count) + count * element)


@functools.lru_cache(maxsize=1024)
def _integers(count: int) -> struct.Struct:
    """Return the form of so many numbers, each after its size."""
    return struct.Struct("!" + count * "iq")


def _header(kind: int, count: int) -> bytes:
    # One dimension, whose first place is 1. Whether one is null the server sees by itself.
    return _head.pack(1, 0, kind, count, 1)
