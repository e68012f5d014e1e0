"""Wakes whoever waits for something new in a store, in any process.

A signal is only a hint: it may come early, late or twice, so whoever is woken reads again. One
thread for each store waits at the backend, and only while somebody waits here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from holdfast.errors import HoldfastError

if TYPE_CHECKING:
    import asyncio

LOOK_S = 1.0
"""How long the backend may wait before the thread looks whether anybody is still here."""

PAUSE_S = 0.005
"""News that come faster than this are told together."""

RETRY_S = 0.1


class Watched(Protocol):
    """What of a backend is watched; the methods are described there."""

    @property
    def stops(self) -> int | None:
        """How many times it has heard that some turn was asked to stop."""
        ...

    def wait(self, timeout_s: float) -> bool:
        """Wait for news."""
        ...

    def wake(self) -> None:
        """End the waiting."""
        ...


class News:
    """Counts what may be news; `mark` is the count so far."""

    def __init__(self, backend: Watched) -> None:
        self._backend = backend
        self._on_stop: set[Callable[[], None]] = set()
        self._lock = threading.RLock()
        self._change = threading.Condition(self._lock)
        self._waiting = 0
        self._tasks: dict[asyncio.Future[None], asyncio.AbstractEventLoop] = {}
        self._thread: threading.Thread | None = None
        self._closed = False
        self.mark = 0

    def wait(self, mark: int, timeout_s: float) -> bool:
        """Wait, on a thread, until there may be something newer than `mark`."""
        with self._lock:
            self._waiting += 1
            try:
                self._watch()
                return self._change.wait_for(lambda: self.mark != mark or self._closed, timeout_s)
            finally:
                self._waiting -= 1

    async def wait_async(self, mark: int, timeout_s: float) -> bool:
        """Wait, in a task, until there may be something newer than `mark`."""
        import asyncio

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self.mark != mark or self._closed:
                return True
            self._tasks[future] = loop
            self._watch()
        try:
            # wait_for of Python 3.11 overlooks a cancellation that comes together with the news.
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            return False
        finally:
            with self._lock:
                self._tasks.pop(future, None)
        return True

    def hear_stops(self, call: Callable[[], None]) -> None:
        """Call `call`, on the watching thread, when some turn may have been asked to stop.

        Only where the backend hears of it; elsewhere whoever runs a turn looks now and then.
        """
        if self._backend.stops is None:
            return
        with self._lock:
            self._on_stop.add(call)
            self._watch()

    def hear_no_stops(self, call: Callable[[], None]) -> None:
        """Call it no more."""
        with self._lock:
            self._on_stop.discard(call)

    def close(self) -> None:
        """Wake everybody, for good."""
        with self._lock:
            self._closed = True
            self._tell()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._backend.wake()
            thread.join()

    def _watch(self) -> None:
        if self._thread is None and not self._closed:
            thread = threading.Thread(target=self._run, name="holdfast-news", daemon=True)
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        if not self._is_ours():
            return
        stops = self._backend.stops
        while True:
            try:
                found = self._backend.wait(LOOK_S)
            except HoldfastError:  # the store cannot be watched just now: whoever reads is told
                time.sleep(RETRY_S)
                found = True
            with self._lock:
                if found:
                    self._tell()
                if self._closed or not (self._waiting or self._tasks or self._on_stop):
                    self._thread = None
                    return
                told = [] if self._backend.stops == stops else list(self._on_stop)
                stops = self._backend.stops
            for call in told:
                call()
            if found:
                time.sleep(PAUSE_S)

    def _is_ours(self) -> bool:
        """Say whether this thread is the one; Ctrl-C may have come while it was being started."""
        with self._lock:
            if self._closed or self._thread not in (None, threading.current_thread()):
                return False
            self._thread = threading.current_thread()
            return True

    def _tell(self) -> None:
        self.mark += 1
        self._change.notify_all()
        tasks, self._tasks = self._tasks, {}
        for future, loop in tasks.items():
            try:
                loop.call_soon_threadsafe(_set, future)
            except RuntimeError:  # the loop is closed: nobody waits there any more
                continue


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
