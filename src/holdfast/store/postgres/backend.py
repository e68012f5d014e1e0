"""The PostgreSQL backend: one log for any number of machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from holdfast.model.entry import LogRow
from holdfast.model.search import Found, Search
from holdfast.model.session import SessionRow
from holdfast.model.stats import Stats
from holdfast.model.write import Write
from holdfast.rules.totals import usage_totals
from holdfast.store.backend import (
    Capabilities,
    Durability,
    HistoryRead,
    Listing,
    LogRead,
    Outcome,
    SchemaState,
)
from holdfast.store.postgres import faults, preparing, searching
from holdfast.store.postgres.by_hand import Script, by_hand
from holdfast.store.postgres.connections import Address, Connections, never_close
from holdfast.store.postgres.forgetting import Forgetter
from holdfast.store.postgres.readers import Readers, Snapshot
from holdfast.store.postgres.sharding import shard_of
from holdfast.store.postgres.watching import Notifier, Watcher
from holdfast.store.postgres.writer import Writer
from holdfast.store.sources import Sources

_TOP = (1 << 63) - 1
FORK_WAIT_S = 5.0
FIRST_SLICE = 64


class PostgresBackend:
    """A log in one schema of a PostgreSQL database."""

    capabilities = Capabilities(durable=True, cross_process=True, overwrites=False)

    def __init__(self, address: Address, durability: Durability, sources: Sources) -> None:
        self.address = address
        self._durability: Durability = durability
        self._sources = sources
        self._connections = Connections(address)
        self._readers = Readers(self._connections)
        self._writer = Writer(self._connections, sources)
        self._watcher = Watcher(self._connections)
        self._forgetter = Forgetter(address.schema, sources)
        self._notifier = Notifier(self._connections, self._forgetter.forget_some)
        self.identity = ""

    @property
    def location(self) -> str:
        """The URL, without its password."""
        return self.address.location

    def open(self, *, migrate: bool = True) -> None:
        """Check the server, make the schema if it is new, bring it up to date, and let go."""
        self.identity = preparing.prepare(
            self.address, self._durability, self._sources, migrate=migrate
        )

    def migrate(self, *, before_only: bool) -> tuple[SchemaState, SchemaState]:
        """Bring an older schema up to date, or only prepare that; return its old and new state."""
        return preparing.migrate(self.address, self._sources, before_only=before_only)

    def migration_by_hand(self, *, before_only: bool, role: str | None) -> Script:
        """Return what `migrate` would do as SQL, and what lets a role use the store."""
        return by_hand(self.address, self._sources, before_only=before_only, role=role)

    def admit(self, *, wait: bool) -> bool:
        """Get hold of a connection; PostgreSQL lets any number of processes write."""
        return self._writer.begin(wait=wait)

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Do the writes; those that only append in one round trip."""
        outcomes = self._writer.commit(writes)
        self._watcher.wake_if_waiting()
        self._forgetter.written({write.tenant for write in writes})
        self._notifier.tell()
        return outcomes

    def leave(self) -> None:
        """Let go of the connection."""
        self._writer.finish()

    def read_session(self, tenant: str, session_id: str) -> SessionRow | None:
        """Return a session's row."""
        with self._readers.snapshot(tenant) as snapshot:
            return _session(snapshot, session_id)

    def read_history(
        self, tenant: str, session_id: str, *, at: int | None = None, last: int | None = None
    ) -> HistoryRead | None:
        """Return the history now or at revision `at`, from one snapshot."""
        with self._readers.snapshot(tenant) as snapshot:
            asked = snapshot.ask_session("session", session_id)
            current = None
            if at is None and last is None:
                current = snapshot.ask_session("current_history", session_id)
            row = asked.fetchone()
            if row is None:
                return None
            session = SessionRow._make(row)
            base, upper = session.base, session.revision
            if at is not None:
                base, upper = _generation(snapshot, session, at)
            if last is not None:
                # Of none at all there is still a revision: that of the last one left out.
                columns, complete = _last(snapshot, session, (base, upper), max(last, 1))
            else:
                if current is None:
                    current = snapshot.ask("history", _shard(session), base, upper)
                columns, complete = _columns(current.fetchall()), True
        revision = columns[0][-1] if columns[0] else base
        if last == 0:
            columns, complete = ([], [], []), False
        return HistoryRead(session, revision, *columns, complete)

    def read_log(
        self, tenant: str, session_id: str, *, after: int = 0, limit: int | None = None
    ) -> LogRead | None:
        """Return the entries above revision `after`, from one snapshot."""
        with self._readers.snapshot(tenant) as snapshot:
            session = _session(snapshot, session_id)
            if session is None:
                return None
            after = max(after, session.start)
            rows = _log(snapshot, session, after, session.revision, limit)
            ends = max((row.ordinal for row in rows if row.kind == "reset"), default=0)
            if rows and ends > rows[-1].revision:
                rows += _log(snapshot, session, rows[-1].revision, ends, None)
        return LogRead(session, rows)

    def read_turns(self, tenant: str, session_id: str, turn: str | None = None) -> LogRead | None:
        """Return a session's turn entries, or those of one turn, from one snapshot."""
        with self._readers.snapshot(tenant) as snapshot:
            session = _session(snapshot, session_id)
            if session is None:
                return None
            extent = (session.start, session.revision)
            if turn is None:
                found = snapshot.ask("all_turn_rows", _shard(session), *extent)
            else:
                found = snapshot.ask("turn_rows", _shard(session), turn, *extent)
            return LogRead(session, list(map(LogRow._make, found)))

    def open_turns(self, tenant: str) -> list[SessionRow]:
        """Return a tenant's sessions whose turn runs or waits."""
        with self._readers.snapshot(tenant) as snapshot:
            return [SessionRow._make(row) for row in snapshot.ask("open_turns", tenant)]

    def waiting(self, tenant: str, session_id: str) -> int:
        """Return how many stand in line for a session's turn."""
        with self._readers.snapshot(tenant) as snapshot:
            (count,) = _one(snapshot.ask_session("count_waiters", session_id))
        return int(count)

    def wait(self, timeout_s: float) -> None:
        """Return when some process may have committed, or when time is up."""
        try:
            self._watcher.wait(timeout_s)
        except psycopg.Error as error:
            raise faults.translated(error, self.location) from error

    def wake(self) -> None:
        """Let `wait` return now."""
        self._watcher.wake()

    def list_sessions(self, listing: Listing) -> list[SessionRow]:
        """Return the sessions that a listing asks for."""
        values: list[object] = [listing.tenant, *(listing.below or (_TOP, _TOP))]
        name = "list_sessions"
        if listing.user_id is not None:
            name = "list_user_sessions"
            values += [listing.user_id, listing.agent_name, listing.agent_name]
        elif listing.agent_name is not None:
            name = "list_agent_sessions"
            values.append(listing.agent_name)
        with self._readers.snapshot(listing.tenant) as snapshot:
            return [SessionRow._make(row) for row in snapshot.ask(name, *values, listing.limit)]

    def sessions_after(self, tenant: str, pk: int, limit: int) -> list[SessionRow]:
        """Return a tenant's sessions with keys above `pk`, by key."""
        with self._readers.snapshot(tenant) as snapshot:
            return [
                SessionRow._make(row) for row in snapshot.ask("sessions_after", tenant, pk, limit)
            ]

    def count(self, tenant: str, session_id: str | None = None) -> Stats:
        """Count a tenant's sessions and entries, or one session's."""
        what = ("count_sessions", "count_messages", "count_activity", "usages")
        values: tuple[object, ...] = (tenant,)
        if session_id is not None:
            what = (
                "count_session",
                "count_session_messages",
                "count_session_activity",
                "session_usages",
            )
            values = (tenant, shard_of(tenant, session_id), session_id)
        with self._readers.snapshot(tenant) as snapshot:
            counted, messages, activity, used = [snapshot.ask(name, *values) for name in what]
            size = snapshot.ask("size", self.address.schema)
            sessions, said, firsts = _one(counted)
            entries, resets = _one(messages)
            (others,) = _one(activity)
            usage = usage_totals(map(LogRow._make, used.fetchall()))
            (size_bytes,) = _one(size)
        return Stats(sessions, said, entries + others, resets + firsts, size_bytes, usage)

    def lacking(self, tenant: str) -> int:
        """Return about how many entries the search index lacks."""
        with self._readers.snapshot(tenant) as snapshot:
            return searching.lacking(snapshot)

    def search(self, wanted: Search) -> list[Found]:
        """Return the messages that fit a query best, indexed or not."""
        with self._readers.snapshot(wanted.tenant) as snapshot:
            return searching.search(snapshot, wanted)

    def check(self) -> list[str]:
        """Return nothing: PostgreSQL says of a damaged page when it reads it."""
        return []

    def close(self) -> None:
        """Close every connection."""
        self._watcher.close()
        self._notifier.close()
        self._writer.finish()
        self._connections.close()

    def before_fork(self) -> None:
        """Close every connection: what one process says on it would be answered to the other."""
        self._watcher.wake()
        self._connections.pause(FORK_WAIT_S)

    def after_fork_in_parent(self) -> None:
        """Lend connections again; they are opened when they are needed."""
        self._connections.resume()

    def after_fork_in_child(self) -> None:
        """Start anew; what could not be closed before the fork is left alone."""
        for connection in self._connections.abandon():
            never_close(connection)
        self._writer = Writer(self._connections, self._sources)
        self._watcher = Watcher(self._connections)
        self._notifier.after_fork_in_child()


def _session(snapshot: Snapshot, session_id: str) -> SessionRow | None:
    row = snapshot.ask_session("session", session_id).fetchone()
    return SessionRow._make(row) if row else None


def _shard(session: SessionRow) -> int:
    return shard_of(session.tenant, session.id)


def _one(cursor: psycopg.Cursor[Any]) -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row is not None, "counting always answers"
    return tuple(row)


def _generation(snapshot: Snapshot, session: SessionRow, at: int) -> tuple[int, int]:
    """Return the base and the last revision of the generation that holds revision `at`."""
    for reset, ends in snapshot.ask("resets_until", _shard(session), session.start, at):
        if ends <= at:
            return reset, at
        at = reset - 1  # inside a rewrite's commit: the generation before it
    return session.start, at


_Columns = tuple[list[int], list[bytes], list[int]]


def _columns(rows: Sequence[tuple[Any, ...]]) -> _Columns:
    """Return the revisions, payloads and checksums of entries."""
    if not rows:
        return [], [], []
    revisions, payloads, checksums = zip(*rows, strict=True)
    return list(revisions), list(payloads), list(checksums)


def _last(
    snapshot: Snapshot, session: SessionRow, bounds: tuple[int, int], last: int
) -> tuple[_Columns, bool]:
    """Return the entries that hold the last messages, and whether they reach the beginning."""
    base, upper = bounds
    found: list[tuple[Any, ...]] = []
    held, first, size = 0, 0, min(last, FIRST_SLICE)
    while True:
        asked = snapshot.ask("history_backwards", _shard(session), base, upper, size)
        rows = asked.fetchall()
        for revision, ordinal, payload, checksum in rows:
            found.append((revision, payload, checksum))
            held, first = held + payload.count(b"\n") + 1, ordinal
            if held >= last:
                return _columns(found[::-1]), first == 0
        if len(rows) < size:
            return _columns(found[::-1]), first == 0
        upper, size = rows[-1][0] - 1, 2 * size


def _log(
    snapshot: Snapshot, session: SessionRow, after: int, until: int, limit: int | None
) -> list[LogRow]:
    shard = _shard(session)
    extent = (after, until, limit)
    found = snapshot.ask("log", shard, *extent, shard, *extent, limit)
    return [LogRow._make(row) for row in found]
