"""What a session is: its row in the store, and what callers see of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from msgspec import Struct, field

T = TypeVar("T")

Details: TypeAlias = tuple[str | None, str | None, str | None, str, str]
"""A session's title, user, agent, and its metadata and labels as JSON."""

LEASE = 16
"""From this column on a session's row says which turn is open, and who holds it until when."""

REVISION_BITS = 32
"""A session's revisions start at its key times 2^32: no revision fits two sessions of one store."""

Point: TypeAlias = int | str
"""Where in a session's past: a revision, a label, a turn's id, or -n, that many turns back."""


class SessionRow(NamedTuple):
    """A session as the store keeps it. Times are milliseconds since 1970, UTC.

    `revision` is the last entry's, `history_revision` that of the last message or reset, `base` the
    last reset's (or the session's start), `floor` the lowest revision that was not purged. `rank`
    is its place in the order of change: of a tenant's sessions the one that changed last has the
    highest.
    `meta` and `labels` are JSON objects. `fence` rises with every lease. A lease lasts until
    `lease_until` and is `lease_ttl` milliseconds long; `open_turn` is the turn that runs or waits,
    `turn_status` which of both; `interrupt_fence` the lease that was asked to stop.
    """

    pk: int
    tenant: str
    id: str
    revision: int
    history_revision: int
    base: int
    floor: int
    message_count: int
    created: int
    updated: int
    rank: int
    title: str | None
    user_id: str | None
    agent_name: str | None
    meta: str
    labels: str
    fence: int = 0
    lease_until: int = 0
    lease_ttl: int = 0
    lease_owner: str | None = None
    open_turn: str | None = None
    open_attempt: int = 0
    turn_status: str | None = None
    interrupt_fence: int = 0

    @property
    def details(self) -> Details:
        """What meta entries change."""
        return self.title, self.user_id, self.agent_name, self.meta, self.labels

    @property
    def start(self) -> int:
        """The revision before the session's first entry."""
        return self.pk << REVISION_BITS


class ListedSession(NamedTuple):
    """What a list of sessions needs of a session's row: each column takes time to read."""

    rank: int
    id: str
    title: str | None
    user_id: str | None
    agent_name: str | None
    created: int
    updated: int
    message_count: int
    revision: int
    turn_status: str | None
    meta: str
    labels: str

    @property
    def pk(self) -> int:
        """The session's key, which its revisions begin with."""
        return self.revision >> REVISION_BITS


def listed(row: SessionRow) -> ListedSession:
    """Return what a list of sessions needs of a row."""
    return ListedSession._make(getattr(row, name) for name in ListedSession._fields)


def new_session(pk: int, tenant: str, session_id: str, now: int) -> SessionRow:
    """Return the row of a session without entries."""
    at = pk << REVISION_BITS
    return SessionRow(
        pk, tenant, session_id, at, at, at, at, 0, now, now, 0, None, None, None, "{}", "{}"
    )


class SessionInfo(Struct, frozen=True):
    """One session: who it belongs to, how long it is, and where its log stands."""

    id: str
    title: str | None
    user_id: str | None
    agent_name: str | None
    created_at: datetime
    updated_at: datetime
    message_count: int
    revision: int
    status: str
    metadata: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)


class Page(list[T], Generic[T]):
    """A list that knows how to go on: pass `next_cursor` as `cursor=`; `None` at the end."""

    __slots__ = ("next_cursor",)

    def __init__(self, items: list[T], next_cursor: str | None = None) -> None:
        super().__init__(items)
        self.next_cursor = next_cursor
