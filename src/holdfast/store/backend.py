"""What an engine's implementation must do. `commit` is the only method that changes anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

from holdfast.errors import HoldfastError, Unavailable
from holdfast.model.commit import Deletion
from holdfast.model.entry import LogRow
from holdfast.model.search import Found, Indexed, Search
from holdfast.model.session import ListedSession, SessionRow
from holdfast.model.stats import Stats
from holdfast.model.write import KeyRow, Write
from holdfast.rules.decision import Answer

Result: TypeAlias = Answer | Deletion | Indexed
"""What a write that happened answers."""

Outcome: TypeAlias = Result | HoldfastError
"""What one write of a batch came to; an error means that this write changed nothing."""


def is_contended(outcome: Outcome) -> bool:
    """Say whether a write was refused because others were in the way just now."""
    return isinstance(outcome, Unavailable) and outcome.code == "contended"


Durability: TypeAlias = Literal["full", "relaxed"]
"""Whether a power failure may take the last commits."""


class Capabilities(Struct, frozen=True):
    """What a backend can promise; its tests skip only what is declared missing here.

    `overwrites` says that deleting leaves no byte behind when it returns, `overlaps` that a commit
    is done elsewhere: this process may do other work `meanwhile`.
    """

    durable: bool
    cross_process: bool
    overwrites: bool = True
    overlaps: bool = False


class SchemaState(Struct, frozen=True):
    """How far a store's schema is: up to which version it is finished, and prepared.

    A prepared version serves this code and the code before it, side by side.
    """

    version: int
    prepared: int


class HistoryRead(Struct, frozen=True):
    """Message entries of one generation, from one snapshot, oldest first.

    `revision` is the history revision that they make up; `complete` says that the generation's
    beginning is among them. `payloads` match their checksums, and are joined: a value for each
    entry would cost as much as its decoding.
    """

    session: SessionRow
    revision: int
    payloads: tuple[bytes, ...]
    complete: bool


class LogRead(Struct, frozen=True):
    """Entries above a revision, from one snapshot, oldest first.

    They never end between a reset and the end of its commit.
    """

    session: SessionRow
    rows: Sequence[LogRow]


class Listing(Struct, frozen=True):
    """Which sessions to list: a tenant's, newest first, from below a (rank, pk) pair."""

    tenant: str
    limit: int
    below: tuple[int, int] | None = None
    user_id: str | None = None
    agent_name: str | None = None


class Backend(Protocol):
    """One store's implementation: plain synchronous code, called from any thread.

    The engine lets one thread at a time between `admit` and `leave`; reads run beside it.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can promise."""
        ...

    @property
    def identity(self) -> str:
        """A name of the stored data itself: equal for every process that opened it."""
        ...

    @property
    def location(self) -> str:
        """Where the data is, for people."""
        ...

    def open(self, *, migrate: bool = True) -> None:
        """Check the store, make it if it is new, and let go of it.

        One with an older schema is brought up to date; without `migrate` it is refused.
        """
        ...

    def migrate(self, *, before_only: bool) -> tuple[SchemaState, SchemaState]:
        """Bring an older schema up to date, in one transaction; return how it stood and stands.

        With `before_only` it is only prepared: workers with the code before this one go on.
        """
        ...

    def admit(self, *, wait: bool) -> bool:
        """Become the store's one writer, and say whether that worked.

        Without `wait` only if nobody else writes or waits to. With it, after the turns of those who
        wait already, however long they take; strangers that hold the store are not waited for.
        """
        ...

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Do the writes in order, each atomically, all durable when this returns.

        A write that `is_contended` is refused with all of its session that come after it, and may
        be done by a later batch.

        Raises if the batch failed as a whole: `OutcomeUnknown` if it may have happened all the
        same, any other error if it certainly did not.
        """
        ...

    def meanwhile(self, work: Callable[[], None]) -> None:
        """Do something once, as soon as the next commit has nothing to do but wait.

        Before that commit returns in any case. Only where commits overlap.
        """
        ...

    def leave(self) -> None:
        """Let the next writer in; harmless if this one was not admitted."""
        ...

    def read_session(self, tenant: str, session_id: str) -> SessionRow | None:
        """Return a session's row."""
        ...

    def read_history(
        self, tenant: str, session_id: str, *, at: int | None = None, last: int | None = None
    ) -> HistoryRead | None:
        """Return the history now or at revision `at`; at least the `last` messages of it."""
        ...

    def read_log(
        self, tenant: str, session_id: str, *, after: int = 0, limit: int | None = None
    ) -> LogRead | None:
        """Return the entries above revision `after`, about `limit` of them."""
        ...

    def read_keys(self, tenant: str, session_id: str, key: str | None = None) -> dict[str, KeyRow]:
        """Return what a session's idempotency keys recorded, of all or of one, copy marks too."""
        ...

    def read_turns(self, tenant: str, session_id: str, turn: str | None = None) -> LogRead | None:
        """Return a session's turn entries, of all of its turns or of one, in order."""
        ...

    def open_turns(self, tenant: str) -> list[SessionRow]:
        """Return a tenant's sessions whose turn runs or waits."""
        ...

    def clock_ms(self) -> int:
        """Return the time that leases go by, in milliseconds since 1970."""
        ...

    def waiting(self, tenant: str, session_id: str) -> int:
        """Return how many stand in line for a session's turn, or stood there until lately."""
        ...

    def wait(self, timeout_s: float) -> bool:
        """Return true when something may have been committed, by any process, since the last call.

        A hint: it may come early, late or twice. False if time was up before: whoever waits then
        sleeps on. One thread at a time calls it.
        """
        ...

    @property
    def stops(self) -> int | None:
        """How often `wait` has heard that some turn was asked to stop; `None` if it never does."""
        ...

    def wake(self) -> None:
        """Let `wait` return now, from another thread."""
        ...

    def list_sessions(self, listing: Listing) -> list[ListedSession]:
        """Return the sessions that a listing asks for."""
        ...

    def tenants(self) -> list[str]:
        """Return the tenants that have sessions."""
        ...

    def sessions_after(self, tenant: str, pk: int, limit: int) -> list[SessionRow]:
        """Return a tenant's sessions with keys above `pk`, by key: none is missed or seen twice."""
        ...

    def count(self, tenant: str, session_id: str | None = None) -> Stats:
        """Count a tenant's sessions and entries, or one session's."""
        ...

    def lacking(self, tenant: str) -> int:
        """Return about how many entries a search index lacks; 0 if there is none to be filled."""
        ...

    def search(self, wanted: Search) -> list[Found]:
        """Return the messages that fit a query best, from one snapshot, indexed or not."""
        ...

    def check(self) -> list[str]:
        """Return what the storage itself says is damaged."""
        ...

    def close(self) -> None:
        """Let go of everything; a closed backend opens again when it is used."""
        ...

    def before_fork(self) -> None:
        """Close whatever a child must not inherit, once reads under way are done.

        The engine lets nobody write meanwhile.
        """
        ...

    def after_fork_in_parent(self) -> None:
        """Open again when used."""
        ...

    def after_fork_in_child(self) -> None:
        """Forget whatever belongs to the parent all the same."""
        ...
