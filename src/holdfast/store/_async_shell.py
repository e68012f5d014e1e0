"""How the asynchronous face reaches the engine. `_sync_shell` is its twin for threads."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Sequence,
)
from typing import Any, ParamSpec, TypeVar

from holdfast.errors import HoldfastError
from holdfast.model.commit import Commit, Deletion, Purge
from holdfast.model.search import Indexed
from holdfast.model.turn import Busy, Held, Opened
from holdfast.model.write import Write
from holdfast.rules.history import History
from holdfast.store.engine import Engine
from holdfast.store.streaming import RunningTurn

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

LOOK_S = 0.1
"""Whoever waits for a lease to run out looks so often: time alone gives no sign."""


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

    async def answer(self, write: Write, kind: type[T]) -> T:
        """Return what a durable write answers, which is of this kind."""
        outcome = await self._engine.commit_async(write, self._timeout_s)
        assert isinstance(outcome, kind)
        return outcome

    async def open_turn(self, write: Write) -> Opened | Busy:
        """Return the turn that was opened, or who is in the way."""
        outcome = await self._engine.commit_async(write, self._timeout_s)
        assert isinstance(outcome, Opened | Busy)
        return outcome

    async def close_turn(self, live: RunningTurn, closing: Callable[[], Write]) -> None:
        """Return once a turn is closed, and the engine has let go of it.

        A task that is cancelled meanwhile waits for that too.
        """
        try:
            await self._close_turn(closing)
        finally:
            self.detach(live)

    async def _close_turn(self, closing: Callable[[], Write]) -> None:
        cancelled: asyncio.CancelledError | None = None
        again = False
        while True:
            answer = asyncio.ensure_future(self.answer(closing(), Held))
            while not answer.done():
                try:
                    await asyncio.wait([answer])
                except asyncio.CancelledError as error:
                    cancelled = error
            if not answer.cancelled():
                break
            again = True  # a loop that ends cancels every task: what was queued is not written
        failure = answer.exception()
        if cancelled is not None:
            raise cancelled
        if failure is not None and not again:
            raise failure

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

    # Turns and followers

    @property
    def mark(self) -> int:
        """How much news there was so far."""
        return self._engine.news.mark

    async def wait_for_news(self, mark: int, timeout_s: float) -> bool:
        """Wait until there may be something newer than `mark`."""
        self._engine.require_open()
        return await self._engine.news.wait_async(mark, timeout_s)

    async def pause_until(self, look: Callable[[], bool], timeout_s: float) -> None:
        """Wait until `look` finds what it looks for, or time is up."""
        ends = self._engine.monotonic_s() + timeout_s
        while (left := ends - self._engine.monotonic_s()) > 0:
            mark = self.mark
            if await self.read(look):
                return
            await self.wait_for_news(mark, min(left, LOOK_S))

    def attach(self, live: RunningTurn, turn: Callable[[], object]) -> None:
        """Let the engine write what the turn streams, and keep its lease.

        It does while the turn's loop lives and there is `turn()`: a task may be dropped inside it.
        """
        closed = asyncio.get_running_loop().is_closed
        live.stranded = lambda: closed() or turn() is None
        self._engine.attach(live)
        self._engine.news.hear_stops(live.look)

    def detach(self, live: RunningTurn) -> None:
        """Stop that."""
        self._engine.detach(live)
        self._engine.news.hear_no_stops(live.look)

    async def wait_for_room(self, live: RunningTurn) -> None:
        """Wait until the disk has caught up with a turn's text; `Unavailable` if it does not."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        live.on_room(lambda: _from_thread(loop, future))
        try:
            async with asyncio.timeout(self._timeout_s):
                await future
        except TimeoutError:
            raise live.no_room(self._timeout_s) from None

    async def wait_interrupted(self, live: RunningTurn, timeout_s: float | None) -> bool:
        """Wait until a turn is asked to stop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        live.on_interrupt(lambda: _from_thread(loop, future))
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        return True

    async def pieces(self, ask: Callable[[History], Any], history: History) -> AsyncIterator[str]:
        """Yield what `ask` yields, whether it is an asynchronous generator or a plain one."""
        found = ask(history)
        if isinstance(found, AsyncIterable):
            async with contextlib.aclosing(_closable(found)) as source:
                async for piece in source:
                    yield piece
        else:
            with contextlib.closing(piece for piece in found) as plain:
                for piece in plain:
                    yield piece

    async def close_pieces(self, source: AsyncIterator[str]) -> None:
        """End what `pieces` began, wherever it is."""
        if isinstance(source, AsyncGenerator):
            await source.aclose()

    async def close(self) -> None:
        """Commit what is queued, then let go."""
        await asyncio.to_thread(self._engine.close)


def _purged(outcome: object) -> Purge | HoldfastError:
    if isinstance(outcome, BaseException) and not isinstance(outcome, HoldfastError):
        raise outcome
    assert isinstance(outcome, Purge | HoldfastError)
    return outcome


async def _closable(found: AsyncIterable[str]) -> AsyncGenerator[str, None]:
    try:
        async for piece in found:
            yield piece
    finally:
        if isinstance(found, AsyncGenerator):
            await found.aclose()


def _from_thread(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there any more
        loop.call_soon_threadsafe(_set, future)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
