"""What copying the sessions of one store into another came to."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class TroubleKind(StrEnum):
    """Why a session of the source is not, or not as it is there, in the target."""

    CONFLICT = "conflict"
    CORRUPT = "corrupt"
    BEHIND = "behind"
    DELETED = "deleted"
    DIFFERENT = "different"


class Trouble(Struct, frozen=True):
    """One session that was not copied, or whose copy is not what it should be, and why.

    Without a session's id it is the target itself that is damaged.
    """

    kind: TroubleKind
    tenant: str
    session_id: str
    what: str


class Phase(StrEnum):
    """What is being done to sessions."""

    COPYING = "copying"
    CHECKING = "checking"


class Progress(Struct, frozen=True):
    """How far copying or checking has got: sessions done, and entries, which say how much is left.

    Entries that come while it goes on are not counted among `of_entries`.
    """

    phase: Phase
    sessions: int
    of_sessions: int
    entries: int
    of_entries: int


class Moved(Struct, frozen=True):
    """How many sessions were copied, brought up to date, or were there already; what was written.

    `messages` are those of all generations, `size_bytes` the entries' payloads. `checked` sessions
    were compared with the source, entry by entry. True if nothing of the source is missing.
    """

    copied: int = 0
    updated: int = 0
    unchanged: int = 0
    checked: int = 0
    messages: int = 0
    entries: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    troubles: tuple[Trouble, ...] = ()

    def __bool__(self) -> bool:
        return not self.troubles
