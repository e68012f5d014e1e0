"""The deadlines of one event loop's queued writes, on one timer: asyncio's timers are dear."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio


class HasDeadline(Protocol):
    """Something that waits until a time, in seconds of the store's monotonic clock."""

    deadline: float


W = TypeVar("W", bound=HasDeadline)


class Deadlines(Generic[W]):
    """Calls `expire` in the loop for whatever is still watched when its deadline passes."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        monotonic_s: Callable[[], float],
        expire: Callable[[W], None],
    ) -> None:
        self._loop = weakref.ref(loop)
        self._monotonic_s = monotonic_s
        self._expire = expire
        self._watched: set[W] = set()
        self._due = math.inf

    def watch(self, waiting: W) -> None:
        """Begin to watch."""
        self._watched.add(waiting)
        if waiting.deadline < self._due:
            self._set_timer(waiting.deadline)

    def forget(self, waiting: W) -> None:
        """Stop watching what is done."""
        self._watched.discard(waiting)

    def _set_timer(self, due: float) -> None:
        loop = self._loop()
        if loop is not None:
            self._due = due
            loop.call_later(max(0.0, due - self._monotonic_s()), self._go_off, due)

    def _go_off(self, due: float) -> None:
        if due != self._due:
            return  # an earlier deadline has taken over
        self._due = math.inf
        now = self._monotonic_s()
        for late in [waiting for waiting in self._watched if waiting.deadline <= now]:
            self._watched.discard(late)
            self._expire(late)
        if self._watched:
            self._set_timer(min(waiting.deadline for waiting in self._watched))
