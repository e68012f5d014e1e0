"""One operation as its client saw it: what was asked, when, and what was answered.

An operation is two records: what was invoked, written before the call, and what was answered,
written after it. A client that is killed in between leaves the first without the second, and its
outcome is unknown. Times are nanoseconds of the system's monotonic clock, which all processes of a
machine share. A message is one line of text, made by `text_of`: equal text, equal message.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

NEVER = 2**63 - 1
"""The time of an answer that never came."""

FINAL = "final"
"""The client that reads everything once all others are gone."""

now = time.monotonic_ns

Texts: TypeAlias = tuple[str, ...]


class Add(Struct, frozen=True, tag="add", omit_defaults=True):
    """`add_messages`."""

    messages: Texts
    expected: int | None = None
    key: str | None = None


class Save(Struct, frozen=True, tag="save", omit_defaults=True):
    """`set_chat_history`, with the base that the list brought along or the caller named."""

    given: Texts
    base: int | None = None
    key: str | None = None


class Clear(Struct, frozen=True, tag="clear"):
    """`clear_session`."""


class Delete(Struct, frozen=True, tag="delete"):
    """`delete_session`."""


class Read(Struct, frozen=True, tag="read", omit_defaults=True):
    """`get_chat_history`."""

    limit: int | None = None
    at: int | None = None


class ReadLog(Struct, frozen=True, tag="log"):
    """`read_entries`, from the beginning."""


class Rename(Struct, frozen=True, tag="rename"):
    """`rename_session`: an entry that is no part of the history, so revisions run ahead of it."""


Call: TypeAlias = Add | Save | Clear | Delete | Read | ReadLog | Rename


class LogEntry(Struct, frozen=True, array_like=True):
    """An entry as `read_entries` shows it; `reset` entries have the last four fields."""

    revision: int
    kind: str
    messages: Texts = ()
    reason: str = ""
    base: int | None = None
    last: int = 0
    closed: int = 0


class Seen(Struct, frozen=True, tag="seen"):
    """A history that was read, and the revision that it carried."""

    revision: int
    messages: Texts


class Committed(Struct, frozen=True, tag="committed", omit_defaults=True):
    """A write that was acknowledged.

    `settled` is the `History` that was handed in, as it was after the save.
    """

    revision: int
    history_revision: int
    replayed: bool = False
    kept: int = 0
    removed: int = 0
    settled: Seen | None = None


class LogSeen(Struct, frozen=True, tag="entries"):
    """A log that was read."""

    entries: tuple[LogEntry, ...]


class Existed(Struct, frozen=True, tag="existed"):
    """Whether there was something to clear or to delete."""

    existed: bool


THERE = Existed(existed=True)
NOT_THERE = Existed(existed=False)


class Refused(Struct, frozen=True, tag="refused", omit_defaults=True):
    """A certain failure: nothing was written."""

    code: str
    expected: int | None = None
    actual: int | None = None


class Unknown(Struct, frozen=True, tag="unknown"):
    """Nobody knows whether it happened."""


Outcome: TypeAlias = Committed | Seen | LogSeen | Existed | Refused | Unknown


class Place(Struct, frozen=True, array_like=True):
    """Whose session it is."""

    tenant: str
    session: str

    def __str__(self) -> str:
        return f"{self.tenant}/{self.session}"


class Invoked(Struct, frozen=True, tag="invoked"):
    """What a client is about to ask; `number` counts the client's operations."""

    number: int
    at: int
    place: Place
    call: Call


class Answered(Struct, frozen=True, tag="answered"):
    """What a client was told."""

    number: int
    at: int
    outcome: Outcome


class Operation(Struct, frozen=True):
    """An operation with its outcome, for whoever judges it."""

    client: str
    number: int
    place: Place
    call: Call
    invoked: int
    answered: int
    outcome: Outcome

    @property
    def name(self) -> str:
        """Return what people find it by in the recording."""
        return f"{self.client}#{self.number}"


def text_of(message: Mapping[str, Any]) -> str:
    """Return a message as one line: its provider-ready form, which every read shows."""
    if message.keys() == {"role", "content"} and isinstance(message["content"], str):
        return f"{message['role']}:{message['content']}"
    ours = ("id", "created_at", "metadata")
    plain = {name: value for name, value in message.items() if name not in ours}
    if plain.keys() == {"role", "content"} and isinstance(plain["content"], str):
        return text_of(plain)
    return msgspec.json.encode(plain, order="deterministic").decode()
