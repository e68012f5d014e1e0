"""What the engine does at regular times, and whom its news wake."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

import holdfast.store.engine as engines
from holdfast.errors import HoldfastError
from holdfast.store.engine import Engine
from holdfast.store.memory import MemoryBackend
from holdfast.store.news import News
from holdfast.store.sources import Sources
from holdfast.store.sync_store import SessionStore

PATIENCE_S = 60.0
FOREVER_S = 3600.0
"""Longer than any test may take."""


class Heart:
    """Says once that it has beaten."""

    def __init__(self) -> None:
        self.beaten = threading.Event()

    interval_s = 0.1

    def beat(self, _now: float) -> None:
        """Be called by the committer."""
        self.beaten.set()

    def fail(self, error: HoldfastError) -> None:
        """Not be called."""
        raise AssertionError(error)

    def retire(self) -> None:
        """Have nothing left."""

    def disown(self) -> None:
        """Have nothing to leave."""


def test_a_beat_does_not_wait_for_a_committer_that_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that begins while the committer rests is kept from then on, not from its next call."""
    monkeypatch.setattr(engines, "IDLE_S", FOREVER_S)
    engine = Engine(MemoryBackend(Sources()), Sources())
    store = SessionStore(engine, "default", Sources(), timeout_s=PATIENCE_S)
    first, second = Heart(), Heart()
    engine.attach(first)
    assert first.beaten.wait(PATIENCE_S)
    with engine._lock:  # so that the committer finds nothing to beat when it begins to rest
        engine._beating.clear()
    called = threading.Event()
    engine.post(store._writing.add("s", [], path="m"), lambda _: called.set())
    assert called.wait(PATIENCE_S)
    while not engine._news._waiters:  # type: ignore[attr-defined] # it rests, with nothing to beat
        time.sleep(0.001)
    engine.attach(second)
    assert second.beaten.wait(PATIENCE_S)
    monkeypatch.undo()  # so that the committer goes when it has nothing to do
    store.close()


class Scripted:
    """What a store watches, as a test has it."""

    stops = None

    def __init__(self, wait: Callable[[float], bool], wake: Callable[[], None]) -> None:
        self.wait = wait
        self.wake = wake


def test_nobody_is_woken_for_nothing() -> None:
    """Whoever waits for news sleeps on while the backend finds none, however often it looks."""
    found = iter([False, False, False, True])
    news = News(Scripted(lambda _: next(found, False), lambda: None))
    assert news.wait(news.mark, PATIENCE_S)
    assert (news.mark, list(found)) == (1, [])
    news.close()


def test_a_cancellation_that_comes_with_news_is_heard() -> None:
    """A task that is cancelled at the very moment at which there is news ends."""

    async def run() -> bool:
        ended = threading.Event()

        def wait(_timeout_s: float) -> bool:
            return ended.wait(PATIENCE_S)

        news = News(Scripted(wait, ended.set))
        waiting = asyncio.create_task(news.wait_async(news.mark, PATIENCE_S))
        while not news._tasks:  # noqa: ASYNC110 - it is there after one round of the loop
            await asyncio.sleep(0)
        for future in news._tasks:
            future.set_result(None)
        waiting.cancel()
        await asyncio.wait([waiting])
        await asyncio.to_thread(news.close)
        return waiting.cancelled()

    assert asyncio.run(run())
