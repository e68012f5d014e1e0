"""The SQLite backend: one writer, many readers, one file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from holdfast.model.entry import LogRow
from holdfast.model.search import Found, Search
from holdfast.model.session import ListedSession, SessionRow
from holdfast.model.stats import Stats
from holdfast.model.write import KeyRow, Write
from holdfast.rules import codec
from holdfast.rules.totals import usage_totals
from holdfast.store.backend import (
    Capabilities,
    HistoryRead,
    Listing,
    LogRead,
    Outcome,
    SchemaState,
)
from holdfast.store.sources import Sources
from holdfast.store.sqlite import faults, searching
from holdfast.store.sqlite.connections import Database
from holdfast.store.sqlite.queries import queries
from holdfast.store.sqlite.readers import Readers
from holdfast.store.sqlite.turnstile import Turnstile
from holdfast.store.sqlite.watching import Watcher
from holdfast.store.sqlite.writer import Writer

_TOP = (1 << 63) - 1
FORK_WAIT_S = 5.0

Extent: TypeAlias = tuple[int, int]
"""The revision that a generation lies above, and its last one."""


class SqliteBackend:
    """A log in one SQLite file, which any number of processes may share."""

    stops = None  # a file says that it was changed, and not by what
    capabilities = Capabilities(durable=True, cross_process=True)

    def __init__(self, database: Database, sources: Sources) -> None:
        self._database = database
        self._sources = sources
        self._readers = Readers(database)
        self._turnstile = Turnstile(database.path)
        self._watcher = Watcher(database)
        self._writer: Writer | None = None
        self.identity = ""

    @property
    def location(self) -> str:
        """The file's path."""
        return self._database.location

    def open(self, *, migrate: bool = True) -> None:
        """Check the file, make it if it is new, bring its schema up to date, and let go of it."""
        try:
            self.identity = self._database.prepare(self._sources, migrate=migrate)
        except sqlite3.Error as error:
            raise faults.translated(error, self.location) from error

    def migrate(self, *, before_only: bool) -> tuple[SchemaState, SchemaState]:
        """Bring an older schema up to date, or only prepare that; return its old and new state."""
        try:
            return self._database.migrate(before_only=before_only)
        except sqlite3.Error as error:
            raise faults.translated(error, self.location) from error

    def admit(self, *, wait: bool) -> bool:
        """Take the file's write lock, once it is this process's turn."""
        try:
            writer = self._usable_writer()  # first: opening one takes long, and others would wait
        except sqlite3.Error as error:
            raise faults.translated(error, self.location) from error
        if not self._turnstile.enter(wait=wait):
            return False
        admitted = False
        try:
            admitted = writer.begin()
        finally:
            if not admitted:
                self._turnstile.leave()
            if writer.met_others:
                self._turnstile.note_others()
        return admitted

    def _usable_writer(self) -> Writer:
        old = self._writer
        if old is not None and not old.broken:
            return old
        # A broken one is closed after the new one is open: the last connection to close a file
        # checkpoints and syncs it, and the broken one must not.
        self._writer = Writer(self._database, self._sources)
        if old is not None:
            old.close()
        return self._writer

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Do the writes in one transaction."""
        assert self._writer is not None, "commit comes after admit"
        return self._writer.commit(writes)

    def meanwhile(self, work: Callable[[], None]) -> None:
        """Do it now: a commit has no time for it."""
        work()

    def leave(self) -> None:
        """Release the write lock and let the next process in."""
        try:
            if self._writer is not None:
                self._writer.finish()
        finally:
            self._turnstile.leave()

    def read_session(self, tenant: str, session_id: str) -> SessionRow | None:
        """Return a session's row."""
        with self._readers.snapshot() as connection:
            return _session(connection, tenant, session_id)

    def read_history(
        self, tenant: str, session_id: str, *, at: int | None = None, last: int | None = None
    ) -> HistoryRead | None:
        """Return the history now or at revision `at`, from one snapshot."""
        with self._readers.snapshot() as connection:
            session = _session(connection, tenant, session_id)
            if session is None:
                return None
            if at is None:
                extent, revision = (session.base, session.revision), session.history_revision
            else:
                extent = _generation(connection, session, at)
                revision = _history_revision(connection, extent)
            if last is None:
                return HistoryRead(
                    session, revision, _whole(connection, session, extent), complete=True
                )
            if last == 0:
                return HistoryRead(session, revision, (), complete=False)
            return HistoryRead(session, revision, *_last(connection, session, extent, last))

    def read_log(
        self, tenant: str, session_id: str, *, after: int = 0, limit: int | None = None
    ) -> LogRead | None:
        """Return the entries above revision `after`, from one snapshot."""
        with self._readers.snapshot() as connection:
            session = _session(connection, tenant, session_id)
            if session is None:
                return None
            rows = _log(
                connection,
                max(after, session.start),
                session.revision,
                -1 if limit is None else limit,
            )
            ends = max((row.ordinal for row in rows if row.kind == "reset"), default=0)
            if rows and ends > rows[-1].revision:
                rows += _log(connection, rows[-1].revision, ends, -1)
        return LogRead(session, rows)

    def read_keys(self, tenant: str, session_id: str, key: str | None = None) -> dict[str, KeyRow]:
        """Return what a session's idempotency keys recorded, of all or of one."""
        place = (tenant, session_id)
        with self._readers.snapshot() as connection:
            if key is None:
                found = connection.execute(queries()["session_keys"], place)
            else:
                found = connection.execute(queries()["session_key"], (*place, key))
            return {row[0]: KeyRow(*row[1:]) for row in found}

    def read_turns(self, tenant: str, session_id: str, turn: str | None = None) -> LogRead | None:
        """Return a session's turn entries, or those of one turn, from one snapshot."""
        with self._readers.snapshot() as connection:
            session = _session(connection, tenant, session_id)
            if session is None:
                return None
            place: tuple[str | int, ...] = (session.start, session.revision)
            name = "all_turn_rows"
            if turn is not None:
                name, place = "turn_rows", (turn, *place)
            found = connection.execute(queries()[name], place)
            return LogRead(session, list(map(LogRow._make, found)))

    def open_turns(self, tenant: str) -> list[SessionRow]:
        """Return a tenant's sessions whose turn runs or waits."""
        with self._readers.snapshot() as connection:
            found = connection.execute(queries()["open_turns"], (tenant,))
            return [SessionRow._make(row) for row in found]

    def clock_ms(self) -> int:
        """Return this machine's time."""
        return self._sources.now_ms()

    def waiting(self, tenant: str, session_id: str) -> int:
        """Return how many stand in line for a session's turn."""
        with self._readers.snapshot() as connection:
            row = connection.execute(queries()["count_waiters"], (tenant, session_id)).fetchone()
        return int(row[0])

    def wait(self, timeout_s: float) -> bool:
        """Return true when some process may have committed, false when time was up before."""
        try:
            return self._watcher.wait(timeout_s)
        except sqlite3.Error as error:
            raise faults.translated(error, self.location) from error

    def wake(self) -> None:
        """Let `wait` return now."""
        self._watcher.wake()

    def list_sessions(self, listing: Listing) -> list[ListedSession]:
        """Return the sessions that a listing asks for."""
        place = listing.below or (_TOP, _TOP)
        values = [listing.tenant, *place, listing.agent_name, listing.agent_name]
        name = "list_sessions"
        if listing.user_id is not None:
            name = "list_user_sessions"
            values.append(listing.user_id)
        values.append(listing.limit)
        with self._readers.snapshot() as connection:
            return list(map(ListedSession._make, connection.execute(queries()[name], values)))

    def tenants(self) -> list[str]:
        """Return the tenants that have sessions."""
        with self._readers.snapshot() as connection:
            return [str(row[0]) for row in connection.execute(queries()["tenants"])]

    def sessions_after(self, tenant: str, pk: int, limit: int) -> list[SessionRow]:
        """Return a tenant's sessions with keys above `pk`, by key."""
        with self._readers.snapshot() as connection:
            found = connection.execute(queries()["sessions_after"], (tenant, pk, limit))
            return [SessionRow._make(row) for row in found]

    def count(self, tenant: str, session_id: str | None = None) -> Stats:
        """Count a tenant's sessions and entries, or one session's."""
        place = (tenant, session_id, session_id)
        with self._readers.snapshot() as connection:
            sessions, messages, firsts = connection.execute(
                queries()["count_sessions"], place
            ).fetchone()
            entries, resets = connection.execute(queries()["count_messages"], place).fetchone()
            (arrived,) = connection.execute(queries()["count_arrived"], place).fetchone()
            (activity,) = connection.execute(queries()["count_activity"], place).fetchone()
            usage = usage_totals(map(LogRow._make, connection.execute(queries()["usages"], place)))
        entries += arrived + activity
        return Stats(sessions, messages, entries, resets + firsts, self._size(), usage)

    def lacking(self, tenant: str) -> int:
        """Return about how many entries the search index lacks."""
        with self._readers.snapshot() as connection:
            return searching.lacking(connection, tenant)

    def search(self, wanted: Search) -> list[Found]:
        """Return the messages that fit a query best, indexed or not."""
        with self._readers.snapshot() as connection:
            return searching.search(connection, wanted)

    def check(self) -> list[str]:
        """Return what SQLite's own integrity check finds."""
        with self._readers.snapshot() as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    def close(self) -> None:
        """Close every connection; the last one out folds the write-ahead log into the file."""
        self._watcher.close()
        self._readers.close()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        self._turnstile.close()

    def before_fork(self) -> None:
        """Close every connection: SQLite's knowledge of its own locks is copied by a fork.

        A child that wrote through it would not see the parent's locks, nor the parent the child's.
        """
        self._watcher.pause()
        self._readers.pause(FORK_WAIT_S)
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.release()
        self._turnstile.close()

    def after_fork_in_parent(self) -> None:
        """Let reads begin again; connections are opened when they are needed."""
        self._readers.resume()
        self._watcher.resume()

    def after_fork_in_child(self) -> None:
        """Start anew; what could not be closed before the fork is left alone."""
        self._watcher = Watcher(self._database)
        inherited = self._readers.abandon()
        if self._writer is not None:
            inherited.append(self._writer.connection)
            self._writer = None
        for connection in inherited:
            _never_close(connection)
        self._turnstile.close()

    def _size(self) -> int:
        size = 0
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                size += Path(f"{self._database.path}{suffix}").stat().st_size
        return size


def _session(connection: sqlite3.Connection, tenant: str, session_id: str) -> SessionRow | None:
    row = connection.execute(queries()["session"], (tenant, session_id)).fetchone()
    return SessionRow._make(row) if row else None


def _generation(connection: sqlite3.Connection, session: SessionRow, at: int) -> Extent:
    """Return the base and the last revision of the generation that holds revision `at`."""
    for reset, ends in connection.execute(queries()["resets_until"], (session.start, at)):
        if ends <= at:
            return reset, at
        at = reset - 1  # inside a rewrite's commit: the generation before it
    return session.start, at


def _history_revision(connection: sqlite3.Connection, extent: Extent) -> int:
    """Return the last revision of a generation's messages, or that of its reset."""
    (revision,) = connection.execute(queries()["last_message"], (*extent, *extent)).fetchone()
    return extent[0] if revision is None else int(revision)


def _whole(
    connection: sqlite3.Connection, session: SessionRow, extent: Extent
) -> tuple[bytes, ...]:
    """Return a history's payloads."""
    rows = chain(
        connection.execute(queries()["history"], extent),
        connection.execute(queries()["arrived"], extent),
    )
    return _joined(connection, session, extent, rows)


def _last(
    connection: sqlite3.Connection, session: SessionRow, extent: Extent, last: int
) -> tuple[tuple[bytes, ...], bool]:
    """Return payloads that hold the last messages, and whether they reach the beginning."""
    rows: list[codec.CheckedPayload] = []
    held = 0
    found = chain(
        connection.execute(queries()["arrived_backwards"], extent),
        connection.execute(queries()["history_backwards"], extent),
    )
    for row in found:
        rows.append(row)
        held += row[0].count(b"\n") + 1
        if held >= last:
            break
    complete = next(found, None) is None
    return _joined(connection, session, extent, reversed(rows), first=-len(rows)), complete


def _joined(
    connection: sqlite3.Connection,
    session: SessionRow,
    extent: Extent,
    rows: Iterable[codec.CheckedPayload],
    first: int = 0,
) -> tuple[bytes, ...]:
    """Return the payloads of a history's entries from `first` on.

    Their revisions, which a read does without, are asked for when one of them is damaged.
    """
    try:
        return codec.joined(rows)
    except codec.Damaged as damaged:
        revisions = connection.execute(queries()["revisions"], (*extent, *extent)).fetchall()
        (revision,) = revisions[first + damaged.index]
        raise codec.mismatch(session.id, revision) from None


def _log(connection: sqlite3.Connection, after: int, until: int, limit: int) -> list[LogRow]:
    extent = (after, until)
    found = connection.execute(queries()["log"], (*extent * 3, limit))
    return [LogRow._make(row) for row in found]


def _never_close(connection: sqlite3.Connection) -> None:
    import ctypes  # needed in forked children only

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
