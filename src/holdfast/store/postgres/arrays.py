"""Columns of values, as arrays in PostgreSQL's binary form.

The server takes such an array as it is, while it reads one that is written as text letter by
letter. A connection sends them once it was told how: `learn_arrays`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

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

_head = struct.Struct("!iiIii").pack
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


def integers(values: Iterable[int | None]) -> Integers:
    """Return an array of numbers."""
    return Integers(
        _array(_INTEGER, [_NULL if value is None else _integer(8, value) for value in values])
    )


def booleans(values: Iterable[bool | None]) -> Booleans:
    """Return an array of truth values."""
    return Booleans(
        _array(_BOOLEAN, [_NULL if v is None else _TRUE if v else _FALSE for v in values])
    )


def texts(values: Iterable[str | bytes | None]) -> Texts:
    """Return an array of texts; what is bytes is UTF-8 already."""
    return Texts(_array(_TEXT, [_NULL if value is None else _text(value) for value in values]))


def _text(value: str | bytes) -> bytes:
    encoded = value if isinstance(value, bytes) else value.encode()
    return _size(len(encoded)) + encoded


def _array(kind: int, elements: Sequence[bytes]) -> bytes:
    # One dimension, whose first place is 1. Whether one is null the server sees by itself.
    return b"".join((_head(1, 0, kind, len(elements), 1), *elements))
