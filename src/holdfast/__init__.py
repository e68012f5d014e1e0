"""Holdfast keeps the conversations of AI agents and chat bots.

import holdfast

store = holdfast.connect("chats.db")
store.add_user_message("user-42", "My name is Alice")
history = store.get_chat_history("user-42")
"""

from typing import TYPE_CHECKING, Any

from holdfast._version import __version__
from holdfast.model.commit import Commit, Deletion, Purge
from holdfast.model.search import SearchHit
from holdfast.model.session import Page, SessionInfo
from holdfast.rules.history import History
from holdfast.store.connect import connect, connect_async, get_default_session_store
from holdfast.store.sync_store import SessionStore
from holdfast.store.sync_turn import Turn

if TYPE_CHECKING:
    from holdfast.agents.agent import Agent
    from holdfast.agents.managed import ManagedAgent, ManagedConfig
    from holdfast.agents.runner import Runner
    from holdfast.agents.settings import MemoryConfig
    from holdfast.store.async_store import AsyncSessionStore
    from holdfast.store.async_turn import AsyncTurn

__all__ = [
    "Agent",
    "AsyncSessionStore",
    "AsyncTurn",
    "Commit",
    "Deletion",
    "History",
    "ManagedAgent",
    "ManagedConfig",
    "MemoryConfig",
    "Page",
    "Purge",
    "Runner",
    "SearchHit",
    "SessionInfo",
    "SessionStore",
    "Turn",
    "__version__",
    "connect",
    "connect_async",
    "get_default_session_store",
]


_OF_AGENTS = {"Agent", "ManagedAgent", "ManagedConfig", "MemoryConfig", "Runner"}


def __getattr__(name: str) -> Any:
    # asyncio takes longer to import than all the rest, and many programs do without.
    if name in _OF_AGENTS:
        import holdfast.agents

        return getattr(holdfast.agents, name)
    if name == "AsyncSessionStore":
        from holdfast.store.async_store import AsyncSessionStore

        return AsyncSessionStore
    if name == "AsyncTurn":
        from holdfast.store.async_turn import AsyncTurn

        return AsyncTurn
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
