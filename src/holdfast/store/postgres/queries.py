"""The statements of `queries.sql`, with the schema's name in them."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from psycopg.sql import Identifier

from holdfast.store.postgres.calls import Call, call_of
from holdfast.store.statements import named_statements

_NAME = re.compile(r"\bholdfast\.(?!tenant\b)")
"""The schema's name in our scripts; `holdfast.tenant` is a setting, which is called so always."""

FOR_EVER = "0"
"""How long those wait for a lock who want none that others hold: as long as their call may take."""


@functools.cache
def queries(schema: str) -> dict[str, str]:
    """Return the statements of `queries.sql` by name, for a schema."""
    found = named_statements(Path(__file__).with_name("queries.sql"))
    return {name: in_schema(statement, schema) for name, statement in found.items()}


@functools.cache
def calls(schema: str) -> dict[str, Call]:
    """Return those that call a function which commits, by name, for a schema."""
    return {name: call_of(queries(schema)[name]) for name in ("commit", "append")}


def in_schema(script: str, schema: str) -> str:
    """Return a script that names a schema of ours instead of `holdfast`."""
    name = f"{identifier(schema)}."
    return _NAME.sub(lambda _: name, script)


def identifier(name: str) -> str:
    """Return a name as SQL takes it, also a reserved word or one with blanks."""
    return Identifier(name).as_string()
