"""The steps that the table of cases is made of: values, which `playing` carries out.

A text is a user's message with that content; several stand in one string, separated by spaces.
A name refers to what an earlier `Read` or `Mark` recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from holdfast.errors import Conflict, HoldfastError, SessionNotFound


@dataclass(frozen=True, slots=True)
class Refused:
    """The step raises this and writes nothing."""

    error: type[HoldfastError]
    code: str


CONFLICT: Final = Refused(Conflict, "conflict")
KEY_REUSED: Final = Refused(Conflict, "key_reused")
GONE: Final = Refused(SessionNotFound, "session_not_found")


@dataclass(frozen=True, slots=True)
class Read:
    """Read the history and record it, with its revision, under a name."""

    name: str


@dataclass(frozen=True, slots=True)
class ReadAt:
    """Read the history as it was at a recorded revision; record it under a name."""

    name: str
    mark: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Record the session's last revision under a name."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Add:
    """`add_messages`; `expected` is a name or a number."""

    texts: str
    expected: str | int | None = None
    key: str | None = None
    replayed: bool = False
    refused: Refused | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """`set_chat_history` with these texts.

    With `on` the list is the `History` of that name with its items changed to these texts: dicts
    that it has are used as they are. Otherwise it is a plain list, with `base` if there is one.
    """

    texts: str
    on: str | None = None
    base: str | int | None = None
    key: str | None = None
    kept: int = 0
    replayed: bool = False
    refused: Refused | None = None


@dataclass(frozen=True, slots=True)
class Clear:
    """`clear_session`."""


@dataclass(frozen=True, slots=True)
class Delete:
    """`delete_session`."""


@dataclass(frozen=True, slots=True)
class Create:
    """`create_session`."""


@dataclass(frozen=True, slots=True)
class Rename:
    """`rename_session`: an entry that is not part of the history."""


Step: TypeAlias = Read | ReadAt | Mark | Add | Save | Clear | Delete | Create | Rename


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What becomes of a session; `leaves` is its history at the end, `None` if there is none."""

    id: str
    promise: str
    steps: tuple[Step, ...]
    leaves: str | None
