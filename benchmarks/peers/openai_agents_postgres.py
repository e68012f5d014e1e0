"""openai-agents: `SQLAlchemySession` on asyncpg."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from agents.extensions.memory import SQLAlchemySession
from benchmarks.peers.durability import SETTINGS, of_a_server
from benchmarks.peers.protocol import THREADS, About, Lacking, Said, Turn
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

ABOUT = About(
    title="openai-agents SQLAlchemySession",
    distribution="openai-agents",
    importing="from agents.extensions.memory import SQLAlchemySession",
    how="`add_items` with both messages, on asyncpg and one engine for all sessions",
    lacks=frozenset({THREADS}),
)


class AgentsStore:
    """A `SQLAlchemySession` object for each session, all on one engine."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._sessions: dict[str, Any] = {}

    async def make_tables(self) -> None:
        """Make the tables, so that no session of many has to look for them."""
        await SQLAlchemySession("tables", engine=self._engine, create_tables=True).get_items()

    async def add_turn(self, session: str, turn: Turn) -> None:
        """Add both items in one call."""
        await self._session(session).add_items(_items([turn]))

    def add_turn_in_thread(self, session: str, turn: Turn) -> None:
        """There are coroutines only."""
        raise Lacking(THREADS)

    async def fill(self, session: str, turns: Sequence[Turn]) -> None:
        """Add all items in one call: an item is a row, however it came."""
        await self._session(session).add_items(_items(turns))

    async def read_all(self, session: str) -> object:
        """Get all items."""
        return await self._session(session).get_items()

    def said(self, found: object) -> list[Said]:
        """Return roles and contents."""
        items = cast(list[dict[str, str]], found)
        return [Said(item["role"], item["content"]) for item in items]

    def forget(self, session: str) -> None:
        """A session object remembers no items."""

    async def durability(self) -> str:
        """Ask a connection of the engine."""
        async with self._engine.connect() as connection:
            return of_a_server(
                *[(await connection.execute(text(f"SHOW {name}"))).scalar() for name in SETTINGS]
            )

    async def close(self) -> None:
        """Close the engine's connections."""
        await self._engine.dispose()

    def _session(self, session: str) -> Any:
        if session not in self._sessions:
            self._sessions[session] = SQLAlchemySession(session, engine=self._engine)
        return self._sessions[session]


async def connected(url: str) -> AgentsStore:
    """Open the store, and make its tables if need be."""
    driver = url.replace("postgresql://", "postgresql+asyncpg://")
    store = AgentsStore(create_async_engine(driver))
    await store.make_tables()
    return store


def _items(turns: Sequence[Turn]) -> list[dict[str, str]]:
    return [
        {"role": role, "content": content}
        for turn in turns
        for role, content in (("user", turn.user), ("assistant", turn.assistant))
    ]
