"""strands-agents: `FileSessionManager`, called as an agent's hooks call it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any, cast

from benchmarks.peers.durability import of_files
from benchmarks.peers.protocol import NEWEST, REPLACE, About, Lacking, Said, Turn
from strands import Agent
from strands.models import Model
from strands.session.file_session_manager import FileSessionManager

ABOUT = About(
    title="strands FileSessionManager",
    distribution="strands-agents",
    importing="from strands.session.file_session_manager import FileSessionManager",
    how="`append_message` and `sync_agent` for each message, as the hooks of an agent with the "
    "default window do; in four processes each request makes its agent anew",
    lacks=frozenset({NEWEST, REPLACE}),
)
AGENT = "agent"


class NoModel(Model):  # type: ignore[misc] # its class is not there when this is checked
    """An agent must have a model; this one is never asked."""

    def update_config(self, **_: Any) -> None:
        """Nothing can be set."""

    def get_config(self) -> dict[str, Any]:
        """Nothing is set."""
        return {}

    async def structured_output(self, *_: Any, **__: Any) -> AsyncGenerator[dict[str, Any], None]:
        """Say nothing."""
        yield {}

    async def stream(self, *_: Any, **__: Any) -> AsyncGenerator[dict[str, Any], None]:
        """Say nothing."""
        yield {}


class StrandsStore:
    """A manager and its agent for each session that is in use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, tuple[Any, Any]] = {}

    async def add_turn(self, session: str, turn: Turn) -> None:
        """Append both messages, each a file, and sync the agent as after a request."""
        manager, agent = self._manager(session)
        for role, text in (("user", turn.user), ("assistant", turn.assistant)):
            message = {"role": role, "content": [{"text": text}]}
            agent.messages.append(message)
            manager.append_message(message, agent)
            manager.sync_agent(agent)
        agent.conversation_manager.apply_management(agent)
        manager.sync_agent(agent)

    async def fill(self, session: str, turns: Sequence[Turn]) -> None:
        """Append message by message, since there is no other way."""
        for turn in turns:
            await self.add_turn(session, turn)

    async def read_all(self, session: str) -> object:
        """List the session's messages."""
        manager, _ = self._manager(session)
        return manager.list_messages(session, AGENT)

    async def read_last(self, session: str, count: int) -> object:
        """List from an offset: it counts from the start, and the agent knows how many there are."""
        manager, agent = self._manager(session)
        total = agent.conversation_manager.removed_message_count + len(agent.messages)
        return manager.list_messages(session, AGENT, limit=count, offset=total - count)

    def said(self, found: object) -> list[Said]:
        """Return roles and texts."""
        messages = (stored.to_message() for stored in cast(list[Any], found))
        return [Said(message["role"], message["content"][0]["text"]) for message in messages]

    async def replace(self, session: str, turns: Sequence[Turn]) -> None:
        """There is no call for it: a message can be redacted, one at a time."""
        raise Lacking(REPLACE)

    async def newest(self, count: int) -> list[str]:
        """There is no list of sessions."""
        raise Lacking(NEWEST)

    def forget(self, session: str) -> None:
        """Let go of the manager and the agent, as the end of a request does."""
        self._open.pop(session, None)

    async def durability(self) -> str:
        """Watch one turn."""
        return await of_files(self.add_turn("durability", Turn("question", "answer")))

    async def close(self) -> None:
        """Nothing is kept open."""

    def _manager(self, session: str) -> tuple[Any, Any]:
        if session not in self._open:
            manager = FileSessionManager(session, storage_dir=str(self._folder))
            agent = Agent(
                model=NoModel(), agent_id=AGENT, session_manager=manager, callback_handler=None
            )
            self._open[session] = manager, agent
        return self._open[session]


async def opened(folder: Path) -> StrandsStore:
    """Open the store."""
    return StrandsStore(folder)
