"""The asynchronous face as blocking calls, so that each test is written once."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, TypeVar, cast

from holdfast.store.async_store import AsyncSessionStore
from holdfast.store.async_turn import AsyncTurn
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
    """Forwards every attribute; what has to be awaited becomes what waits for its result."""

    def __init__(self, store: AsyncSessionStore | AsyncTurn, loop: LoopThread) -> None:
        self._store = store
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if inspect.iscoroutinefunction(found):
            return self._waiting(found)
        if inspect.isasyncgenfunction(found):
            return self._iterating(found)
        return self._turning(found) if name == "turn" else found

    def __enter__(self) -> Any:
        self._loop.run(_entered(self._store))
        return self

    def __exit__(self, *raised: Any) -> None:
        self._loop.run(self._store.__aexit__(*raised))

    def _waiting(self, method: Callable[..., Coroutine[Any, Any, T]]) -> Callable[..., T]:
        def call(*args: Any, **kwargs: Any) -> T:
            return self._loop.run(method(*args, **kwargs))

        return call

    def _iterating(self, method: Callable[..., AsyncGenerator[T, None]]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Iterator[T]:
            source = method(*args, **kwargs)
            try:
                while True:
                    try:
                        yield self._loop.run(_next(source))
                    except StopAsyncIteration:
                        return
            finally:
                self._loop.run(source.aclose())

        return call

    def _turning(self, method: Callable[..., AsyncTurn]) -> Callable[..., _Blocking]:
        def call(*args: Any, **kwargs: Any) -> _Blocking:
            return _Blocking(method(*args, **kwargs), self._loop)

        return call


async def _entered(store: AsyncSessionStore | AsyncTurn) -> None:
    await store.__aenter__()


async def _next(source: AsyncGenerator[T, None]) -> T:
    return await anext(source)
