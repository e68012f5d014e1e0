"""The asynchronous face as blocking calls, so that each test is written once."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from holdfast.store.async_store import AsyncSessionStore
from holdfast.store.sync_store import SessionStore

T = TypeVar("T")


class LoopThread:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="conformance-loop")
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and return what it returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        """Stop the loop and join its thread."""
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def blocking(store: AsyncSessionStore, loop: LoopThread) -> SessionStore:
    """Return `store` with the methods of a `SessionStore`."""
    return cast(SessionStore, _Blocking(store, loop))


class _Blocking:
    """Forwards every attribute; a coroutine method becomes one that waits for its result."""

    def __init__(self, store: AsyncSessionStore, loop: LoopThread) -> None:
        self._store = store
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._waiting(found) if inspect.iscoroutinefunction(found) else found

    def _waiting(self, method: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., T]:
        def call(*args: Any, **kwargs: Any) -> T:
            return self._loop.run(method(*args, **kwargs))

        return call
