"""How the asynchronous face reaches the engine. `_sync_shell` is its twin for threads."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import ParamSpec, TypeVar

from holdfast.errors import HoldfastError
from holdfast.model.commit import Commit, Deletion, Purge
from holdfast.model.search import Indexed
from holdfast.model.write import Write
from holdfast.store.engine import Engine

P = ParamSpec("P")
R = TypeVar("R")


class AsyncShell:
    """Commits through the engine's queue and reads on its few reader threads."""

    def __init__(self, engine: Engine, timeout_s: float) -> None:
        self._engine = engine
        self._timeout_s = timeout_s

    async def commit(self, write: Write) -> Commit:
        """Return once the write is durable."""
        outcome = await self._engine.commit_async(write, self._timeout_s)
        assert isinstance(outcome, Commit)
        return outcome

    async def delete(self, write: Write) -> Deletion:
        """Return once the session is gone."""
        outcome = await self._engine.commit_async(write, self._timeout_s)
        assert isinstance(outcome, Deletion)
        return outcome

    async def purge(self, writes: Sequence[Write]) -> list[Purge | HoldfastError]:
        """Return once everything is purged, or was refused."""
        commits = (self._engine.commit_async(write, self._timeout_s) for write in writes)
        outcomes = await asyncio.gather(*commits, return_exceptions=True)
        return [_purged(outcome) for outcome in outcomes]

    async def index(self, write: Write, timeout_s: float) -> Indexed:
        """Return once a slice is in the search index."""
        outcome = await self._engine.commit_async(write, timeout_s)
        assert isinstance(outcome, Indexed)
        return outcome

    async def read(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a read on a reader thread."""
        loop = asyncio.get_running_loop()
        readers = self._engine.readers
        try:
            reading = loop.run_in_executor(readers, lambda: function(*args, **kwargs))
        except RuntimeError:  # closed since
            self._engine.require_open()
            raise
        return await reading

    async def call(
        self, function: Callable[P, R | Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Call a caller's function, which may be a coroutine function."""
        result = function(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    async def close(self) -> None:
        """Commit what is queued, then let go."""
        await asyncio.to_thread(self._engine.close)


def _purged(outcome: object) -> Purge | HoldfastError:
    if isinstance(outcome, BaseException) and not isinstance(outcome, HoldfastError):
        raise outcome
    assert isinstance(outcome, Purge | HoldfastError)
    return outcome
