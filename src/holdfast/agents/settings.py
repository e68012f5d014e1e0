"""Settings as values, whose unknown keys are refused: one that does nothing would mislead."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from holdfast.errors import ConfigError, InvalidArgument
from holdfast.store.async_store import AsyncSessionStore
from holdfast.store.connect import connect, get_default_session_store
from holdfast.store.faces import sync_face
from holdfast.store.sync_store import SessionStore

AnyStore: TypeAlias = "SessionStore | AsyncSessionStore | str | os.PathLike[str]"
"""A store, or where it is."""

_REASONS = {
    "backend": "the store is chosen by its address: use db=",
    "learn": "Holdfast keeps what was said, and learns nothing from it",
    "auto_memory": "Holdfast keeps what was said, and extracts nothing from it",
    "history": "the history is always what the model answers",
    "config": "the store is chosen by its address: use db=",
}


class MemoryConfig:
    """Where an agent keeps its conversation: a session's id, a store or its address, and a user.

    Without a `session_id` one is made up. Raises `ConfigError` for a key that is not known.
    """

    __slots__ = ("db", "session_id", "user_id")

    def __init__(
        self,
        session_id: str | None = None,
        db: AnyStore | None = None,
        user_id: str | None = None,
        **unknown: Any,
    ) -> None:
        refuse_unknown("MemoryConfig", unknown, self.__slots__, _REASONS)
        self.session_id = session_id
        self.db = db
        self.user_id = user_id


Memory: TypeAlias = MemoryConfig | Mapping[str, Any] | bool | None
"""Settings of a memory, as they are given."""


def memory_config(memory: Memory) -> MemoryConfig:
    """Return the settings that were given as a mapping, or as no more than `True`."""
    if isinstance(memory, MemoryConfig):
        return memory
    if isinstance(memory, Mapping):
        refuse_unknown("MemoryConfig", memory, MemoryConfig.__slots__, _REASONS)
        return MemoryConfig(**memory)
    if memory is None or memory is True:
        return MemoryConfig()
    raise ConfigError(
        f"memory={memory!r} says nothing",
        hint='pass {"session_id": "...", "db": "chats.db"}, or a MemoryConfig; '
        "an agent always keeps its conversation",
    )


def refuse_unknown(
    what: str, given: Iterable[str], known: Iterable[str], reasons: Mapping[str, str]
) -> None:
    """Raise `ConfigError` if a key was given that does nothing, with the reason if there is one."""
    for key in given:
        if key in known:
            continue
        reason = reasons.get(key)
        raise ConfigError(
            f"{what} has no {key!r}" + (f": {reason}" if reason else ""),
            hint=f"it knows {', '.join(sorted(known))}",
        )


def check_above_0(name: str, value: object) -> None:
    """Raise `ConfigError` if a limit was given that is none."""
    if value is not None and (type(value) is not int or value < 1):
        raise ConfigError(f"{name}={value!r} must be a whole number above 0")


def check_texts(**given: object) -> None:
    """Raise `ConfigError` if something that has to be text was given as something else."""
    for name, value in given.items():
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{name}={value!r} must be text")


def check_prompt(prompt: object) -> None:
    """Raise `InvalidArgument` if nothing is asked."""
    if prompt is None or prompt == []:
        raise InvalidArgument(
            f"prompt={prompt!r} asks nothing", hint="pass text, a message, or a list of messages"
        )


def opened(store: AnyStore | None) -> SessionStore:
    """Return the store that was given, or opened from its address; without one, the default."""
    if store is None:
        return get_default_session_store()
    if isinstance(store, SessionStore | AsyncSessionStore):
        return sync_face(store)
    return connect(store)
