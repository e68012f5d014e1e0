"""praisonaiagents: `DefaultSessionStore`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from benchmarks.peers.durability import of_files
from benchmarks.peers.protocol import About, Said, Turn
from praisonaiagents.session.store import DefaultSessionStore

ABOUT = About(
    title="praisonaiagents DefaultSessionStore",
    distribution="praisonaiagents",
    importing="from praisonaiagents.session.store import DefaultSessionStore",
    how='`add_user_message` and `add_assistant_message`, with `retention="keep_all"`, since by '
    "default a history is compacted beyond 100 messages; `set_chat_history` to replace; installed "
    "without the dependencies that its store does not import",
    per_message=False,
)


class NotSaved(Exception):
    """The store answered that it did not save."""


class PraisonStore:
    """One store; a session is a file."""

    def __init__(self, folder: Path) -> None:
        self._store = DefaultSessionStore(session_dir=str(folder), retention="keep_all")

    async def add_turn(self, session: str, turn: Turn) -> None:
        """Add two messages, one after the other: there is no call for two."""
        _require(self._store.add_user_message(session, turn.user))
        _require(self._store.add_assistant_message(session, turn.assistant))

    async def fill(self, session: str, turns: Sequence[Turn]) -> None:
        """Set the history: the file is the same, however it came about."""
        await self.replace(session, turns)

    async def read_all(self, session: str) -> object:
        """Get the history."""
        return self._store.get_chat_history(session)

    async def read_last(self, session: str, count: int) -> object:
        """Get the end of the history."""
        return self._store.get_chat_history(session, max_messages=count)

    def said(self, found: object) -> list[Said]:
        """Return roles and contents."""
        messages = cast(list[dict[str, str]], found)
        return [Said(message["role"], message["content"]) for message in messages]

    async def replace(self, session: str, turns: Sequence[Turn]) -> None:
        """Set the history."""
        messages = [
            {"role": role, "content": text}
            for turn in turns
            for role, text in (("user", turn.user), ("assistant", turn.assistant))
        ]
        _require(self._store.set_chat_history(session, messages))

    async def newest(self, count: int) -> list[str]:
        """List the sessions."""
        return [found["session_id"] for found in self._store.list_sessions(limit=count)]

    def forget(self, session: str) -> None:
        """Each call reads the file anew."""

    async def durability(self) -> str:
        """Watch one turn."""
        return await of_files(self.add_turn("durability", Turn("question", "answer")))

    async def close(self) -> None:
        """Nothing is kept open."""


async def opened(folder: Path) -> PraisonStore:
    """Open the store."""
    return PraisonStore(folder)


def _require(saved: object) -> None:
    if not saved:
        raise NotSaved("the store answered that it did not save the message")
