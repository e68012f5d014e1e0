"""The log in memory: for tests and for programs that forget on purpose.

A real backend, held to the whole conformance suite, except that nothing outlives the process.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence

from msgspec import Struct

from holdfast.errors import HoldfastError, NotSupported
from holdfast.model.commit import Deletion
from holdfast.model.entry import EntryKind, LogRow
from holdfast.model.search import Found, Indexed, Search
from holdfast.model.session import ListedSession, SessionRow, listed, new_session
from holdfast.model.stats import Stats
from holdfast.model.turn import Ticket
from holdfast.model.write import KeyRow, Write, WriteKind
from holdfast.rules import codec
from holdfast.rules.committing import decide
from holdfast.rules.decision import Decision, rank_after
from holdfast.rules.search import Scan, said_in
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


class _Session(Struct):
    row: SessionRow
    log: list[LogRow] = []
    keys: dict[str, KeyRow] = {}
    tickets: dict[str, Ticket] = {}


class MemoryBackend:
    """A store that lives as long as its object."""

    stops = None
    capabilities = Capabilities(durable=False, cross_process=False)

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._sessions: dict[tuple[str, str], _Session] = {}
        self._pks = itertools.count(1)
        self._last_ranks: dict[str, int] = {}
        self._lock = threading.Lock()
        self._news_lock = threading.RLock()
        self._news = threading.Condition(self._news_lock)
        self._is_new = False
        self.identity = f"memory-{sources.new_id()}"
        self.location = "memory (nothing is kept)"

    def open(self, *, migrate: bool = True) -> None:
        """Do nothing: there is nothing to check."""

    def migrate(self, *, before_only: bool) -> tuple[SchemaState, SchemaState]:  # noqa: ARG002 - refused
        """Refuse: what is made anew with each process is never old."""
        raise NotSupported(
            "a store in memory has no schema", hint="name a file with --store or HOLDFAST_URL"
        )

    def admit(self, *, wait: bool) -> bool:  # noqa: ARG002 - there is nobody to wait for
        """Say yes: the engine is the only writer there can be."""
        return True

    def meanwhile(self, work: Callable[[], None]) -> None:
        """Do it now: a commit has no time for it."""
        work()

    def leave(self) -> None:
        """Do nothing: no other writer waits."""

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Do the writes in order."""
        with self._lock:
            outcomes = [self._commit_one(write) for write in writes]
        self.wake()
        return outcomes

    def _commit_one(self, write: Write) -> Outcome:
        place = (write.tenant, write.session_id)
        if write.kind is WriteKind.INDEX:
            return Indexed(0, complete=True)
        if write.kind is WriteKind.DELETE:
            existed = self._sessions.pop(place, None) is not None
            return Deletion(existed, "done" if existed else "none")
        session = self._sessions.get(place)
        row = session.row if session else None
        recorded = session.keys.get(write.key) if session and write.key is not None else None
        try:
            decision = decide(write, row, recorded, self._sources.now_ms(), self)
        except HoldfastError as error:
            return error
        if session is None:
            session = self._sessions[place] = _Session(decision.session)
        if decision.session.floor > session.row.floor:
            session.log = [
                entry
                for entry in session.log
                if entry.revision >= decision.session.floor
                or entry.kind not in (EntryKind.MESSAGE, EntryKind.RESET)
            ]
        _tidy(session, decision, self._sources.now_ms())
        session.row = decision.session
        session.log.extend(decision.rows)
        if decision.key is not None and write.key is not None:
            session.keys[write.key] = decision.key
        session.keys.update(decision.keys)
        return decision.answer

    def create_session(self, tenant: str, session_id: str, now: int) -> SessionRow:
        """Return the row of a new session; it is stored with its first decision."""
        return new_session(next(self._pks), tenant, session_id, now)

    def next_rank(self, session: SessionRow, now: int) -> int:
        """Return the rank of a session that changes."""
        rank = rank_after(session, self._last_ranks.get(session.tenant, 0), now)
        self._last_ranks[session.tenant] = rank
        return rank

    def messages_after(self, session: SessionRow, revision: int) -> Sequence[LogRow]:
        """Return the message entries above a revision."""
        rows = self.entries_after(session, revision)
        return [row for row in rows if row.kind == EntryKind.MESSAGE]

    def resets_after(self, session: SessionRow, revision: int) -> Sequence[LogRow]:
        """Return the reset entries above a revision."""
        rows = self.entries_after(session, revision)
        return [row for row in rows if row.kind == EntryKind.RESET]

    def entries_after(self, session: SessionRow, revision: int) -> Sequence[LogRow]:
        """Return all entries above a revision."""
        found = self._sessions.get((session.tenant, session.id))
        return [row for row in found.log if row.revision > revision] if found else []

    def turn_rows(self, session: SessionRow, turn: str) -> Sequence[LogRow]:
        """Return the turn entries of one turn."""
        rows = self.entries_after(session, session.start)
        return [row for row in rows if row.turn == turn and row.kind == EntryKind.TURN]

    def tickets(self, session: SessionRow) -> Sequence[Ticket]:
        """Return the places in the line for a session."""
        found = self._sessions.get((session.tenant, session.id))
        return list(found.tickets.values()) if found else []

    def read_session(self, tenant: str, session_id: str) -> SessionRow | None:
        """Return a session's row."""
        session = self._sessions.get((tenant, session_id))
        return session.row if session else None

    def open_turns(self, tenant: str) -> list[SessionRow]:
        """Return a tenant's sessions whose turn runs or waits."""
        with self._lock:
            rows = [session.row for session in self._sessions.values()]
        return [row for row in rows if row.tenant == tenant and row.open_turn is not None]

    def clock_ms(self) -> int:
        """Return this machine's time."""
        return self._sources.now_ms()

    def waiting(self, tenant: str, session_id: str) -> int:
        """Return how many stand in line for a session's turn."""
        session = self._sessions.get((tenant, session_id))
        return len(session.tickets) if session else 0

    def wait(self, timeout_s: float) -> bool:
        """Wait until something is committed, or woken; false if time was up before."""
        with self._news_lock:
            found = self._news.wait_for(lambda: self._is_new, timeout_s)
            self._is_new = False
            return found

    def wake(self) -> None:
        """Let `wait` return."""
        with self._news_lock:
            self._is_new = True
            self._news.notify_all()

    def read_history(
        self,
        tenant: str,
        session_id: str,
        *,
        at: int | None = None,
        last: int | None = None,  # noqa: ARG002 - the whole history is at hand
    ) -> HistoryRead | None:
        """Return the history now or at revision `at`."""
        with self._lock:
            session = self._sessions.get((tenant, session_id))
            if session is None:
                return None
            row, log = session.row, session.log[:]
        upper = row.revision if at is None else at
        base = row.start
        for entry in log:
            if entry.kind == EntryKind.RESET and entry.revision <= upper:
                if entry.ordinal > upper:  # inside a rewrite's commit: the generation before it
                    upper = entry.revision - 1
                    break
                base = entry.revision
        found = [e for e in log if base < e.revision <= upper and e.kind == EntryKind.MESSAGE]
        rows = [(e.revision, e.payload, e.checksum) for e in found]
        revision = found[-1].revision if found else base
        return HistoryRead(row, revision, codec.joined_entries(session_id, rows), complete=True)

    def read_log(
        self, tenant: str, session_id: str, *, after: int = 0, limit: int | None = None
    ) -> LogRead | None:
        """Return the entries above revision `after`."""
        with self._lock:
            session = self._sessions.get((tenant, session_id))
            if session is None:
                return None
            row = session.row
            rows = [entry for entry in session.log if entry.revision > after]
        if limit is not None and len(rows) > limit:
            kept = rows[:limit]
            ends = max((e.ordinal for e in kept if e.kind == EntryKind.RESET), default=0)
            rows = kept + [entry for entry in rows[limit:] if entry.revision <= ends]
        return LogRead(row, rows)

    def read_keys(self, tenant: str, session_id: str, key: str | None = None) -> dict[str, KeyRow]:
        """Return what a session's idempotency keys recorded, of all or of one."""
        with self._lock:
            session = self._sessions.get((tenant, session_id))
            keys = dict(session.keys) if session else {}
        return {name: row for name, row in keys.items() if key in (None, name)}

    def read_turns(self, tenant: str, session_id: str, turn: str | None = None) -> LogRead | None:
        """Return a session's turn entries, or those of one turn."""
        read = self.read_log(tenant, session_id)
        if read is None:
            return None
        rows = [row for row in read.rows if row.kind == EntryKind.TURN]
        return LogRead(read.session, [row for row in rows if turn in (None, row.turn)])

    def list_sessions(self, listing: Listing) -> list[ListedSession]:
        """Return the sessions that a listing asks for."""
        with self._lock:
            rows = [session.row for session in self._sessions.values()]
        rows = [
            row
            for row in rows
            if row.tenant == listing.tenant
            and (listing.user_id is None or row.user_id == listing.user_id)
            and (listing.agent_name is None or row.agent_name == listing.agent_name)
            and (listing.below is None or (row.rank, row.pk) < listing.below)
        ]
        rows.sort(key=lambda row: (row.rank, row.pk), reverse=True)
        return list(map(listed, rows[: listing.limit]))

    def tenants(self) -> list[str]:
        """Return the tenants that have sessions."""
        with self._lock:
            return sorted({tenant for tenant, _ in self._sessions})

    def sessions_after(self, tenant: str, pk: int, limit: int) -> list[SessionRow]:
        """Return a tenant's sessions with keys above `pk`, by key."""
        with self._lock:
            rows = [session.row for session in self._sessions.values()]
        rows = [row for row in rows if row.tenant == tenant and row.pk > pk]
        return sorted(rows, key=lambda row: row.pk)[:limit]

    def count(self, tenant: str, session_id: str | None = None) -> Stats:
        """Count a tenant's sessions and entries, or one session's."""
        with self._lock:
            chosen = [
                session
                for (owner, name), session in self._sessions.items()
                if owner == tenant and session_id in (None, name)
            ]
            logs = [entry for session in chosen for entry in session.log]
        return Stats(
            sessions=len(chosen),
            messages=sum(session.row.message_count for session in chosen),
            entries=len(logs),
            generations=sum(entry.kind == EntryKind.RESET for entry in logs)
            + sum(session.row.floor == session.row.start for session in chosen),
            size_bytes=sum(len(entry.payload) for entry in logs),
            usage=usage_totals(entry for entry in logs if entry.kind == EntryKind.USAGE),
        )

    def lacking(self, tenant: str) -> int:  # noqa: ARG002 - of nobody's
        """Return 0: there is no index, everything is at hand."""
        return 0

    def search(self, wanted: Search) -> list[Found]:
        """Return the messages that fit a query best."""
        with self._lock:
            chosen = [
                (session.row, session.log[:])
                for session in self._sessions.values()
                if session.row.tenant == wanted.tenant
                and wanted.user_id in (None, session.row.user_id)
            ]
        scan = Scan(wanted.query)
        for row, log in chosen:
            for entry in log:
                if entry.revision > row.base and entry.kind == EntryKind.MESSAGE:
                    for index, said in enumerate(said_in(entry.payload, entry.checksum) or ()):
                        scan.look(Found(row.id, entry.revision, index, entry.at, said))
        return scan.best(wanted.limit)

    def check(self) -> list[str]:
        """Return nothing: memory has no files to be damaged."""
        return []

    def close(self) -> None:
        """Do nothing: the log goes with the object."""

    def before_fork(self) -> None:
        """Do nothing: the child gets a copy."""

    def after_fork_in_parent(self) -> None:
        """Do nothing."""

    def after_fork_in_child(self) -> None:
        """Go on with the child's own copy."""
        self._lock = threading.Lock()
        self._news_lock = threading.RLock()
        self._news = threading.Condition(self._news_lock)


def _tidy(session: _Session, decision: Decision, now: int) -> None:
    """Keep or drop a place in the line for a session, and drop deltas that are not needed."""
    if decision.ticket is not None:
        session.tickets[decision.ticket.id] = decision.ticket
    if decision.served is not None:
        session.tickets = {
            name: ticket
            for name, ticket in session.tickets.items()
            if name != decision.served and ticket.expires > now
        }
    forget = decision.forget
    if forget is not None:
        session.log = [
            row for row in session.log if row.revision > forget or row.kind != EntryKind.DELTA
        ]
