"""A write that waits in the engine's queue, and how whoever waits for it learns its outcome.

It is `QUEUED` until its batch starts, and can be withdrawn until then: it was certainly not
written. From there it is `IN_FLIGHT`, and only the batch's outcome says what became of it;
`ABANDONED` if nobody waits for that any more. What others were in the way of is `QUEUED` again.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from enum import Enum, auto
from typing import TYPE_CHECKING, TypeAlias

from holdfast.errors import HoldfastError
from holdfast.model.write import Write
from holdfast.store.backend import Outcome

if TYPE_CHECKING:
    import asyncio


class State(Enum):
    """Until when a write can be withdrawn, and who says what became of it."""

    QUEUED = auto()
    IN_FLIGHT = auto()
    ABANDONED = auto()
    DONE = auto()
    WITHDRAWN = auto()


class Pending:
    """A queued write of a thread, which waits on a lock that is released when its outcome is there.

    A batch's threads wake one another, each the one that is `following`: if all were woken at once,
    they would fight for the interpreter's lock. Whoever `left` before that is passed over. The main
    thread, where signal handlers run, wakes nobody: it is not to keep others waiting.
    """

    __slots__ = ("deadline", "following", "left", "outcome", "relays", "signal", "state", "write")

    def __init__(self, write: Write, deadline: float) -> None:
        self.write = write
        self.deadline = deadline
        self.state = State.QUEUED
        self.outcome: Outcome | None = None
        self.signal = threading.Lock()
        self.signal.acquire()
        self.relays = threading.get_ident() != threading.main_thread().ident
        self.following: Pending | None = None
        self.left = False


class PostedPending:
    """A queued write that nobody waits for: its outcome goes to a function, on the committer."""

    __slots__ = ("deadline", "outcome", "settled", "state", "write")

    def __init__(self, write: Write, settled: Callable[[Outcome], None]) -> None:
        self.write = write
        self.deadline = math.inf  # the engine's to say
        self.state = State.QUEUED
        self.outcome: Outcome | None = None
        self.settled = settled


class AsyncPending:
    """A queued write of a task, whose future is set in its own event loop."""

    __slots__ = ("deadline", "future", "loop", "outcome", "state", "write")

    def __init__(self, write: Write, deadline: float, loop: asyncio.AbstractEventLoop) -> None:
        self.write = write
        self.deadline = deadline
        self.state = State.QUEUED
        self.outcome: Outcome | None = None
        self.loop = loop
        self.future: asyncio.Future[Outcome] = loop.create_future()


AnyPending: TypeAlias = Pending | PostedPending | AsyncPending


class Untold:
    """A batch that is done, until those are told who wait for it."""

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self._lock = lock
        self._batch: Sequence[AnyPending] = ()
        self._outcomes: Sequence[Outcome] = ()

    def __len__(self) -> int:
        return len(self._batch)

    def keep(self, batch: Sequence[AnyPending], outcomes: Sequence[Outcome]) -> None:
        """Tell them later, and those that were kept before now: the next batch may be of nobody."""
        self.tell()
        self._batch, self._outcomes = batch, outcomes

    def tell(self) -> None:
        """Tell them now, once."""
        batch, outcomes = self._batch, self._outcomes
        self._batch, self._outcomes = (), ()
        publish(batch, outcomes, self._lock)


def publish(
    batch: Sequence[AnyPending], outcomes: Sequence[Outcome], lock: AbstractContextManager[object]
) -> None:
    """Tell everybody who waits for a write of this batch what became of it."""
    threads: list[Pending] = []
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[AsyncPending]] = defaultdict(list)
    for pending, outcome in zip(batch, outcomes, strict=True):
        pending.outcome = outcome
        pending.state = State.DONE
        if isinstance(pending, Pending):
            threads.append(pending)
        elif isinstance(pending, PostedPending):
            pending.settled(outcome)
        else:
            by_loop[pending.loop].append(pending)
    wake(threads, lock)
    for loop, done in by_loop.items():
        try:
            loop.call_soon_threadsafe(deliver, done)
        except RuntimeError:  # the loop is closed: nobody waits there any more
            continue


def deliver(batch: Sequence[AsyncPending]) -> None:
    """Set the futures of one loop's share of a batch, in that loop."""
    for pending in batch:
        if pending.outcome is not None and not pending.future.done():
            pending.future.set_result(pending.outcome)


async def outcome_despite_cancellation(pending: AsyncPending) -> Outcome:
    """Wait for a batch in flight, however often the task is cancelled meanwhile."""
    import asyncio

    while True:
        if pending.future.cancelled():
            pending.future = pending.loop.create_future()
            deliver([pending])
        try:
            return await pending.future
        except asyncio.CancelledError:
            continue
        except HoldfastError as error:  # the deadline passed
            return error


def wake(threads: Sequence[Pending], lock: AbstractContextManager[object]) -> None:
    """Wake a batch's threads: the first of those that relay, and it the next, and so on."""
    first: Pending | None = None
    with lock:
        for pending in reversed(threads):
            if pending.relays and not pending.left:
                pending.following, first = first, pending
    for pending in threads:
        if pending is first or not pending.relays:
            pending.signal.release()


def leave(pending: Pending, lock: AbstractContextManager[object]) -> None:
    """Wake whoever was to be woken by this thread, which does not wait any more."""
    with lock:
        pending.left = True
        following, pending.following = pending.following, None
    if following is not None:
        following.signal.release()
