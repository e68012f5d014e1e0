"""Reads the named blocks of `queries.sql`."""

from __future__ import annotations

import functools
import re
from pathlib import Path

_VALUES = re.compile(r"VALUES (\((?:[^()]|\([^()]*\))*\))")
_BLOCK = re.compile(r"^-- (\w+): .*\n((?:(?!^-- \w+: ).*\n?)*)", re.MULTILINE)


@functools.cache
def queries() -> dict[str, str]:
    """Return the statements of `queries.sql` by name."""
    text = Path(__file__).with_name("queries.sql").read_text("utf-8")
    return {name: body.strip().removesuffix(";") for name, body in _BLOCK.findall(text)}


@functools.cache
def bulk(name: str, rows: int) -> str:
    """Return a statement whose one row of values stands `rows` times.

    Each step of a statement gives up the interpreter's lock, and getting it back from a busy event
    loop takes up to 5 ms: so a batch runs few statements, however many writes it holds.
    """
    return _VALUES.sub(lambda found: "VALUES " + ", ".join([found[1]] * rows), queries()[name])
