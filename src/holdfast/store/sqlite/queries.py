"""Reads the named blocks of `queries.sql`."""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from holdfast.store.statements import named_statements

MAX_CHUNK = 64
_VALUES = re.compile(r"VALUES (\((?:[^()]|\([^()]*\))*\))")


@functools.cache
def queries() -> dict[str, str]:
    """Return the statements of `queries.sql` by name."""
    found = named_statements(Path(__file__).with_name("queries.sql"))
    unsettled = f"({found.pop('unsettled')}) AS unsettled"
    return {name: text.replace("unsettled", unsettled) for name, text in found.items()}


@functools.cache
def bulk(name: str, rows: int) -> str:
    """Return a statement whose one row of values stands `rows` times.

    Each step of a statement gives up the interpreter's lock, and getting it back from a busy event
    loop takes up to 5 ms: so a batch runs few statements, however many writes it holds.
    """
    return _VALUES.sub(lambda found: "VALUES " + ", ".join([found[1]] * rows), queries()[name])


def run_bulk(connection: sqlite3.Connection, name: str, rows: Sequence[tuple[object, ...]]) -> int:
    """Run a statement for all rows, in chunks of few sizes: each is prepared once.

    Returns how many rows it wrote.
    """
    if len(rows) == 1:
        return connection.execute(bulk(name, 1), rows[0]).rowcount
    written = 0
    for values, size in _chunks(rows):
        written += connection.execute(bulk(name, size), values).rowcount
    return written


def read_bulk(
    connection: sqlite3.Connection, name: str, rows: Sequence[tuple[object, ...]]
) -> list[tuple[Any, ...]]:
    """Return what a query finds for all rows, in chunks of few sizes."""
    found = []
    for values, size in _chunks(rows):
        found += connection.execute(bulk(name, size), values).fetchall()
    return found


def _chunks(rows: Sequence[tuple[object, ...]]) -> Iterator[tuple[tuple[object, ...], int]]:
    start = 0
    while start < len(rows):
        size = min(MAX_CHUNK, 1 << ((len(rows) - start).bit_length() - 1))
        yield tuple(chain.from_iterable(rows[start : start + size])), size
        start += size
