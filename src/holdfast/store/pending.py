"""A write that waits in the engine's queue, and whoever waits for it.

It is `QUEUED` until its batch starts, and can be withdrawn until then: it was certainly not
written. From there it is `IN_FLIGHT`, and only the batch's outcome says what became of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING, TypeAlias

from holdfast.model.write import Write
from holdfast.store.backend import Outcome

if TYPE_CHECKING:
    import asyncio


class State(Enum):
    """Until when a write can be withdrawn, and who says what became of it."""

    QUEUED = auto()
    IN_FLIGHT = auto()
    DONE = auto()
    WITHDRAWN = auto()


class Pending:
    """A queued write of a thread, which waits on a lock that its outcome releases."""

    __slots__ = ("deadline", "outcome", "signal", "state", "write")

    def __init__(self, write: Write, deadline: float) -> None:
        self.write = write
        self.deadline = deadline
        self.state = State.QUEUED
        self.outcome: Outcome | None = None
        self.signal = threading.Lock()
        self.signal.acquire()


class PostedPending:
    """A queued write that nobody waits for: its outcome goes to a function, on the committer."""

    __slots__ = ("deadline", "outcome", "settled", "state", "write")

    def __init__(self, write: Write, deadline: float, settled: Callable[[Outcome], None]) -> None:
        self.write = write
        self.deadline = deadline
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
