"""google-adk: `SqliteSessionService`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from benchmarks.peers.durability import in_words
from benchmarks.peers.protocol import REPLACE, About, Lacking, Said, Turn
from google.adk.events.event import Event
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

ABOUT = About(
    title="google-adk SqliteSessionService",
    distribution="google-adk",
    importing="from google.adk.sessions.sqlite_session_service import SqliteSessionService",
    how="`get_session` once a request, then `append_event` for each message: there is no call "
    "for two; an event for a session that another process changed is refused",
    lacks=frozenset({REPLACE}),
)
WHOSE = {"app_name": "app", "user_id": "user"}
AUTHORS = {"user": "user", "model": "assistant"}


class AdkStore:
    """One service, and the session objects that requests have loaded."""

    def __init__(self, path: Path) -> None:
        self._service = SqliteSessionService(str(path))
        self._loaded: dict[str, Any] = {}

    async def add_turn(self, session: str, turn: Turn) -> None:
        """Append two events, one after the other."""
        loaded = await self._load(session)
        await self._service.append_event(loaded, _event("user", turn.user))
        await self._service.append_event(loaded, _event("model", turn.assistant))

    async def fill(self, session: str, turns: Sequence[Turn]) -> None:
        """Append event by event, since there is no other way."""
        for turn in turns:
            await self.add_turn(session, turn)

    async def read_all(self, session: str) -> object:
        """Get the session with all its events."""
        return await self._service.get_session(**WHOSE, session_id=session)

    async def read_last(self, session: str, count: int) -> object:
        """Get the session with its last events."""
        config = GetSessionConfig(num_recent_events=count)
        return await self._service.get_session(**WHOSE, session_id=session, config=config)

    def said(self, found: object) -> list[Said]:
        """Return roles and texts."""
        return [
            Said(AUTHORS[event.content.role], event.content.parts[0].text)
            for event in cast(Any, found).events
        ]

    async def replace(self, session: str, turns: Sequence[Turn]) -> None:
        """There is no call for it: events are only ever appended."""
        raise Lacking(REPLACE)

    async def newest(self, count: int) -> list[str]:
        """List all sessions, oldest first, since there is no limit to ask for."""
        found = await self._service.list_sessions(**WHOSE)
        return [session.id for session in found.sessions[: -count - 1 : -1]]

    def forget(self, session: str) -> None:
        """Let go of the session object, as a runner does after a request."""
        self._loaded.pop(session, None)

    async def durability(self) -> str:
        """Ask a connection that was opened as each call opens one."""
        answers: list[object] = []
        async with self._service._get_db_connection() as connection:
            for name in ("journal_mode", "synchronous"):
                async with connection.execute(f"PRAGMA {name}") as cursor:
                    answers.append((await cursor.fetchone())[0])
        return in_words(*answers)

    async def close(self) -> None:
        """Close the service."""
        await self._service.close()

    async def _load(self, session: str) -> Any:
        if session not in self._loaded:
            found = await self._service.get_session(**WHOSE, session_id=session)
            if found is None:
                found = await self._service.create_session(**WHOSE, session_id=session)
            self._loaded[session] = found
        return self._loaded[session]


async def opened(folder: Path) -> AdkStore:
    """Open the store."""
    return AdkStore(folder / "conversations.db")


def _event(role: str, text: str) -> Any:
    content = types.Content(role=role, parts=[types.Part(text=text)])
    return Event(author=role if role == "user" else "agent", content=content, invocation_id="run")
