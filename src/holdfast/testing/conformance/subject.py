"""The backend under test: stores on its data, with scripted time and ids."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any, Literal, Self, TypeAlias

import pytest

from holdfast.rules.history import History
from holdfast.store.async_store import AsyncSessionStore
from holdfast.store.backend import Backend, Capabilities
from holdfast.store.engine import Engine
from holdfast.store.sources import Sources
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.blocking import LoopThread, blocking

Face: TypeAlias = Literal["sync", "async"]
FACES: tuple[Face, ...] = ("sync", "async")

OpenBackend: TypeAlias = Callable[[Sources], Backend]
"""Gives a backend object on the test's data: the same data each time it is called."""

Edit: TypeAlias = Callable[[History], Any]

TIMEOUT_S = 30.0


DECLARED = "the backend declares that it lacks: "
"""How the reason of a skip begins that the backend's capabilities account for."""


class Script:
    """Time that stands still until it is moved, and ids that count."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms
        self._ids = itertools.count(1)

    def advance(self, milliseconds: int = 1) -> None:
        """Move the clock; backwards too."""
        self.now_ms += milliseconds

    def new_id(self) -> str:
        """Return the next id."""
        return f"{next(self._ids):016x}"

    def sources(self) -> Sources:
        """Return what a store takes."""
        return Sources(now_ms=lambda: self.now_ms, new_id=self.new_id)


class Subject:
    """Opens stores of one face on one backend's data, and closes them.

    `open_backend` is called once for each engine if the backend declares `cross_process`, else
    once: then all stores share the engine.
    """

    def __init__(self, open_backend: OpenBackend, face: Face) -> None:
        self.face = face
        self.script = Script()
        self._open_backend = open_backend
        self._sources = self.script.sources()
        self._closing = ExitStack()
        self._loop = LoopThread() if face == "async" else None
        if self._loop is not None:
            self._closing.callback(self._loop.close)
        self.engine = self._new_engine()
        self.capabilities: Capabilities = self.engine.backend.capabilities

    def open(self, tenant: str = "default") -> SessionStore:
        """Return a store of the face under test."""
        if self._loop is None:
            return SessionStore(self.engine, tenant, self._sources, TIMEOUT_S)
        store = AsyncSessionStore(self.engine, tenant, self._sources, TIMEOUT_S)
        return blocking(store, self._loop)

    def open_elsewhere(self, tenant: str = "default") -> SessionStore:
        """Return a synchronous store on the same data, with an engine of its own if there can be.

        It works inside a function that the face under test calls, on whichever thread.
        """
        engine = self._new_engine() if self.capabilities.cross_process else self.engine
        return SessionStore(engine, tenant, self._sources, TIMEOUT_S)

    def reopen(self) -> None:
        """Close the engine and open the data anew, as the next process would."""
        self.engine.close()
        self.engine = self._new_engine()

    def need(self, capability: Literal["durable", "cross_process"]) -> None:
        """Skip the test if the backend declares that it lacks this."""
        if not getattr(self.capabilities, capability):
            pytest.skip(DECLARED + capability)

    def waiting(self, session_id: str, tenant: str = "default") -> int:
        """Return how many stand in line for a session's turn."""
        return self.engine.backend.waiting(tenant, session_id)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something has come true; a test that never sees it fails."""
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, "it did not come true"
            time.sleep(0.005)

    def edits(self, edit: Edit) -> list[Edit]:
        """Return `edit` in each form that this face's `edit_history` takes."""

        async def edit_async(history: History) -> Any:
            await asyncio.sleep(0)
            return edit(history)

        forms: list[Callable[[History], Any | Awaitable[Any]]] = [edit]
        return forms if self.face == "sync" else [*forms, edit_async]

    def close(self) -> None:
        """Close every engine and the loop."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _new_engine(self) -> Engine:
        backend = self._open_backend(self._sources)
        backend.open()
        engine = Engine(backend, self._sources)
        self._closing.callback(engine.close)
        return engine
