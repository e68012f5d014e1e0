"""From an older schema to this code's, forward only.

A version of the schema comes in one or two scripts. `before` only adds, so the code of the version
before goes on working beside the new one; `after` takes away what only the old code needed. All run
in one transaction under an advisory lock, so of several workers that start at once one does it.
"""

from __future__ import annotations

from pathlib import Path

import psycopg

from holdfast.errors import ConfigError, Unavailable
from holdfast.store.backend import SchemaState
from holdfast.store.postgres.connections import Connection
from holdfast.store.postgres.queries import identifier, in_schema
from holdfast.store.schemas import Step, schema_steps

VERSION, PREPARED, IDENTITY = "schema_version", "schema_prepared", "identity"
TABLES = ("sessions", "messages", "activity", "keys", "waiters", "searched")
"""All tables but `store`: each has its rows' tenant, and is distributed by shard."""

SEQUENCES = ("session_keys", "ranks")
ONLY_OURS = "SET LOCAL search_path = pg_catalog, pg_temp"
"""Nothing that somebody has put into `public` is called, however well it fits."""

_LOCK = 0x484F4C44

WAIT_SHARE = 0.9
"""The server gives up waiting for the lock so much earlier than this side does."""


def steps() -> tuple[Step, ...]:
    """Return the steps from nothing to the newest schema, in order."""
    return schema_steps(Path(__file__).parent / "schema")


def newest() -> int:
    """Return the version of the schema that this code is for."""
    return steps()[-1].version


def state(connection: Connection, schema: str) -> SchemaState | None:
    """Return how far a database's schema is; `None` if there is none of ours."""
    # One statement, so one snapshot: somebody else may be making the schema just now.
    row = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE c.relname = 'store') "
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s",
        (schema,),
    ).fetchone()
    relations, stores = row or (0, 0)
    if not relations:
        return None
    if not stores:
        raise _not_ours(schema)
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

    `identity` becomes the name of a new store's data. Raises `Unavailable` if somebody else is
    doing it for longer than a call may take; what is done itself may take its time.
    """
    with connection.transaction():
        # Each statement has to see what whoever had the lock before has committed.
        connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        connection.execute(ONLY_OURS)
        _wait_for_lock(connection, schema)
        found = state(connection, schema)
        before = found or SchemaState(0, 0)
        for statement in script(before, schema, before_only=before_only, identity=identity):
            connection.execute(statement.encode())
        after = state(connection, schema)
    assert after is not None, "the scripts have just made it"
    return before, after


def _wait_for_lock(connection: Connection, schema: str) -> None:
    if connection.patience_s is not None:
        wait_ms = max(1, int(1000 * connection.patience_s * WAIT_SHARE))
        connection.execute(f"SET LOCAL lock_timeout = {wait_ms}")
    try:
        connection.execute(f"SELECT {lock(schema)}")
    except psycopg.errors.LockNotAvailable as error:
        raise Unavailable(
            f"another worker has been making or migrating the schema {schema!r} for long",
            code="locked",
            hint="try again when it is done; holdfast doctor shows who holds a lock",
        ) from error
    connection.patience_s = None
    connection.execute("SET LOCAL lock_timeout = 0")
    connection.execute("SET LOCAL statement_timeout = 0")


def lock(schema: str) -> str:
    """Return the call that lets one at a time change a schema, until its transaction ends."""
    return f"pg_advisory_xact_lock({_LOCK}, hashtext('{schema}'))"


def script(found: SchemaState, schema: str, *, before_only: bool, identity: str) -> list[str]:
    """Return what brings a schema up to date, in order."""
    todo: list[str] = []
    if found.version == 0:
        todo.append(_make(schema))
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


def _make(schema: str) -> str:
    # IF NOT EXISTS asks for the right to make schemas even where there is nothing to make.
    name = identifier(schema)
    return (
        f"DO $$ BEGIN\n"
        f"    IF to_regnamespace('{name}') IS NULL THEN CREATE SCHEMA {name}; END IF;\n"
        f"END $$;"
    )


def _put(schema: str, name: str, value: str) -> str:
    return (
        f"INSERT INTO {identifier(schema)}.store (name, value) VALUES ('{name}', '{value}')\n"
        f"    ON CONFLICT (name) DO UPDATE SET value = excluded.value;"
    )


def _not_ours(schema: str) -> ConfigError:
    return ConfigError(
        f"the schema {schema!r} is another program's",
        code="not_ours",
        hint="name another one in the URL, ?schema=...; it was left as it is",
    )
