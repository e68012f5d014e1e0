"""Turns that are asked to stop: by another process, by Ctrl-C, by cancelling a task."""

from __future__ import annotations

import asyncio
import random
import signal
import statistics
import time

import pytest

import holdfast
from holdfast.model.entry import Entry, TurnEntry
from holdfast.model.usage import TurnStatus
from holdfast.store import streaming
from tests.stores import fewer, is_postgres
from tests.turns.judging import judge
from tests.turns.stage import Stage, report, wait_for
from tests.turns.test_kills import LEFT, POINTS, left, names
from tests.turns.worker import SESSION, STEPS

ROUNDS = 7


def endings(entries: list[Entry]) -> list[tuple[str, str | None]]:
    """Return how turns were closed, and why."""
    turns = [entry for entry in entries if isinstance(entry, TurnEntry)]
    return [(e.status.value, e.reason) for e in turns if e.status is not TurnStatus.RUNNING]


@pytest.mark.alone
def test_interrupted_elsewhere(url: str) -> None:
    """A turn that runs in another process, in silence, stops within a second."""
    took: list[float] = []
    with Stage(url) as stage:
        worker = stage.enter("hold")
        rounds = fewer(url, ROUNDS)
        for number in range(rounds):
            assert worker.hear() == "holding"
            begun = time.monotonic()
            assert stage.store.interrupt(SESSION)
            assert worker.hear() == "stopped"
            took.append((time.monotonic() - begun) * 1000)
            assert worker.hear() == "closed"
            worker.tell("again" if number < rounds - 1 else "end")
        worker.finish()
        assert endings(stage.entries()) == [("interrupted", "requested")] * rounds
        assert judge(stage.entries()) == []
    report("from interrupting to stopping elsewhere", took)
    assert statistics.median(took) < 1000
    assert max(took) < 5000


@pytest.mark.parametrize(("number", "moment"), POINTS, ids=names(POINTS))
def test_ctrl_c_at_each_point(url: str, number: int, moment: str) -> None:
    """Ctrl-C at any point of a turn closes it at once, as cancelled, with all of its text."""
    with Stage(url) as stage:
        worker = stage.enter("step", "a", number, moment)
        assert worker.hear() == "halted"
        worker.signal(signal.SIGINT)
        worker.tell("go on")
        assert worker.finish()[-1] == "interrupted"
        if not stage.store.session_exists(SESSION):
            assert (number, moment) == (1, "sent")
            return
        assert judge(stage.entries()) == []
        (ending,) = endings(stage.entries())
        last = number == len(STEPS)
        assert ending in [("interrupted", "cancelled")] + [("completed", None)] * last
        found, kept = left(stage.store), LEFT[number if moment == "answered" else number - 1]
        assert len(found) >= len(kept)
        for (role, content, _), (wanted, beginning, _) in zip(found, kept, strict=False):
            assert role == wanted
            assert content.startswith(beginning)


@pytest.mark.parametrize("role", ["talk_until_stopped", "talk_async_until_stopped"])
def test_ctrl_c_at_random(url: str, role: str) -> None:
    """Ctrl-C at a random moment leaves no turn open, whether in a thread or in a task."""
    chance = random.Random(3)
    with Stage(url) as stage:
        for number in range(fewer(url, 8)):
            worker = stage.enter(role, f"w{number}")
            assert worker.hear() == "talking"
            ends = time.monotonic() + chance.uniform(0.0, 0.15)
            wait_for(lambda ends=ends: time.monotonic() > ends)  # type: ignore[misc] # bound
            worker.signal(signal.SIGINT)
            assert worker.finish() == ["interrupted"]
            if stage.store.session_exists(SESSION):
                assert judge(stage.entries()) == []
        assert {reason for _, reason in endings(stage.entries())} <= {None, "cancelled"}


async def _cancelled_after(url: str, delay_s: float) -> None:
    """Run a turn in a task, and cancel it after a while."""

    async def run(store: holdfast.AsyncSessionStore) -> None:
        async with store.turn(SESSION, "go") as turn:
            await turn.write("some")
            await asyncio.sleep(0.01)
            await turn.write(" text")

    async with holdfast.connect_async(url) as store:
        task = asyncio.create_task(run(store))
        await asyncio.wait([task], timeout=delay_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_cancelled_task(url: str) -> None:
    """A task that is cancelled anywhere in its turn leaves it closed, for nobody to wait for."""
    with Stage(url) as stage:
        for number in range(0, 40, 3 if is_postgres(url) else 1):
            asyncio.run(_cancelled_after(stage.url, number * 0.0008))
            if stage.store.session_exists(SESSION):
                assert judge(stage.entries()) == [], number
        found = set(endings(stage.entries()))
        assert found <= {("interrupted", "cancelled"), ("completed", None)}
        assert ("interrupted", "cancelled") in found


async def _cancelled_in_line(stage: Stage) -> None:
    """Wait in a task for a turn, and cancel it."""

    async def run(store: holdfast.AsyncSessionStore) -> None:
        async with store.turn(SESSION, "too late"):
            raise AssertionError("the session is taken")

    async with holdfast.connect_async(stage.url) as store:
        task = asyncio.create_task(run(store))
        await asyncio.to_thread(wait_for, lambda: stage.waiting() == 1, "standing in line")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_cancelled_in_line(url: str) -> None:
    """A task that is cancelled while it waits for a turn stands in nobody's way."""
    with Stage(url) as stage:
        with stage.store.turn(SESSION, "first"):
            asyncio.run(_cancelled_in_line(stage))
            assert stage.waiting() == 0
        with stage.store.turn(SESSION, "second", on_busy="reject"):
            pass
        assert stage.texts() == ["first", "second"]


def test_a_notification_is_heard_at_once(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PostgreSQL a turn that never looks by itself is stopped by another process's word."""
    monkeypatch.setattr(streaming, "CHECK_S", 3_600)
    with holdfast.connect(database) as store, holdfast.connect(database) as other:
        with store.turn(SESSION, "go", ttl=3_600) as turn:
            assert other.interrupt(SESSION)
            assert turn.wait_interrupted(20)
        assert store.get_session(SESSION).status == "idle"
