"""One event loop behind the scenes of a process, for callers that have none.

What runs there is finished before the process ends, or cancelled by Ctrl-C. A forked child starts
its own.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - registers itself for the end: see below
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from holdfast.errors import Unavailable

T = TypeVar("T")


class Background:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._under_way: set[Future[Any]] = set()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="holdfast-agents", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        """Run something on the loop; it is waited for when the process ends."""
        with self._lock:
            if self._over:
                raise _program_over()
            future = asyncio.run_coroutine_threadsafe(work(), self.loop)
            self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return future

    def _run(self) -> None:
        while True:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt):  # of a runner: whoever waits for it is told
                continue
            return

    def finish(self) -> None:
        """Wait for what is under way, then stop. Ctrl-C cancels it, and waits for that."""
        try:
            while not self._over:  # what is under way may begin more
                asyncio.run_coroutine_threadsafe(_others_done(), self.loop).result()
                with self._lock:
                    self._over = not self._under_way
        except KeyboardInterrupt:
            with self._lock:
                self._over = True
            asyncio.run_coroutine_threadsafe(_cancel_others(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def _program_over() -> Unavailable:
    return Unavailable(
        "nothing can be answered any more: the program's main thread has ended",
        retryable=False,
        code="program_over",
        hint="let the main thread join the threads that ask",
    )


async def _others_done() -> None:
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


_lock = threading.Lock()
_background: Background | None = None
_ended = False
_of_parents: list[Background] = []


def background() -> Background:
    """Return the process's background loop; the first call starts it.

    Raises `Unavailable` once the program is over: Python starts no more threads then.
    """
    global _background  # noqa: PLW0603 - one loop a process is what this function is for
    with _lock:
        if _ended:
            raise _program_over()
        if _background is None:
            _background = Background()
        return _background


def _finish() -> None:
    global _ended  # noqa: PLW0603 - a program ends once
    with _lock:
        _ended = _background is None
    if _background is not None:
        _background.finish()


def _start_anew() -> None:
    global _background, _lock  # noqa: PLW0603 - a forked child has no such thread, and a fresh lock
    _lock = threading.Lock()
    if _background is not None:
        _of_parents.append(_background)  # kept, as its loop would complain of not being closed
        _background = None


# The last one registered is called first: earlier than the end of the threads that the store reads
# on, whose module has registered itself when it was imported above, and much earlier than atexit.
threading._register_atexit(_finish)  # type: ignore[attr-defined] # as concurrent.futures does
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
