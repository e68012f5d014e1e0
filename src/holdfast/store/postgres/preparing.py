"""Opening a database: what durability the server really gives, and which schema it has."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote

from holdfast.errors import ConfigError, NotSupported
from holdfast.store.backend import Durability, SchemaState
from holdfast.store.postgres import faults, migrations
from holdfast.store.postgres.connections import Address, Connection, connect, translating
from holdfast.store.sources import Sources

OLDEST_SERVER = 140000
_SETTINGS = (
    "server_version",
    "server_version_num",
    "server_encoding",
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "synchronous_standby_names",
    "transaction_read_only",
)


def prepare(address: Address, durability: Durability, sources: Sources, *, migrate: bool) -> str:
    """Check the server, make the schema if it is new, and return the identity of its data.

    An older schema is brought up to date. Without `migrate` nothing is made or changed: an older
    schema is refused unless it is prepared, and so is a database without one.
    """
    with translating(address), connect(address) as connection:
        require_fit(settings(connection), durability, address.location)
        found = migrations.state(connection, address.schema)
        if found is not None and found.version > migrations.newest():
            raise newer_schema(found.version, address)
        if migrate and (found is None or found.version < migrations.newest()):
            migrations.bring_up_to_date(
                connection, address.schema, before_only=False, identity=sources.new_id()
            )
        elif found is None:
            raise no_schema(address)
        elif found.prepared < migrations.newest():
            raise _old_schema(found.version, address)
        return migrations.identity(connection, address.schema)


def migrate(
    address: Address, sources: Sources, *, before_only: bool
) -> tuple[SchemaState, SchemaState]:
    """Bring an older schema up to date, or only prepare that; return its old and new state."""
    with translating(address), connect(address) as connection:
        connection.patience_s = None  # whoever asked for it by name can also stop it
        found = migrations.state(connection, address.schema)
        if found is not None and found.version > migrations.newest():
            raise newer_schema(found.version, address)
        return migrations.bring_up_to_date(
            connection, address.schema, before_only=before_only, identity=sources.new_id()
        )


def require_writable(address: Address) -> None:
    """Refuse a standby, and what was set up to be read only, at once: a write would wait for it."""
    with translating(address), connect(address) as connection:
        if may_only_be_read(settings(connection)):
            raise faults.read_only(address.location)


def settings(connection: Connection) -> dict[str, str]:
    """Return the server's settings that our promises stand on."""
    rows = connection.execute(
        "SELECT name, current_setting(name) FROM pg_catalog.unnest(%s::text[]) AS name",
        (list(_SETTINGS),),
    )
    return {str(name): str(value) for name, value in rows}


def require_fit(found: Mapping[str, str], durability: Durability, location: str) -> None:
    """Refuse a server that is too old, keeps no UTF-8, or promises less than was asked for."""
    if int(found["server_version_num"]) < OLDEST_SERVER:
        raise NotSupported(
            f"{location} is PostgreSQL {found['server_version']}",
            code="old_server",
            hint=f"Holdfast works with version {OLDEST_SERVER // 10000} and newer",
        )
    if found["server_encoding"] != "UTF8":
        raise ConfigError(
            f"{location} stores text as {found['server_encoding']}",
            code="encoding",
            hint="create the database with ENCODING 'UTF8'",
        )
    weak = weaknesses(found)
    if weak and durability == "full":
        raise ConfigError(
            f"{location} may lose acknowledged writes: {'; '.join(weak)}",
            code="not_durable",
            hint='change the server\'s settings, or ask for durability="relaxed"',
        )


def may_only_be_read(found: Mapping[str, str]) -> bool:
    """Say whether it is a standby, or was set up to be read only."""
    return found["transaction_read_only"] == "on"


def weaknesses(found: Mapping[str, str]) -> list[str]:
    """Return what of the settings lets acknowledged writes be lost."""
    weak: list[str] = []
    if found["fsync"] == "off":
        weak.append("fsync=off, so a power failure takes or breaks what was written")
    if found["full_page_writes"] == "off":
        weak.append("full_page_writes=off, so a power failure may break pages")
    level = found["synchronous_commit"]
    if level == "off":
        weak.append("synchronous_commit=off, so a crash takes the last commits")
    elif level in ("local", "remote_write") and found["synchronous_standby_names"]:
        weak.append(f"synchronous_commit={level}, so a failover takes the last commits")
    return weak


def no_schema(address: Address) -> ConfigError:
    """Return the error for a database in which nobody has made a store yet."""
    return ConfigError(
        f"there is no schema {address.schema!r} in {address.location}",
        code="no_store",
        hint=f"make it: holdfast store migrate --store {quote(address.location)} "
        "(with --print-sql it prints what somebody else has to run)",
    )


def _old_schema(version: int, address: Address) -> NotSupported:
    return NotSupported(
        f"{address.location} has schema version {version}; "
        f"this Holdfast works with version {migrations.newest()}",
        code="old_schema",
        hint=f"bring it up to date: holdfast store migrate --store {quote(address.location)}",
    )


def newer_schema(version: int, address: Address) -> NotSupported:
    """Return the error for a schema that a later Holdfast made."""
    return NotSupported(
        f"{address.location} has schema version {version}; "
        f"this Holdfast knows versions up to {migrations.newest()}",
        code="newer_schema",
        hint="upgrade Holdfast: pip install --upgrade holdfast",
    )
