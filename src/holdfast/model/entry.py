"""The log's records: proposed (`NewEntry`), stored (`LogRow`) and as readers see them (`Entry`)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from holdfast.model.message import Message
from holdfast.model.usage import TurnStatus, Usage


class EntryKind(StrEnum):
    """What an entry records."""

    MESSAGE = "message"
    RESET = "reset"
    TURN = "turn"
    DELTA = "delta"
    USAGE = "usage"
    META = "meta"


class NewEntry(Struct, frozen=True):
    """An entry that a write proposes; the commit gives it its revision.

    `payload` is JSON, one object a line; `count` says how many messages it holds.
    """

    kind: EntryKind
    payload: bytes
    checksum: int
    count: int = 0
    turn: str | None = None
    attempt: int = 0

    def within(self, turn: str, attempt: int) -> NewEntry:
        """Return the same entry as part of a turn."""
        return NewEntry(self.kind, self.payload, self.checksum, self.count, turn, attempt)


class LogRow(NamedTuple):
    """An entry as it stands in the log.

    `ordinal` is, for messages, the number of messages before it in its generation; for a reset, the
    last revision of the commit that it opened. `at` is in milliseconds since 1970, UTC.
    `checksum` is the CRC-32 of `payload`.
    """

    revision: int
    kind: str
    ordinal: int
    turn: str | None
    attempt: int
    at: int
    payload: bytes
    checksum: int

    @property
    def message_count(self) -> int:
        """How many messages a message entry holds: one a line."""
        return self.payload.count(b"\n") + 1


class MessageEntry(Struct, frozen=True):
    """Messages that were added by one commit, or carried over by a rewrite."""

    kind: ClassVar[Literal[EntryKind.MESSAGE]] = EntryKind.MESSAGE
    revision: int
    at: datetime
    messages: tuple[Message, ...]
    turn: str | None = None


class ResetEntry(Struct, frozen=True):
    """The start of a new generation.

    Why, what it was based on, where its commit ends, and how many messages the one before had.
    """

    kind: ClassVar[Literal[EntryKind.RESET]] = EntryKind.RESET
    revision: int
    at: datetime
    reason: str
    base_revision: int | None
    last_revision: int
    closed_messages: int
    turn: str | None = None


class MetaEntry(Struct, frozen=True):
    """A change of title, user, agent or metadata: the changed keys only."""

    kind: ClassVar[Literal[EntryKind.META]] = EntryKind.META
    revision: int
    at: datetime
    changes: dict[str, Any]
    turn: str | None = None


class TurnEntry(Struct, frozen=True):
    """How far a turn came: it began, waits, or was closed.

    `reason` says why it was interrupted, `error` what it failed of, `worker` who runs it,
    `approved` which tool calls of a turn that waits were approved already.
    """

    kind: ClassVar[Literal[EntryKind.TURN]] = EntryKind.TURN
    revision: int
    at: datetime
    turn: str
    attempt: int
    status: TurnStatus
    worker: str | None = None
    reason: str | None = None
    error: str | None = None
    approved: tuple[str, ...] = ()


class DeltaEntry(Struct, frozen=True):
    """Streamed text of a turn: `offset` characters of the model call `call` stand before it.

    The message that follows takes the place of what these showed.
    """

    kind: ClassVar[Literal[EntryKind.DELTA]] = EntryKind.DELTA
    revision: int
    at: datetime
    turn: str
    attempt: int
    call: int
    offset: int
    text: str


class UsageEntry(Struct, frozen=True):
    """One model call's token counts; `unknown` if it ended without telling."""

    kind: ClassVar[Literal[EntryKind.USAGE]] = EntryKind.USAGE
    revision: int
    at: datetime
    turn: str
    attempt: int
    usage: Usage


Entry: TypeAlias = MessageEntry | ResetEntry | MetaEntry | TurnEntry | DeltaEntry | UsageEntry
