"""Everything durable is one `Write`: what to append to which session, under which conditions."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from holdfast.model.entry import LogRow, NewEntry
from holdfast.model.turn import TurnAction


class WriteKind(StrEnum):
    """What a write is for. An idempotency key belongs to one kind."""

    ADD = "add"
    SAVE = "save"
    CLEAR = "clear"
    CREATE = "create"
    CHANGE = "change"
    REWIND = "rewind"
    COMPACT = "compact"
    PURGE = "purge"
    TURN = "turn"
    DELETE = "delete"
    INDEX = "index"
    COPY = "copy"


class Creation(StrEnum):
    """What a write does about a session that is not there, or is there already."""

    ALLOWED = "allowed"
    FORBIDDEN = "forbidden"
    REQUIRED = "required"


class Reset(Struct, frozen=True):
    """Start a new generation; `reason` says why.

    With a `base_revision`, messages committed after it follow the new ones; without, the new
    generation holds exactly the write's entries. `repeats` says how many of these stand in the
    generation of the write's `base_revision` already: they do not count as removed from it.
    """

    reason: str
    base_revision: int | None = None
    repeats: int = 0


class KeyRow(Struct, frozen=True):
    """The outcome that an idempotency key recorded.

    One of kind `copy` is a copy mark: no caller's key, but what a session knows about the one in
    another store that it is a copy of. `revision` says up to where, `kept` is that session's key.
    """

    kind: str
    revision: int
    kept: int
    turn: str | None = None


class Restored(Struct, frozen=True):
    """A log that is to be written as it stands elsewhere: a whole one, or what follows `after`.

    Every revision in it is relative to the session's start, those in payloads included: the commit
    knows where the session starts here. `revision` is the last that was given out, `floor` the
    lowest that was not purged, `created` when the session was, in milliseconds. `keys` are what
    its idempotency keys recorded. A session that is there must stand at exactly `after`.
    """

    created: int
    revision: int
    floor: int
    rows: tuple[LogRow, ...]
    keys: dict[str, KeyRow] = {}
    after: int = 0


class Write(Struct, frozen=True, kw_only=True):
    """One atomic change of one session; to index is to fill the search index of a whole tenant.

    `expected_revision` must be the history's; `base_revision` must be a revision of this very
    session. `key` makes the write happen once, however often it is sent. `floor` is the reset below
    which a purge removes everything; `restored` is a log from elsewhere, instead of entries.
    `turn` says what is done to the session's turn.
    """

    tenant: str
    session_id: str
    kind: WriteKind
    entries: tuple[NewEntry, ...] = ()
    reset: Reset | None = None
    creation: Creation = Creation.ALLOWED
    expected_revision: int | None = None
    base_revision: int | None = None
    key: str | None = None
    floor: int | None = None
    restored: Restored | None = None
    turn: TurnAction | None = None
