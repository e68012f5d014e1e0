"""Holdfast keeps the conversations of AI agents and chat bots.

import holdfast

store = holdfast.connect("chats.db")
store.add_user_message("user-42", "My name is Alice")
history = store.get_chat_history("user-42")

A name is imported when it is first asked for: a program pays for what it uses, when it uses it.
"""

from importlib import import_module

from holdfast._version import __version__

TYPE_CHECKING = False  # what type checkers take for true; typing itself is slow to import
if TYPE_CHECKING:
    from typing import Any

    from holdfast import agents as agents
    from holdfast import errors as errors
    from holdfast import integrations as integrations
    from holdfast import testing as testing
    from holdfast.agents.agent import Agent
    from holdfast.agents.managed import ManagedAgent, ManagedConfig
    from holdfast.agents.runner import Runner
    from holdfast.agents.settings import MemoryConfig
    from holdfast.model.commit import Commit, Deletion, Purge
    from holdfast.model.search import SearchHit
    from holdfast.model.session import Page, SessionInfo
    from holdfast.rules.history import History
    from holdfast.store.async_store import AsyncSessionStore
    from holdfast.store.async_turn import AsyncTurn
    from holdfast.store.connect import connect, connect_async, get_default_session_store
    from holdfast.store.sync_store import SessionStore
    from holdfast.store.sync_turn import Turn

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

_HOMES = {
    "Agent": "holdfast.agents",
    "AsyncSessionStore": "holdfast.store.async_store",
    "AsyncTurn": "holdfast.store.async_turn",
    "Commit": "holdfast.model.commit",
    "Deletion": "holdfast.model.commit",
    "History": "holdfast.rules.history",
    "ManagedAgent": "holdfast.agents",
    "ManagedConfig": "holdfast.agents",
    "MemoryConfig": "holdfast.agents",
    "Page": "holdfast.model.session",
    "Purge": "holdfast.model.commit",
    "Runner": "holdfast.agents",
    "SearchHit": "holdfast.model.search",
    "SessionInfo": "holdfast.model.session",
    "SessionStore": "holdfast.store.sync_store",
    "Turn": "holdfast.store.sync_turn",
    "connect": "holdfast.store.connect",
    "connect_async": "holdfast.store.connect",
    "get_default_session_store": "holdfast.store.connect",
}

_MODULES = {"agents", "errors", "integrations", "testing"}


def __getattr__(name: str) -> "Any":
    if name in _MODULES:
        return import_module(f"holdfast.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
