"""What a peer's module offers to the worker: one store behind a few calls, and facts about it.

This is read by every peer's own Python, so it imports nothing but the standard library. The calls
are coroutines, so that a peer which needs an event loop pays for it once and not for each call; a
synchronous peer simply never suspends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol


class Turn(NamedTuple):
    """A question and its answer: the two texts that are saved together."""

    user: str
    assistant: str


class Said(NamedTuple):
    """One message as it was read back: `user` or `assistant`, and the text."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class About:
    """What a reader of the figures has to know about a peer.

    `importing` is the statement that a program pays for when it starts. `per_message` says that
    adding writes what is new; `False` means that each change writes the whole history again.
    """

    title: str
    distribution: str
    importing: str
    how: str
    per_message: bool = True
    lacks: frozenset[str] = frozenset()


NEWEST, REPLACE = "newest", "replace"
"""What a peer may lack: a list of its newest sessions, a call that replaces a history."""


THREADS, TASKS = "threads", "tasks"
"""What a peer on PostgreSQL may lack: calls that threads make, or calls that tasks await."""


class Lacking(Exception):
    """This peer has no such call: the driver should not have asked."""


class Histories(Protocol):
    """What all peers can do with histories, wherever they keep them."""

    async def add_turn(self, session: str, turn: Turn) -> None:
        """Save a turn as the peer's documentation says; raise if it was not saved."""
        ...

    async def fill(self, session: str, turns: Sequence[Turn]) -> None:
        """Give an empty session a history, in whatever way is the quickest."""
        ...

    async def read_all(self, session: str) -> object:
        """Return the whole history in the peer's own types, the oldest message first."""
        ...

    def said(self, found: object) -> list[Said]:
        """Return what was read in plain words. This is not measured."""
        ...

    def forget(self, session: str) -> None:
        """Let go of what the process remembers of a session, as the end of a request does."""
        ...

    async def durability(self) -> str:
        """Return what a write waits for, read back from the store that is open."""
        ...

    async def close(self) -> None:
        """Close every file and connection."""
        ...


class Store(Histories, Protocol):
    """One peer's store, open in one folder."""

    async def read_last(self, session: str, count: int) -> object:
        """Return at least the last `count` messages in the peer's own types."""
        ...

    async def replace(self, session: str, turns: Sequence[Turn]) -> None:
        """Make this the session's whole history."""
        ...

    async def newest(self, count: int) -> list[str]:
        """Return the ids of the sessions that were changed last."""
        ...


class ServerStore(Histories, Protocol):
    """One peer's store on a PostgreSQL server: tasks use `add_turn`, threads its twin."""

    def add_turn_in_thread(self, session: str, turn: Turn) -> None:
        """Save a turn from one of several threads; raise if it was not saved."""
        ...


class Peer(Protocol):
    """What a peer's module exports."""

    ABOUT: About

    async def opened(self, folder: Path) -> Store:
        """Open the store in a folder, which may be empty."""
        ...


class ServerPeer(Protocol):
    """What the module of a peer on PostgreSQL exports."""

    ABOUT: About

    async def connected(self, url: str) -> ServerStore:
        """Open the store in a database, which may be empty."""
        ...
