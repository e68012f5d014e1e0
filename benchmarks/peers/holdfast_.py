"""Holdfast itself, through the same worker as the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from benchmarks.peers.durability import in_words
from benchmarks.peers.protocol import About, Said, Turn

import holdfast
from holdfast.store.sqlite.connections import Database

ABOUT = About(
    title="Holdfast",
    distribution="holdfast",
    importing="from holdfast import connect",
    how="`add_messages` with both messages; `set_chat_history` without a base to replace",
)


class HoldfastStore:
    """A `SessionStore` on one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._store = holdfast.connect(str(path))

    async def add_turn(self, session: str, turn: Turn) -> None:
        """Add both messages in one entry."""
        self._store.add_messages(session, _messages([turn]))

    async def fill(self, session: str, turns: Sequence[Turn]) -> None:
        """Add turn by turn, so that the entries are those of a conversation."""
        for turn in turns:
            await self.add_turn(session, turn)

    async def read_all(self, session: str) -> object:
        """Read the history for a provider."""
        return self._store.get_chat_history(session)

    async def read_last(self, session: str, count: int) -> object:
        """Read the end of the history for a provider."""
        return self._store.get_chat_history(session, count)

    def said(self, found: object) -> list[Said]:
        """Return roles and contents."""
        history = cast(holdfast.History, found)
        return [Said(message["role"], message["content"]) for message in history]

    async def replace(self, session: str, turns: Sequence[Turn]) -> None:
        """Begin a new generation."""
        self._store.set_chat_history(session, _messages(turns))

    async def newest(self, count: int) -> list[str]:
        """List a page of sessions."""
        return [info.id for info in self._store.list_sessions(count)]

    def forget(self, session: str) -> None:
        """Nothing is remembered."""

    async def durability(self) -> str:
        """Ask a connection that was opened as the writing one is."""
        connection = Database(self._path, "full", 5.0).writer()
        try:
            return in_words(
                *(
                    connection.execute(f"PRAGMA {name}").fetchone()[0]
                    for name in ("journal_mode", "synchronous")
                )
            )
        finally:
            connection.close()

    async def close(self) -> None:
        """Close the store."""
        self._store.close()


async def opened(folder: Path) -> HoldfastStore:
    """Open the store."""
    return HoldfastStore(folder / "holdfast.db")


def _messages(turns: Sequence[Turn]) -> list[dict[str, object]]:
    return [
        {"role": role, "content": text}
        for turn in turns
        for role, text in (("user", turn.user), ("assistant", turn.assistant))
    ]
