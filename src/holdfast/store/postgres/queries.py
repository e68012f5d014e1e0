"""The statements of `queries.sql`, with the schema's name in them, and how values become arrays."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path

from holdfast.store.statements import named_statements

_NAME = re.compile(r"\bholdfast\.(?!tenant\b)")
"""The schema's name in our scripts; `holdfast.tenant` is a setting, which is called so always."""


@functools.cache
def queries(schema: str) -> dict[str, str]:
    """Return the statements of `queries.sql` by name, for a schema."""
    found = named_statements(Path(__file__).with_name("queries.sql"))
    return {name: in_schema(statement, schema) for name, statement in found.items()}


def in_schema(script: str, schema: str) -> str:
    """Return a script that names a schema of ours instead of `holdfast`."""
    return _NAME.sub(f"{schema}.", script)


def integers(values: Iterable[int | None]) -> str:
    """Return an array of numbers as PostgreSQL reads it."""
    return f"{{{','.join(['NULL' if value is None else str(int(value)) for value in values])}}}"


def booleans(values: Iterable[bool | None]) -> str:
    """Return an array of truth values as PostgreSQL reads it."""
    return f"{{{','.join(['NULL' if v is None else 't' if v else 'f' for v in values])}}}"


def texts(values: Iterable[str | None]) -> str:
    """Return an array of texts as PostgreSQL reads it."""
    return f"{{{','.join(['NULL' if value is None else _quoted(value) for value in values])}}}"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
