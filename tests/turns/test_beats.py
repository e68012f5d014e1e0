"""What the engine does for a turn meanwhile, when it meets trouble."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import holdfast
from holdfast.errors import Unavailable
from holdfast.model.session import SessionRow
from holdfast.store.backend import Backend
from holdfast.store.postgres.backend import PostgresBackend
from holdfast.store.reading import Reading
from holdfast.store.sqlite.backend import SqliteBackend
from holdfast.store.sqlite.connections import Database
from holdfast.store.sqlite.watching import Watcher
from tests.stores import is_postgres
from tests.turns.judging import judge
from tests.turns.stage import wait_for
from tests.turns.worker import SESSION


def test_a_look_that_fails(url: str) -> None:
    """A turn whose session cannot be read for a while goes on, and so does everybody else."""
    failures = 0
    look = Reading.live_row

    def fail_at_first(reading: Reading, session_id: str) -> SessionRow | None:
        nonlocal failures
        if failures < 3:
            failures += 1
            raise Unavailable("just now not")
        return look(reading, session_id)

    with holdfast.connect(url) as store:
        with store.turn(SESSION, "a:0") as turn:
            with patch.object(Reading, "live_row", fail_at_first):
                wait_for(lambda: failures == 3)
                assert store.interrupt(SESSION)
                assert turn.wait_interrupted(20)
            turn.write("text")
        assert judge(store.read_entries(SESSION)) == []


def test_the_first_wait(tmp_path: Path) -> None:
    """Whoever begins to watch a store looks once more: what came just before has left no sign."""
    path = tmp_path / "turns.db"
    holdfast.connect(str(path)).close()
    watcher = Watcher(Database(path, durability="full", timeout_s=5))
    begun = time.monotonic()
    assert watcher.wait(30)
    assert time.monotonic() - begun < 20
    assert not watcher.wait(0)
    watcher.close()


def test_watching_across_a_fork(tmp_path: Path) -> None:
    """What is committed while the watcher has its file closed for a fork is told afterwards."""
    path = tmp_path / "turns.db"
    with holdfast.connect(str(path)) as store:
        watcher = Watcher(Database(path, durability="full", timeout_s=5))
        assert watcher.wait(30)
        watcher.pause()
        store.add_user_message(SESSION, "meanwhile")
        watcher.resume()
        assert watcher.wait(30)
        watcher.close()


def test_a_commit_that_is_seen_late(tmp_path: Path) -> None:
    """A commit wakes those who watch also if it becomes visible long after it wrote its file."""
    path = tmp_path / "turns.db"
    holdfast.connect(str(path)).close()
    watcher = Watcher(Database(path, durability="full", timeout_s=5))
    looks = 0

    def data_version(_: Watcher) -> int:
        nonlocal looks
        looks += 1
        if looks == 2:
            path.with_name("turns.db-wal").write_bytes(b"x")
        return 1 if looks < 8 else 2

    with patch.object(Watcher, "_data_version", data_version):
        watcher.wait(30)
        assert looks == 1
        begun = time.monotonic()
        watcher.wait(30)
    watcher.close()
    assert looks == 8
    assert time.monotonic() - begun < 20


class Gate:
    """Lets commits through, or holds them right before they happen or right after."""

    def __init__(self) -> None:
        self.held = threading.Event()
        self._open = threading.Event()
        self._moment = ""

    def close(self, moment: str) -> None:
        """Hold the next commit."""
        self._moment = moment

    def open(self) -> None:
        """Let it through."""
        self._open.set()

    def across(self, url: str) -> Any:
        """Return a patch by which every commit of such a store goes through the gate."""
        backend = PostgresBackend if is_postgres(url) else SqliteBackend
        commit: Callable[..., Any] = backend.commit

        def through(backend: Backend, writes: Any) -> Any:
            moment, self._moment = self._moment, ""
            if moment == "sent":
                self._hold()
            outcomes = commit(backend, writes)
            if moment == "answered":
                self._hold()
            return outcomes

        return patch.object(backend, "commit", through)

    def _hold(self) -> None:
        self.held.set()
        assert self._open.wait(30)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("moment", ["sent", "answered"])
@pytest.mark.parametrize("step", ["open", "message", "close"])
def test_cancelled_in_a_commit(url: str, step: str, moment: str, times: int) -> None:
    """A task that is cancelled while its turn commits leaves it closed, with all of its text."""
    gate = Gate()

    async def run(store: holdfast.AsyncSessionStore) -> None:
        if step == "open":
            gate.close(moment)
        async with store.turn(SESSION, "a:0") as turn:
            await turn.write("text")
            if step == "message":
                gate.close(moment)
            await turn.add_message("assistant", "text")
            if step == "close":
                await turn.write(" and more")
                gate.close(moment)

    async def cancel() -> None:
        async with holdfast.connect_async(url) as store:
            task = asyncio.create_task(run(store))
            assert await asyncio.to_thread(gate.held.wait, 30)
            for _ in range(times):
                task.cancel()
                await asyncio.sleep(0)
            gate.open()
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            assert isinstance(outcome, asyncio.CancelledError)
            assert judge(await store.read_entries(SESSION)) == []
            said = [m["content"] for m in await store.get_messages(SESSION)]
            assert (
                said
                == {
                    "open": ["a:0"],
                    "message": ["a:0", "text"],
                    "close": ["a:0", "text", " and more"],
                }[step]
            )

    with gate.across(url):
        asyncio.run(cancel())


def test_a_loop_that_ends(url: str) -> None:
    """A loop that ends while a turn is being closed waits until it is."""
    gate = Gate()

    async def run(store: holdfast.AsyncSessionStore) -> None:
        async with store.turn(SESSION, "a:0") as turn:
            await turn.write("text")
            gate.close("sent")

    async def leave() -> None:
        store = await holdfast.connect_async(url)
        task = asyncio.create_task(run(store))
        assert await asyncio.to_thread(gate.held.wait, 30)
        asyncio.get_running_loop().call_later(0.05, gate.open)
        assert not task.done()

    with gate.across(url):
        asyncio.run(leave())
    with holdfast.connect(url) as store:
        assert judge(store.read_entries(SESSION)) == []
        assert store.get_chat_history(SESSION)[-1]["content"] == "text"
