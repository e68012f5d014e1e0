"""Holdfast on PostgreSQL, through the same worker as the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import psycopg
from benchmarks.peers.durability import SETTINGS, of_a_server
from benchmarks.peers.protocol import About, Said, Turn

import holdfast

ABOUT = About(
    title="Holdfast on PostgreSQL",
    distribution="holdfast",
    importing="from holdfast import connect",
    how="`add_messages` with both messages; threads use a `SessionStore`, tasks an "
    "`AsyncSessionStore`; each of them has up to 4 connections",
)


class HoldfastStore:
    """Both faces on one schema."""

    def __init__(
        self, url: str, store: holdfast.SessionStore, async_store: holdfast.AsyncSessionStore
    ) -> None:
        self._url = url
        self._store = store
        self._async_store = async_store

    async def add_turn(self, session: str, turn: Turn) -> None:
        """Add both messages in one entry."""
        await self._async_store.add_messages(session, _messages(turn))

    def add_turn_in_thread(self, session: str, turn: Turn) -> None:
        """Add both messages in one entry."""
        self._store.add_messages(session, _messages(turn))

    async def fill(self, session: str, turns: Sequence[Turn]) -> None:
        """Add turn by turn, so that the entries are those of a conversation."""
        for turn in turns:
            await self.add_turn(session, turn)

    async def read_all(self, session: str) -> object:
        """Read the history for a provider."""
        return self._store.get_chat_history(session)

    def said(self, found: object) -> list[Said]:
        """Return roles and contents."""
        history = cast(holdfast.History, found)
        return [Said(message["role"], message["content"]) for message in history]

    def forget(self, session: str) -> None:
        """Nothing is remembered."""

    async def durability(self) -> str:
        """Ask a connection to the same address: the store changes no setting on its own."""
        with psycopg.connect(self._url) as connection:
            rows = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in SETTINGS]
        return of_a_server(*(row[0] for row in rows if row is not None))

    async def close(self) -> None:
        """Close both."""
        self._store.close()
        await self._async_store.close()


async def connected(url: str) -> HoldfastStore:
    """Open the store, and make its schema if need be."""
    return HoldfastStore(url, holdfast.connect(url), await holdfast.connect_async(url))


def _messages(turn: Turn) -> list[dict[str, object]]:
    return [
        {"role": "user", "content": turn.user},
        {"role": "assistant", "content": turn.assistant},
    ]
