"""From an older schema to this code's, forward only.

A version of the schema comes in one or two scripts. `before` only adds, so the code of the version
before goes on working beside the new one; `after` takes away what only the old code needed. Both
run under the write lock, in one transaction: a crash leaves the old schema or the new one. The new
code needs the `before` scripts alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from holdfast.store.backend import SchemaState
from holdfast.store.schemas import Step, schema_steps
from holdfast.store.sqlite.queries import queries

PREPARED = "schema_prepared"
"""The store's value that says up to which version the `before` scripts have run."""


def steps() -> tuple[Step, ...]:
    """Return the steps from nothing to the newest schema, in order."""
    return schema_steps(Path(__file__).parent / "schema")


def newest() -> int:
    """Return the version of the schema that this code is for."""
    return steps()[-1].version


def state(connection: sqlite3.Connection) -> SchemaState:
    """Return how far one of our files is."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    prepared = connection.execute(queries()["store_value"], (PREPARED,)).fetchone()
    return SchemaState(version, max(version, int(prepared[0]) if prepared else 0))


def create(connection: sqlite3.Connection) -> None:
    """Make the newest schema in an empty file, within the caller's transaction."""
    _run(connection, SchemaState(0, 0), before_only=False)


def migrate(connection: sqlite3.Connection, *, before_only: bool) -> None:
    """Run what is missing, within the caller's transaction."""
    _run(connection, state(connection), before_only=before_only)


def _run(connection: sqlite3.Connection, found: SchemaState, *, before_only: bool) -> None:
    for step in steps():
        if step.version > found.prepared:
            _execute(connection, step.before)
    if before_only:
        connection.execute(queries()["put_store_value"], (PREPARED, str(newest())))
        return
    for step in steps():
        if step.version > found.version:
            _execute(connection, step.after)
    connection.execute(queries()["drop_store_value"], (PREPARED,))
    connection.execute(f"PRAGMA user_version = {newest()}")


def _execute(connection: sqlite3.Connection, script: str) -> None:
    for statement in _statements(script):
        connection.execute(statement)


def _statements(script: str) -> Iterator[str]:
    """Split a script: `executescript` would commit the transaction that it stands in."""
    text = ""
    for line in script.splitlines(keepends=True):
        text += line
        if sqlite3.complete_statement(text):
            yield text
            text = ""
