"""What a turn is: its states, the lease that runs it, and what a write does to it."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct

from holdfast.model.commit import Commit
from holdfast.model.usage import TurnStatus

TURN_PREFIX = "turn_"
"""How every turn's id begins; no label does."""


class Reason(StrEnum):
    """Why a turn was interrupted: on request, or because its worker died."""

    REQUESTED = "requested"
    ABANDONED = "abandoned"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    CRASHED = "crashed"


class Token(Struct, frozen=True):
    """The fencing token of one lease: the session's key, and a number that only rises."""

    session: int
    fence: int


class Opening(Struct, frozen=True, kw_only=True):
    """Open a turn, if the session is free; the prompt is the write's entries.

    `ttl_ms` is how long the lease lasts, `ticket` the caller's place in the line of those who wait,
    taken and renewed while the session is busy. With `supersede` a waiting turn is closed. `resume`
    names a waiting turn that is to go on.
    """

    turn: str
    worker: str
    ttl_ms: int
    ticket: str | None = None
    supersede: bool = False
    resume: str | None = None
    user_id: str | None = None


class Holding(Struct, frozen=True, kw_only=True):
    """Write inside a turn: `token` is checked, and the lease is renewed.

    `status` closes the turn, or lets it wait; the lease is released then. `heard` is the revision
    up to which the worker knows the log, where a write of it is under way that this one repeats the
    usage of: what stands above it already is not written again.
    """

    token: Token
    turn: str
    attempt: int
    status: TurnStatus = TurnStatus.RUNNING
    heard: int | None = None


class Interrupting(Struct, frozen=True):
    """Ask the running turn to stop; with a `fence`, only the one that holds it."""

    fence: int | None = None


class Recovering(Struct, frozen=True):
    """Close the session's turn if its worker is gone."""


class Leaving(Struct, frozen=True):
    """Give up a place in the line of those who wait for the session."""

    ticket: str


TurnAction: TypeAlias = Opening | Holding | Interrupting | Recovering | Leaving


class Ticket(Struct, frozen=True):
    """A place in the line of those who wait for a session, until it expires (milliseconds)."""

    id: str
    number: int
    expires: int


class Opened(Struct, frozen=True):
    """A turn that is ours to run, or one that its key gives back as it was recorded.

    `prompt_revision` is where the history that it answers ends, `begun` the revision before its
    first entry. A replayed turn has no lease. `waited` says that it waited until now, `approved`
    are the tool calls that were approved meanwhile.
    """

    commit: Commit
    token: Token
    turn: str
    attempt: int
    prompt_revision: int
    begun: int
    status: TurnStatus = TurnStatus.RUNNING
    replayed: bool = False
    waited: bool = False
    approved: tuple[str, ...] = ()


class Busy(Struct, frozen=True):
    """The session is taken: by which turn, of which worker, and how long its lease lasts.

    `waiting` says that the turn waits for an answer; `same` that it is the one that the key names.
    `fence` is that of its lease, for whoever wants to interrupt it.
    """

    turn: str
    worker: str
    until_ms: int
    fence: int
    waiting: bool = False
    same: bool = False


class Held(Struct, frozen=True):
    """A write inside a turn that is durable; `interrupted` if the turn was asked to stop."""

    commit: Commit
    interrupted: bool = False


class Signalled(Struct, frozen=True):
    """What asking or recovering came to: whether a turn was there to be stopped or closed."""

    commit: Commit
    happened: bool
