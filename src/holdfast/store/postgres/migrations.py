"""From an older schema to this code's, forward only.

A version of the schema comes in one or two scripts. `before` only adds, so the code of the version
before goes on working beside the new one; `after` takes away what only the old code needed. All run
in one transaction under an advisory lock, so of several workers that start at once one does it.
"""

from __future__ import annotations

import functools
from pathlib import Path

import psycopg
from msgspec import Struct

from holdfast.errors import ConfigError
from holdfast.store.backend import SchemaState
from holdfast.store.postgres.connections import Connection
from holdfast.store.postgres.queries import in_schema

VERSION, PREPARED, IDENTITY = "schema_version", "schema_prepared", "identity"
_LOCK = 0x484F4C44


class Step(Struct, frozen=True):
    """What leads from one version of the schema to the next; a script may be empty."""

    version: int
    before: str
    after: str


@functools.cache
def steps() -> tuple[Step, ...]:
    """Return the steps from no schema to the newest one, in order."""
    scripts: dict[int, dict[str, str]] = {}
    for file in (Path(__file__).parent / "schema").glob("*.sql"):
        name, when, _ = file.name.split(".")
        scripts.setdefault(int(name[:3]), {})[when] = file.read_text("utf-8")
    return tuple(
        Step(version, found.get("before", ""), found.get("after", ""))
        for version, found in sorted(scripts.items())
    )


def newest() -> int:
    """Return the version of the schema that this code is for."""
    return steps()[-1].version


def state(connection: Connection, schema: str) -> SchemaState | None:
    """Return how far a database's schema is; `None` if there is none of ours."""
    if not _is_there(connection, schema):
        # Another worker that starts just now makes all of it at one instant: so look again.
        occupied = _has_tables(connection, schema)
        if not _is_there(connection, schema):
            if occupied:
                raise _not_ours(schema)
            return None
    try:
        found: dict[str, str] = dict(
            connection.execute(in_schema("SELECT name, value FROM holdfast.store", schema))
        )
        version = int(found[VERSION])
    except (KeyError, ValueError, psycopg.errors.UndefinedColumn) as error:
        raise _not_ours(schema) from error
    return SchemaState(version, max(version, int(found.get(PREPARED, 0))))


def identity(connection: Connection, schema: str) -> str:
    """Return the name of the stored data itself."""
    row = connection.execute(
        in_schema("SELECT value FROM holdfast.store WHERE name = %s", schema), (IDENTITY,)
    ).fetchone()
    return str(row[0]) if row else ""


def bring_up_to_date(
    connection: Connection, schema: str, *, before_only: bool, identity: str
) -> tuple[SchemaState, SchemaState]:
    """Make the schema, or bring it up to date; return how it stood and how it stands.

    `identity` becomes the name of a new store's data.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (_LOCK, schema))
        found = state(connection, schema)
        before = found or SchemaState(0, 0)
        for statement in script(before, schema, before_only=before_only, identity=identity):
            connection.execute(statement.encode())
        after = state(connection, schema)
    assert after is not None, "the scripts have just made it"
    return before, after


def script(found: SchemaState, schema: str, *, before_only: bool, identity: str) -> list[str]:
    """Return what brings a schema up to date, in order, for whoever runs it by hand."""
    todo: list[str] = []
    if found.version == 0:
        todo.append(f"CREATE SCHEMA IF NOT EXISTS {schema};")
    todo += [in_schema(s.before, schema) for s in steps() if s.version > found.prepared]
    if found.version == 0:
        todo.append(_put(schema, IDENTITY, identity))
        todo.append(_put(schema, VERSION, str(newest())))
    elif before_only:
        todo.append(_put(schema, PREPARED, str(newest())))
        return todo
    todo += [in_schema(s.after, schema) for s in steps() if s.version > found.version and s.after]
    if 0 < found.version < newest():
        todo.append(_put(schema, VERSION, str(newest())))
    return todo


def _put(schema: str, name: str, value: str) -> str:
    return (
        f"INSERT INTO {schema}.store (name, value) VALUES ('{name}', '{value}')\n"
        f"    ON CONFLICT (name) DO UPDATE SET value = excluded.value;"
    )


def _is_there(connection: Connection, schema: str) -> bool:
    row = connection.execute("SELECT to_regclass(%s)", (f"{schema}.store",)).fetchone()
    return row is not None and row[0] is not None


def _has_tables(connection: Connection, schema: str) -> bool:
    row = connection.execute(
        "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s",
        (schema,),
    ).fetchone()
    return bool(row and row[0])


def _not_ours(schema: str) -> ConfigError:
    return ConfigError(
        f"the schema {schema!r} is another program's",
        code="not_ours",
        hint="name another one in the URL, ?schema=...; it was left as it is",
    )
