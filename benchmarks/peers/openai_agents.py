"""openai-agents: `SQLiteSession` on a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from agents import SQLiteSession
from benchmarks.peers.durability import in_words
from benchmarks.peers.protocol import NEWEST, About, Lacking, Said, Turn

ABOUT = About(
    title="openai-agents SQLiteSession",
    distribution="openai-agents",
    importing="from agents import SQLiteSession",
    how="`add_items` with both messages; `clear_session` and `add_items` to replace",
    lacks=frozenset({NEWEST}),
)


class AgentsStore:
    """A `SQLiteSession` object for each session, all on one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sessions: dict[str, Any] = {}

    async def add_turn(self, session: str, turn: Turn) -> None:
        """Add both items in one call."""
        await self._session(session).add_items(_items([turn]))

    async def fill(self, session: str, turns: Sequence[Turn]) -> None:
        """Add all items in one call: an item is a row, however it came."""
        await self._session(session).add_items(_items(turns))

    async def read_all(self, session: str) -> object:
        """Get all items."""
        return await self._session(session).get_items()

    async def read_last(self, session: str, count: int) -> object:
        """Get the last items."""
        return await self._session(session).get_items(limit=count)

    def said(self, found: object) -> list[Said]:
        """Return roles and contents."""
        items = cast(list[dict[str, str]], found)
        return [Said(item["role"], item["content"]) for item in items]

    async def replace(self, session: str, turns: Sequence[Turn]) -> None:
        """Clear, then add: there is no one call for it."""
        await self._session(session).clear_session()
        await self._session(session).add_items(_items(turns))

    async def newest(self, count: int) -> list[str]:
        """There is no list of sessions."""
        raise Lacking(NEWEST)

    def forget(self, session: str) -> None:
        """A session object remembers no items."""

    async def durability(self) -> str:
        """Ask a session's own connection."""
        connection = self._session("durability")._get_connection()
        return in_words(
            *(
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous")
            )
        )

    async def close(self) -> None:
        """Close every session."""
        for session in self._sessions.values():
            session.close()

    def _session(self, session: str) -> Any:
        if session not in self._sessions:
            self._sessions[session] = SQLiteSession(session, self._path)
        return self._sessions[session]


async def opened(folder: Path) -> AgentsStore:
    """Open the store."""
    return AgentsStore(folder / "conversations.db")


def _items(turns: Sequence[Turn]) -> list[dict[str, str]]:
    return [
        {"role": role, "content": text}
        for turn in turns
        for role, text in (("user", turn.user), ("assistant", turn.assistant))
    ]
