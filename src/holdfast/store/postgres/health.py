"""How a store in PostgreSQL is doing: its tables, a tenant's sessions, the server around them."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from holdfast.errors import HoldfastError
from holdfast.store.diagnosis import Finding
from holdfast.store.postgres.connections import Address, Connection, Connections, translating
from holdfast.store.postgres.outages import Outage
from holdfast.store.postgres.queries import identifier, in_schema
from holdfast.store.postgres.watching import POLL_S, Watcher
from holdfast.store.statements import named_statements

LISTED = 5


class Limits(Struct, frozen=True):
    """From where on something deserves a word.

    A share of all connections in use; a timeout of the server; seconds for which somebody keeps
    others waiting, or does nothing in an open transaction; dead rows, in number and as a share of a
    table; entries that the search index lacks.
    """

    connections: float = 0.8
    timeout_s: float = 5.0
    held_s: float = 1.0
    idle_s: float = 300.0
    dead_rows: int = 10_000
    dead_share: float = 0.5
    lacking: int = 50_000


class Look:
    """Looks at one tenant's store, a transaction each time: a proxy may lend no more than that."""

    def __init__(self, connection: Connection, schema: str, tenant: str, limits: Limits) -> None:
        self.connection = connection
        self.schema = schema
        self.tenant = tenant
        self.limits = limits
        self._queries = _queries(schema)

    def rows(self, name: str, *values: object) -> list[tuple[Any, ...]]:
        """Return what a statement of `diagnosis.sql` finds."""
        with self.connection.transaction(), self.connection.pipeline():
            self.connection.execute(self._queries["set_tenant"], (self.tenant,))
            return self.connection.execute(self._queries[name], values).fetchall()

    def row(self, name: str, *values: object) -> tuple[Any, ...]:
        """Return the one row that it finds."""
        (row,) = self.rows(name, *values)
        return row


@functools.cache
def _queries(schema: str) -> dict[str, str]:
    found = named_statements(Path(__file__).with_name("diagnosis.sql"))
    return {name: in_schema(statement, schema) for name, statement in found.items()}


def of_tenant(look: Look) -> Iterator[Finding]:
    """Yield what is to be said of a tenant's turns and its part of the search index."""
    waiting, running, abandoned = look.row("open_turns", look.tenant)
    if abandoned:
        what = f"{abandoned:,} of the open turns have no worker any more"
        hint = "holdfast store recover closes them, and keeps what they had shown"
        yield Finding("turns", "warning", what, hint)
    else:
        yield Finding("turns", "ok", f"{running:,} turns run, {waiting:,} wait for an answer")
    (lacking,) = look.row("search", look.tenant)
    if lacking > look.limits.lacking:
        what = f"the search index lacks about {lacking:,} entries: the next search takes long"
        hint = (
            "search for something now, so that nobody waits for it later: holdfast session search"
        )
        yield Finding("search", "warning", what, hint)
    else:
        what = f"the index lacks about {lacking:,} entries; whoever searches adds them"
        yield Finding("search", "ok", what)


def of_tables(look: Look) -> Iterator[Finding]:
    """Yield what is to be said of what was deleted and is still in the tables' files."""
    tables = look.rows("vacuum", look.schema)
    if not tables:
        return
    off = [name for name, *_, is_off in tables if is_off]
    (runs,) = look.row("autovacuum")
    dead = sum(row[2] for row in tables)
    kept = f"{dead:,} dead rows: what was deleted or purged stays in the tables until a vacuum"
    if not runs or off:
        which = f"for {', '.join(off)}" if runs else "in this server"
        hint = f"turn it on, and say VACUUM {identifier(look.schema)}.messages now"
        yield Finding("vacuum", "problem", f"autovacuum is off {which}; {kept}", hint)
        return
    limits = look.limits
    late = [
        name
        for name, live, gone, *_ in tables
        if gone > limits.dead_rows and gone > limits.dead_share * (live + gone)
    ]
    if late:
        table = f"{identifier(look.schema)}.{late[0]}"
        hint = f"VACUUM {table}; an old transaction may keep autovacuum from it"
        what = f"vacuum does not keep up with {', '.join(late)}; {kept}"
        yield Finding("vacuum", "warning", what, hint)
    else:
        yield Finding("vacuum", "ok", kept)


def of_server(look: Look, address: Address) -> Iterator[Finding]:
    """Yield what is to be said of the other clients of the server, and of the way to it."""
    yield _notifications(address)
    yield _connections(look, address)
    yield _timeouts(look)
    yield _locks(look)
    yield _transactions(look)


def _notifications(address: Address) -> Finding:
    connections = Connections(address, Outage(time.monotonic, address.timeout_s))
    watcher = Watcher(connections)
    try:
        with translating(address):
            watcher.wait(0)
        polls = watcher.polls
    except HoldfastError as error:
        return Finding("notifications", "warning", error.message, error.hint)
    finally:
        watcher.close()
        connections.close()
    if polls:
        what = (
            "notifications do not arrive, as through a proxy that lends connections for one "
            f"transaction at a time: followers look for news every {1000 * POLL_S:.0f} ms"
        )
        hint = "give workers that follow an address that leads to the server, or to a session pool"
        return Finding("notifications", "warning", what, hint)
    return Finding("notifications", "ok", "LISTEN works: followers hear of news at once")


def _connections(look: Look, address: Address) -> Finding:
    used, ours, allowed = look.row("connections")
    what = f"{used} of {allowed} connections are in use, {ours} of them by Holdfast"
    if used > look.limits.connections * allowed:
        hint = (
            f"raise max_connections, run fewer workers, or lower connections= in their URLs "
            f"(now {address.connections} a process)"
        )
        return Finding("connections", "warning", what, hint)
    return Finding("connections", "ok", what)


def _timeouts(look: Look) -> Finding:
    found = look.rows("timeouts", int(1000 * look.limits.timeout_s))
    if not found:
        return Finding("timeouts", "ok", "the server lets statements take their time")
    named = ", ".join(f"{name}={value}" for name, value in found)
    what = f"{named}: a write that waits for another is ended by that, and has to be done again"
    role, *_ = look.row("role")
    hint = f"ALTER ROLE {identifier(role)} SET {found[0][0]} = 0; calls have a timeout of their own"
    return Finding("timeouts", "warning", what, hint)


def _locks(look: Look) -> Finding:
    held_s = look.limits.held_s
    found = look.rows("blockers", held_s)
    if not found:
        return Finding("locks", "ok", f"nobody has kept others waiting for {held_s:g} s")
    pid, *_ = found[0]
    named = "; ".join(f"{_client(*row[:5])} keeps {row[5]} waiting" for row in found[:LISTED])
    hint = f"let it finish, or end it: SELECT pg_terminate_backend({pid}); nothing is lost"
    return Finding("locks", "warning", named, hint)


def _transactions(look: Look) -> Finding:
    idle_s = look.limits.idle_s
    found = look.rows("idlers", idle_s)
    if not found:
        return Finding("transactions", "ok", f"nobody has left one open and idle for {idle_s:g} s")
    pid, *_ = found[0]
    named = ", ".join(_client(*row) for row in found[:LISTED])
    what = f"left open and idle, which keeps deleted rows from being vacuumed: {named}"
    hint = f"end it: SELECT pg_terminate_backend({pid}); idle_in_transaction_session_timeout would"
    return Finding("transactions", "warning", what, hint)


def _client(
    pid: int, user: str | None, program: str | None, state: str | None, open_s: float | None
) -> str:
    since = f", for {open_s:.0f} s" if open_s is not None else ""
    doing = f", {state}{since}" if state else ""
    return f"{program or 'a program'} of {user or 'nobody'} (process {pid}{doing})"
