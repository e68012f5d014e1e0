"""Looks at a store in PostgreSQL without changing anything, and says how it stands.

Whatever is wrong becomes a finding, so that the one command that people run when something is wrong
does not itself fail. What a role may not see is said to be unknown, not well.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from holdfast.errors import HoldfastError
from holdfast.store.diagnosis import Finding
from holdfast.store.postgres import health, migrations, preparing
from holdfast.store.postgres.connections import Address, Connection, connect, translating
from holdfast.store.postgres.health import Limits, Look
from holdfast.store.postgres.migrations import SEQUENCES, TABLES

PATIENCE_S = 10.0

_CODES = {"not_ours": "schema", "not_allowed": "rights", "damaged_schema": "schema"}
_GRANT = "let the owner of the tables run what this prints: holdfast store migrate --print-sql"


def diagnose(
    address: Address, tenant: str, source: str, *, limits: Limits | None = None
) -> list[Finding]:
    """Return what was found, the store's address first.

    `source` says where the address comes from. Of what a tenant has, it is this one's.
    """
    address = replace(address, timeout_s=max(address.timeout_s, PATIENCE_S))
    what = f"{address.location}, schema {address.schema}, from {source}"
    findings = [Finding("store", "ok", what)]
    try:
        with translating(address), connect(address) as connection:
            look = Look(connection, address.schema, tenant, limits or Limits())
            findings += _inside(look, address)
    except HoldfastError as error:
        code = _CODES.get(error.code, "access")
        findings.append(Finding(code, "problem", error.message, error.hint))
    return findings


def _inside(look: Look, address: Address) -> Iterator[Finding]:
    settings = preparing.settings(look.connection)
    yield _server(settings)
    yield _durability(settings)
    yield _replicas(look, settings)
    schema = _schema(look.connection, look.schema)
    yield schema
    if schema.level != "problem":
        rights = _rights(look)
        yield rights
        if rights.level == "ok":
            yield _tenants(look)
            yield from health.of_tenant(look)
    yield from health.of_tables(look)
    yield from health.of_server(look, address)


def _server(settings: dict[str, str]) -> Finding:
    version, encoding = settings["server_version"], settings["server_encoding"]
    oldest = preparing.OLDEST_SERVER // 10000
    if int(settings["server_version_num"]) < preparing.OLDEST_SERVER:
        what = f"PostgreSQL {version}, and Holdfast works with {oldest} and newer"
        return Finding("server", "problem", what, "upgrade the server")
    if encoding != "UTF8":
        what = f"PostgreSQL {version}, whose database stores text as {encoding}"
        return Finding("server", "problem", what, "create a database with ENCODING 'UTF8'")
    if preparing.may_only_be_read(settings):
        what = (
            f"PostgreSQL {version}, which may only be read: a standby, or set up so for this role"
        )
        hint = "name the primary, or all hosts and target_session_attrs=read-write"
        return Finding("server", "problem", what, hint)
    return Finding("server", "ok", f"PostgreSQL {version}")


def _durability(settings: dict[str, str]) -> Finding:
    weak = preparing.weaknesses(settings)
    if weak:
        hint = (
            "change it in the server's settings, or for this role with ALTER ROLE; until then "
            'programs only connect with durability="relaxed"'
        )
        what = f"acknowledged writes may be lost: {'; '.join(weak)}"
        return Finding("durability", "problem", what, hint)
    level = settings["synchronous_commit"]
    what = f"fsync and full_page_writes are on, synchronous_commit={level}"
    return Finding("durability", "ok", f"{what}: what is acknowledged survives a crash")


def _replicas(look: Look, settings: dict[str, str]) -> Finding:
    """Say whether a failover would lose something, and whether commits wait for nobody."""
    rows = look.rows("replicas")
    synchronous = settings["synchronous_standby_names"]
    if any(state is None for _, state, _ in rows):
        what = "there are replicas, and this role may not see how they are"
        hint = "as a superuser: GRANT pg_read_all_stats TO this role"
        return Finding("replicas", "warning", what, hint)
    following = [name for name, state, _ in rows if state == "streaming"]
    waited_for = [name for name, _, kind in rows if kind in ("sync", "quorum")]
    if synchronous and not waited_for:
        what = f"commits wait for a replica of {synchronous!r}, and none is connected"
        hint = "start the replica, or take it out of synchronous_standby_names: writes hang"
        return Finding("replicas", "problem", what, hint)
    if synchronous:
        what = f"commits wait for {', '.join(waited_for)}: a failover to it loses nothing"
        return Finding("replicas", "ok", what)
    if following:
        what = f"commits do not wait for {', '.join(following)}: a failover may lose the last ones"
        hint = "name it in synchronous_standby_names, if a failover must lose nothing"
        return Finding("replicas", "warning", what, hint)
    return Finding("replicas", "ok", "no replica is connected")


def _schema(connection: Connection, schema: str) -> Finding:
    found, known = migrations.state(connection, schema), migrations.newest()
    if found is None:
        hint = "holdfast store migrate makes it, and so does a program that connects"
        return Finding("schema", "problem", f"there is no schema {schema} here", hint)
    if found.version > known:
        what = f"schema version {found.version} is newer than this Holdfast, which knows {known}"
        return Finding("schema", "problem", what, "upgrade Holdfast: pip install -U holdfast")
    if found.version < known:
        ahead = " and prepared for it" if found.prepared >= known else ""
        what = f"schema version {found.version} is older than this Holdfast's {known}{ahead}"
        hint = "holdfast store migrate brings it up to date; so does a program that connects"
        return Finding("schema", "warning", what, hint)
    return Finding("schema", "ok", f"schema version {found.version}, as this Holdfast has it")


def _rights(look: Look) -> Finding:
    missing = look.rows("missing_rights", list(TABLES), list(SEQUENCES), look.schema)
    if missing:
        (role, _) = look.row("role")
        named = ", ".join(f"{right} on {name}" for right, name in missing[: health.LISTED])
        more = f" and {len(missing) - health.LISTED} more" if len(missing) > health.LISTED else ""
        what = f"the role {role} may not do all that a program does: {named}{more}"
        return Finding("rights", "problem", what, f"{_GRANT} --role {role}")
    return Finding("rights", "ok", "this role may do all that a program does")


def _tenants(look: Look) -> Finding:
    role, passes = look.row("role")
    if not passes:
        what = f"row-level security keeps the role {role} to one tenant at a time"
        return Finding("tenants", "ok", what)
    first, last = look.row("two_tenants")
    if first == last:
        what = f"row-level security does not apply to the role {role}; there is one tenant"
        return Finding("tenants", "ok", what)
    what = f"there are several tenants, and row-level security does not apply to the role {role}"
    hint = f"let programs use a role that owns no tables; {_GRANT} --role NAME"
    return Finding("tenants", "warning", what, hint)
