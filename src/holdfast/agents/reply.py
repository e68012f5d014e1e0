"""A reply as it comes: begun at once, finished and stored even if nobody reads it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeAlias

from holdfast.agents.background import background
from holdfast.agents.driving import Answer, Stage
from holdfast.agents.events import Event, Text
from holdfast.errors import NotSupported, SessionBusy
from holdfast.model.usage import TurnStatus, UsageTotals
from holdfast.store.faces import engine_of
from holdfast.store.opening import OnBusy, check_waiting
from holdfast.store.sync_store import SessionStore

Work: TypeAlias = Callable[[Stage, float], Coroutine[Any, Any, Answer]]
"""Answers, and tells those who listen; told how many seconds it may still wait for its turn."""


_WAKE_S = 0.25
"""Whoever waits looks that often for what nobody tells: a signal, a loop that was closed."""

_answering: ContextVar[Reply | None] = ContextVar("_answering", default=None)
"""The reply that the caller is a part of: a tool of its own may not wait for it."""

_under_way: set[asyncio.Task[None]] = set()
"""An event loop forgets tasks that nobody else holds, and replies go on without a reader."""


class Line:
    """The order in which this process asked in one session: the turns open in that order.

    Otherwise two prompts could overtake each other on their way to the store, where they stand in
    line with those that come from elsewhere.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: Reply | None = None
        self._pid = os.getpid()

    def enter(self, reply: Reply) -> Reply | None:
        """Return the reply that was begun before this one."""
        with self._lock:
            before, self._last = self._last, reply
            pid, self._pid = self._pid, os.getpid()
        return before if pid == self._pid else None  # a fork's parent's reply ends in the parent


_lines: weakref.WeakValueDictionary[tuple[str, str, str], Line] = weakref.WeakValueDictionary()
_lines_lock = threading.Lock()


def _line_for(store: SessionStore, session_id: str) -> Line:
    """Return the line in which this process's replies in a session stand."""
    place = (store.location, store.tenant, session_id)
    with _lines_lock:
        line = _lines.get(place)
        if line is None:
            _lines[place] = line = Line()
        return line


class Reply:
    """The answer to one prompt: iterate over it as it is streamed, or ask for the whole.

    It begins at once and does not wait for its reader: it is answered, stored and finished whether
    or not anybody iterates, and any number of readers see all of it. Iterate with `for`, or in a
    task with `async for`. Whoever asks for the text, the usage or the output waits for the end, and
    gets the error if answering failed; so does whoever iterates, after what was shown before.
    """

    def __init__(
        self,
        store: SessionStore,
        session_id: str,
        work: Work,
        *,
        on_busy: OnBusy = "wait",
        timeout: float,
    ) -> None:
        self._session_id = session_id
        self._work = work
        self._on_busy = on_busy
        self._timeout_s = timeout
        self._engine = engine_of(store)
        self._line = _line_for(store, session_id)
        self._before: Reply | None = None
        self._opened = False
        self._lock = threading.RLock()
        self._change = threading.Condition(self._lock)
        self._pieces: list[str] = []
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._answer: Answer | None = None
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._stopping = False

    def begin(self) -> Reply:
        """Begin on the process's background loop."""
        behind = background()
        self._enter(behind.loop)
        try:
            future = behind.submit(self._run)
        except BaseException as error:
            self._change_to(error=error)
            raise
        future.add_done_callback(self._ended)
        return self

    def begin_here(self) -> Reply:
        """Begin on the loop of the task that calls this."""
        loop = asyncio.get_running_loop()
        self._enter(loop)
        self._task = loop.create_task(self._run())
        _under_way.add(self._task)
        self._task.add_done_callback(_under_way.discard)
        self._task.add_done_callback(self._ended)
        return self

    def begin_anywhere(self) -> Reply:
        """Begin on the loop of the task that calls this, or, without one, behind the scenes."""
        return self.begin() if _running_loop() is None else self.begin_here()

    async def go_through(self) -> Any:
        """Answer in the caller's task, and return the output; whoever cancels that stops it."""
        self._enter(asyncio.get_running_loop())
        await self._run()
        return self.output

    def _enter(self, loop: asyncio.AbstractEventLoop) -> None:
        self._engine.begin(self)
        self._loop = loop
        self._before = self._line.enter(self)

    @property
    def session_id(self) -> str:
        """The session that it is part of."""
        return self._session_id

    @property
    def done(self) -> bool:
        """Whether it is finished and stored, or has failed."""
        if self._answer is not None or self._error is not None:
            return True
        return self._loop is not None and self._loop.is_closed()

    @property
    def text(self) -> str:
        """What was said last in the turn: the whole answer, or as much of it as there is."""
        return self._whole().text

    @property
    def output(self) -> Any:
        """The answer as a value of the agent's output type; its text if that is `str`."""
        return self._whole().output

    @property
    def usage(self) -> UsageTotals:
        """The tokens that it took; none if it had been answered before."""
        return self._whole().usage

    @property
    def turn(self) -> str | None:
        """The id of its turn; `None` if it was stopped before its turn came."""
        return self._whole().turn

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped before its end; what was shown is kept."""
        return self._whole().status is TurnStatus.INTERRUPTED

    @property
    def waiting(self) -> bool:
        """Whether it waits for a person to approve a tool call; `text` is what was said so far."""
        return self._whole().status is TurnStatus.WAITING

    @property
    def replayed(self) -> bool:
        """Whether the key's turn had been answered before."""
        return self._whole().replayed

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, whatever it is; false if `timeout` seconds passed before."""
        self._require_elsewhere()
        with self._lock:
            return self._wait_for(lambda: self.done, timeout)

    def _wait_for(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait for a change; Ctrl-C ends it.

        CPython: a signal that comes just before the main thread blocks in a lock is heard only once
        the thread wakes up, so it never blocks for long.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not condition():
            left = _WAKE_S if deadline is None else min(_WAKE_S, deadline - time.monotonic())
            if left <= 0:
                return False
            self._change.wait(left)
        return True

    def interrupt(self) -> None:
        """Ask it to stop: the call of the model is cancelled, and what was shown is kept."""
        if self._loop is not None and not self._stopping:
            self._stopping = True
            with contextlib.suppress(RuntimeError):  # the loop is closed, and all on it is done
                self._loop.call_soon_threadsafe(self._cancel)

    def finish(self) -> None:
        """Wait for the end, so that the store can be closed; raise if that would be for ever."""
        if not self.done and self._loop is not None and not self._loop.is_running():
            raise _would_block("while the event loop that answers it stands still")
        self.wait()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _require_elsewhere(self) -> None:
        if self.done or self._loop is None:
            return
        if self._loop is _running_loop():
            raise _would_block("on the event loop that answers it")
        if _answering.get() is self:
            raise _would_block("by a tool that it calls")

    def __iter__(self) -> Iterator[str]:
        shown = 0
        while True:
            self._require_elsewhere()
            with self._lock:
                self._wait_for(partial(self._has_more, shown))
                pieces, done = self._pieces[shown:], self.done
            yield from pieces
            shown += len(pieces)
            if done and not pieces:
                self._whole()
                return

    def _has_more(self, shown: int) -> bool:
        return self.done or len(self._pieces) > shown

    async def __aiter__(self) -> AsyncIterator[str]:
        shown = 0
        while True:
            news = self._news()
            pieces, done = self._pieces[shown:], self.done
            for piece in pieces:
                yield piece
            shown += len(pieces)
            if pieces:
                continue
            if done:
                self._whole()
                return
            await news

    def __await__(self) -> Generator[Any, None, str]:
        return self._finished().__await__()

    async def _finished(self) -> str:
        while True:
            news = self._news()
            if self.done:
                return self._whole().text
            await news

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        state = "done" if self.done else "under way"
        return f"<Reply in session {self._session_id!r}, {state}>"

    # What answers

    async def _run(self) -> None:
        self._task = asyncio.current_task()
        _answering.set(self)
        try:
            answer = await self._in_order()
        except BaseException as error:
            self._change_to(error=error)
            if not isinstance(error, Exception):
                raise
        else:
            self._change_to(answer=answer)

    def _ended(self, _: object) -> None:
        if not self.done:  # its loop was ended before it began
            self._change_to(error=asyncio.CancelledError())

    async def _in_order(self) -> Answer:
        try:
            left_s = await self._stand_in_line()
        except asyncio.CancelledError:
            if not self._stopping:
                raise
            return Answer(turn=None, status=TurnStatus.INTERRUPTED, text="")
        return await self._work(Stage(self._hear, self._open, lambda: self._stopping), left_s)

    async def _stand_in_line(self) -> float:
        """Wait for the replies that were begun before; return how many seconds are left."""
        if self._before is None:
            return self._timeout_s
        check_waiting(self._on_busy, self._timeout_s)
        begun = time.monotonic()
        deadline = begun if self._on_busy == "reject" else begun + self._timeout_s
        while (before := self._before) is not None:
            if not await before._begun(deadline):
                raise SessionBusy(f"others stand in line for session {self._session_id!r}")
            # Whoever left the line before its turn came leaves its place to those behind it.
            self._before = None if before._opened else before._before
        return max(0.0, begun + self._timeout_s - time.monotonic())

    async def _begun(self, deadline: float) -> bool:
        """Wait until the turn is open, or will not be; false if the deadline passed before."""
        news = self._news()
        while not (self._opened or self.done):
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            # A loop that is closed under a reply tells nobody, so it is looked at.
            heard, _ = await asyncio.wait([news], timeout=min(_WAKE_S, left))
            if heard:
                news = self._news()
        return True

    def _open(self) -> None:
        self._opened = True
        self._change_to()

    def _hear(self, event: Event) -> None:
        if isinstance(event, Text):
            self._change_to(piece=event.text)

    def _change_to(
        self,
        *,
        piece: str | None = None,
        answer: Answer | None = None,
        error: BaseException | None = None,
    ) -> None:
        if answer is not None or error is not None:
            self._engine.end(self)
        with self._lock:
            if piece is not None:
                self._pieces.append(piece)
            self._answer, self._error = answer, error
            self._change.notify_all()
            waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there
                loop.call_soon_threadsafe(_set, future)

    def _news(self) -> asyncio.Future[None]:
        """Return what is set at the next change; made before the state is looked at."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._waiting.append((loop, future))
        return future

    def _whole(self) -> Answer:
        self.wait()
        if self._error is not None:
            raise self._error
        if self._answer is None:  # its loop was closed under it
            raise asyncio.CancelledError
        return self._answer


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _would_block(where: str) -> NotSupported:
    return NotSupported(
        f"a reply cannot be waited for {where}",
        code="would_block",
        hint="await it instead, or iterate over it with async for",
    )


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
