"""The schema as SQL that somebody runs by hand, and what an application's role is granted.

A script is one transaction under the lock that every worker takes, and begins by making sure that
the schema still is what it was made for: run twice, or late, it changes nothing.
"""

from __future__ import annotations

from msgspec import Struct

from holdfast.errors import ConfigError, Unavailable
from holdfast.store.backend import SchemaState
from holdfast.store.postgres import migrations
from holdfast.store.postgres.connections import Address, connect, translating
from holdfast.store.postgres.migrations import PREPARED, SEQUENCES, TABLES, VERSION
from holdfast.store.postgres.preparing import newer_schema
from holdfast.store.postgres.queries import identifier
from holdfast.store.sources import Sources


class Script(Struct, frozen=True):
    """SQL to be run by the tables' owner, and what its reader should know that asked for it."""

    sql: str
    note: str


def by_hand(address: Address, sources: Sources, *, before_only: bool, role: str | None) -> Script:
    """Return what migrating would do, and what lets a role use the store; change nothing.

    Where the server cannot be asked, the script is for a database that has no such schema yet.
    """
    schema, note = address.schema, ""
    identity = sources.new_id()
    try:
        with translating(address), connect(address) as connection:
            found = migrations.state(connection, schema)
    except (Unavailable, ConfigError) as error:
        if error.code in ("unreachable", "cannot_open"):
            found = None
            note = f"This is for a database without the schema {schema!r}, since {error.message}"
        elif error.code == "not_allowed" and role is not None:
            note = f"This grants what {role!r} needs and migrates nothing, since {error.message}"
            return Script(_transaction(schema, grants(schema, role)), note)
        else:
            raise
    if found is not None and found.version > migrations.newest():
        raise newer_schema(found.version, address)
    todo = migrations.script(
        found or SchemaState(0, 0), schema, before_only=before_only, identity=identity
    )
    if todo:
        todo.insert(0, _guard(found, schema))
    elif role is None:
        version = migrations.newest()
        return Script(f"-- The schema {schema} is up to date: version {version}.\n", note)
    return Script(_transaction(schema, todo + ([] if role is None else grants(schema, role))), note)


def grants(schema: str, role: str) -> list[str]:
    """Return what lets a role use the store, of one tenant at a time, without owning anything."""
    to, ours = identifier(role), identifier(schema)
    tables = ", ".join(f"{ours}.{table}" for table in TABLES)
    sequences = ", ".join(f"{ours}.{sequence}" for sequence in SEQUENCES)
    return [
        f"GRANT USAGE ON SCHEMA {ours} TO {to};",
        f"GRANT SELECT ON {ours}.store TO {to};",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {to};",
        f"GRANT USAGE, SELECT ON SEQUENCE {sequences} TO {to};",
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {ours} TO {to};",
    ]


def _transaction(schema: str, statements: list[str]) -> str:
    begin = (
        f"-- Holdfast's schema {schema}, version {migrations.newest()}. Run it as the role that is "
        "to own the tables,\n"
        "-- for example: psql --set ON_ERROR_STOP=1 --dbname postgresql://... --file this.sql\n\n"
        "BEGIN ISOLATION LEVEL READ COMMITTED;\n\n"
        f"{migrations.ONLY_OURS};\n\n"
        f"DO $$ BEGIN PERFORM {migrations.lock(schema)}; END $$;"
    )
    return "\n\n".join(each.strip() for each in (begin, *statements, "COMMIT;")) + "\n"


def _guard(found: SchemaState | None, schema: str) -> str:
    """Return what refuses a schema that is not as it was found."""
    store = f"{identifier(schema)}.store"
    if found is None:
        changed = f"to_regclass('{store}') IS NOT NULL"
    else:
        # Of a schema that was not prepared the row may be missing.
        changed = (
            f"(SELECT max(value::integer) FILTER (WHERE name = '{VERSION}') <> {found.version}\n"
            f"              OR max(value::integer) <> {found.prepared}\n"
            f"         FROM {store} WHERE name IN ('{VERSION}', '{PREPARED}'))"
        )
    return (
        f"DO $$ BEGIN\n"
        f"    IF {changed} THEN\n"
        f"        RAISE EXCEPTION 'the schema {schema} is not what this script was made for'\n"
        f"              USING HINT = 'make it again: holdfast store migrate --print-sql';\n"
        f"    END IF;\n"
        f"END $$;"
    )
