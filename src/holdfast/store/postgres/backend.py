"""The PostgreSQL backend: one log for any number of machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import psycopg

from holdfast.model.search import Found, Search
from holdfast.model.session import ListedSession, SessionRow
from holdfast.model.stats import Stats
from holdfast.model.turn import Interrupting
from holdfast.model.write import KeyRow, Write
from holdfast.rules import codec
from holdfast.store.backend import (
    Capabilities,
    Durability,
    HistoryRead,
    Listing,
    LogRead,
    Outcome,
    SchemaState,
)
from holdfast.store.postgres import faults, logs, preparing, searching
from holdfast.store.postgres.by_hand import Script, by_hand
from holdfast.store.postgres.connections import Address, Connections, never_close
from holdfast.store.postgres.forgetting import Forgetter
from holdfast.store.postgres.outages import Outage
from holdfast.store.postgres.readers import Readers
from holdfast.store.postgres.watching import Notifier, Watcher
from holdfast.store.postgres.writer import Writer
from holdfast.store.sources import Sources

_TOP = (1 << 63) - 1
FORK_WAIT_S = 5.0
FIRST_SLICE = 64


class PostgresBackend:
    """A log in one schema of a PostgreSQL database."""

    capabilities = Capabilities(durable=True, cross_process=True, overwrites=False, overlaps=True)

    def __init__(self, address: Address, durability: Durability, sources: Sources) -> None:
        self.address = address
        self._durability: Durability = durability
        self._sources = sources
        self._connections = Connections(address, Outage(sources.monotonic_s, address.timeout_s / 2))
        self._readers = Readers(self._connections)
        self._writer = Writer(self._connections, sources)
        self._watcher = Watcher(self._connections)
        self._forgetter = Forgetter(address.schema, sources)
        self._notifier = Notifier(self._connections, self._forgetter.forget_some)
        self._totals = searching.Totals(sources.monotonic_s)
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

    def require_writable(self) -> None:
        """Raise `Unavailable` if the server is a standby, which a write would wait for."""
        preparing.require_writable(self.address)

    def admit(self, *, wait: bool) -> bool:
        """Get hold of a connection; PostgreSQL lets any number of processes write."""
        return self._writer.begin(wait=wait)

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Do the writes; those that only append in one round trip."""
        outcomes = self._writer.commit(writes)
        self._watcher.wake_if_waiting()
        self._forgetter.written({write.tenant for write in writes})
        self._notifier.tell(stop=any(isinstance(w.turn, Interrupting) for w in writes))
        return outcomes

    def meanwhile(self, work: Callable[[], None]) -> None:
        """Do something once, while the server does the next batch."""
        self._writer.meanwhile(work)

    def leave(self) -> None:
        """Let go of the connection."""
        self._writer.finish()

    def read_session(self, tenant: str, session_id: str) -> SessionRow | None:
        """Return a session's row."""
        return self._readers.read(tenant, lambda snapshot: logs.session(snapshot, session_id))

    def read_history(
        self, tenant: str, session_id: str, *, at: int | None = None, last: int | None = None
    ) -> HistoryRead | None:
        """Return the history now or at revision `at`, from one snapshot."""
        found = self._readers.read(
            tenant, lambda snapshot: logs.history(snapshot, session_id, at, last)
        )
        if found is None:
            return None
        revision = found.rows[-1][0] if found.rows else found.base
        if last == 0:
            return HistoryRead(found.session, revision, (), complete=False)
        payloads = codec.joined_entries(session_id, found.rows)
        return HistoryRead(found.session, revision, payloads, found.complete)

    def read_log(
        self, tenant: str, session_id: str, *, after: int = 0, limit: int | None = None
    ) -> LogRead | None:
        """Return the entries above revision `after`, from one snapshot."""
        return self._readers.read(
            tenant, lambda snapshot: logs.log(snapshot, session_id, after, limit)
        )

    def read_turns(self, tenant: str, session_id: str, turn: str | None = None) -> LogRead | None:
        """Return a session's turn entries, or those of one turn, from one snapshot."""
        return self._readers.read(tenant, lambda snapshot: logs.turns(snapshot, session_id, turn))

    def read_keys(self, tenant: str, session_id: str, key: str | None = None) -> dict[str, KeyRow]:
        """Return what a session's idempotency keys recorded, of all or of one."""
        return self._readers.read(tenant, lambda snapshot: logs.keys(snapshot, session_id, key))

    def tenants(self) -> list[str]:
        """Return the tenants that have sessions; a role behind row-level security cannot know."""
        return self._readers.read("", logs.tenants)

    def open_turns(self, tenant: str) -> list[SessionRow]:
        """Return a tenant's sessions whose turn runs or waits."""
        return self._readers.read(
            tenant, lambda snapshot: list(map(SessionRow._make, snapshot.ask("open_turns", tenant)))
        )

    def clock_ms(self) -> int:
        """Return the server's time."""
        if not self._sources.real_time:
            return self._sources.now_ms()
        return self._readers.read("", lambda snapshot: int(logs.one(snapshot.ask("now"))[0]))

    def waiting(self, tenant: str, session_id: str) -> int:
        """Return how many stand in line for a session's turn."""
        return self._readers.read(tenant, lambda snapshot: logs.waiting(snapshot, session_id))

    def wait(self, timeout_s: float) -> bool:
        """Return true when some process may have committed; false when time is up."""
        try:
            return self._watcher.wait(timeout_s)
        except psycopg.Error as error:
            raise faults.translated(error, self.location) from error

    @property
    def stops(self) -> int:
        """How often a notification said that some turn was asked to stop."""
        return self._watcher.stops

    def wake(self) -> None:
        """Let `wait` return now."""
        self._watcher.wake()

    def list_sessions(self, listing: Listing) -> list[ListedSession]:
        """Return the sessions that a listing asks for."""
        rank, pk = listing.below or (_TOP, _TOP)
        values: list[object] = [listing.tenant, rank, rank, pk]
        name = "list_sessions"
        if listing.user_id is not None:
            name = "list_user_sessions"
            values += [listing.user_id, listing.agent_name]
        elif listing.agent_name is not None:
            name = "list_agent_sessions"
            values.append(listing.agent_name)
        values.append(listing.limit)
        return self._readers.read(
            listing.tenant,
            lambda snapshot: list(map(ListedSession._make, snapshot.ask_in_order(name, *values))),
        )

    def sessions_after(self, tenant: str, pk: int, limit: int) -> list[SessionRow]:
        """Return a tenant's sessions with keys above `pk`, by key."""
        return self._readers.read(
            tenant,
            lambda snapshot: list(
                map(SessionRow._make, snapshot.ask_in_order("sessions_after", tenant, pk, limit))
            ),
        )

    def count(self, tenant: str, session_id: str | None = None) -> Stats:
        """Count a tenant's sessions and entries, or one session's."""
        return self._readers.read(
            tenant, lambda snapshot: logs.stats(snapshot, session_id, self.address.schema)
        )

    def lacking(self, tenant: str) -> int:
        """Return about how many entries the search index lacks."""
        return self._readers.read(tenant, searching.lacking)

    def search(self, wanted: Search) -> list[Found]:
        """Return the messages that fit a query best, indexed or not."""
        return self._readers.read(
            wanted.tenant, lambda snapshot: searching.search(snapshot, wanted, self._totals)
        )

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
        self._watcher.rest(FORK_WAIT_S)
        self._connections.pause(FORK_WAIT_S)

    def after_fork_in_parent(self) -> None:
        """Lend connections again; they are opened when they are needed."""
        self._connections.resume()
        self._watcher.resume()

    def after_fork_in_child(self) -> None:
        """Start anew; what could not be closed before the fork is left alone."""
        for connection in self._connections.abandon():
            never_close(connection)
        self._writer = Writer(self._connections, self._sources)
        self._watcher = Watcher(self._connections)
        self._notifier.after_fork_in_child()
