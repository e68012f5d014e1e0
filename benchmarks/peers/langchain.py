"""langchain-community: `SQLChatMessageHistory` on a SQLite file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from benchmarks.peers.durability import in_words
from benchmarks.peers.protocol import NEWEST, About, Lacking, Said, Turn
from langchain_community.chat_message_histories import SQLChatMessageHistory
from langchain_core.messages import AIMessage, HumanMessage
from sqlalchemy import create_engine

ABOUT = About(
    title="langchain SQLChatMessageHistory",
    distribution="langchain-community",
    importing="from langchain_community.chat_message_histories import SQLChatMessageHistory",
    how="`add_messages` with both messages; `clear` and `add_messages` to replace; the last 50 "
    "are read by reading all",
    lacks=frozenset({NEWEST}),
)
ROLES = {"human": "user", "ai": "assistant"}


class LangchainStore:
    """A history object for each session, all on one engine."""

    def __init__(self, path: Path) -> None:
        self._engine = create_engine(f"sqlite:///{path}")
        self._histories: dict[str, Any] = {}

    async def add_turn(self, session: str, turn: Turn) -> None:
        """Add both messages in one transaction."""
        self._history(session).add_messages(_messages([turn]))

    async def fill(self, session: str, turns: Sequence[Turn]) -> None:
        """Add all messages in one transaction: a message is a row, however it came."""
        self._history(session).add_messages(_messages(turns))

    async def read_all(self, session: str) -> object:
        """Get all messages."""
        return self._history(session).messages

    async def read_last(self, session: str, count: int) -> object:
        """Get all messages, since there is no way to ask for fewer."""
        return self._history(session).messages[-count:]

    def said(self, found: object) -> list[Said]:
        """Return roles and contents."""
        messages = cast(list[Any], found)
        return [Said(ROLES[message.type], message.content) for message in messages]

    async def replace(self, session: str, turns: Sequence[Turn]) -> None:
        """Clear, then add: there is no one call for it."""
        self._history(session).clear()
        self._history(session).add_messages(_messages(turns))

    async def newest(self, count: int) -> list[str]:
        """There is no list of sessions."""
        raise Lacking(NEWEST)

    def forget(self, session: str) -> None:
        """A history object remembers no messages."""

    async def durability(self) -> str:
        """Ask a connection of the engine."""
        with self._engine.connect() as connection:
            return in_words(
                *(
                    connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                    for name in ("journal_mode", "synchronous")
                )
            )

    async def close(self) -> None:
        """Close the engine's connections."""
        self._engine.dispose()

    def _history(self, session: str) -> Any:
        if session not in self._histories:
            self._histories[session] = SQLChatMessageHistory(session, connection=self._engine)
        return self._histories[session]


async def opened(folder: Path) -> LangchainStore:
    """Open the store."""
    return LangchainStore(folder / "conversations.db")


def _messages(turns: Sequence[Turn]) -> list[Any]:
    return [
        message
        for turn in turns
        for message in (HumanMessage(turn.user), AIMessage(turn.assistant))
    ]
