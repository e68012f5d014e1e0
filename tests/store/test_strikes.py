"""Ctrl-C at every step of what a store does: nothing stays taken, queued or under way."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import holdfast
from holdfast import AsyncSessionStore, SessionStore
from holdfast.errors import HoldfastError, Unavailable
from holdfast.model.entry import EntryKind
from holdfast.model.write import Write, WriteKind
from holdfast.rules.codec import new_entry
from holdfast.store.backend import Outcome
from holdfast.store.engine import Engine
from holdfast.store.memory import MemoryBackend
from holdfast.store.pending import State
from holdfast.store.sources import Sources
from holdfast.store.streaming import FLUSH_CHARACTERS
from tests.store.opening import GatedBackend
from tests.striking import SOURCE, Strike

NO_END_S = 20.0
"""What has not happened after so long never will."""


LENDING = ("engine.py", "readers.py", "turnstile.py", "connections.py", "watching.py")
"""What lends something to whoever reads or writes, and takes it back."""

NOT_BEGUN = ("sync_turn.py:__exit__", "sync_turn.py:_live", "_sync_shell.py:close_turn")
"""Where a turn's block was left, and nothing of its end is done."""


def everywhere(once: Callable[[int], bool], least: int) -> None:
    """Strike at each step, until `once` says that there is none left."""
    step = 0
    while once(step):
        step += 1
    assert step > least


def within(function: Callable[[], object], where: str) -> None:
    """Call something on a thread of its own, which holds no lock yet."""
    done: list[object] = []
    thread = threading.Thread(target=lambda: done.append(function()), daemon=True)
    thread.start()
    thread.join(NO_END_S)
    assert done, f"struck at {where}, nothing goes on"


def test_a_write_to_a_file(path: Path) -> None:
    """Another store can write at once."""
    with (
        holdfast.connect(path, durability="relaxed") as store,
        holdfast.connect(path, durability="relaxed") as other,
    ):
        backend = other._engine.backend

        def once(step: int) -> bool:
            store.add_user_message("a", "before")
            with Strike(step, "engine.py", "backend.py", "turnstile.py") as strike:
                store.add_user_message("a", "struck")
            assert backend.admit(wait=False), strike.where
            backend.leave()
            return strike.came

        everywhere(once, least=20)


def test_a_read_and_a_write(url: str) -> None:
    """This store and another one go on."""
    with holdfast.connect(url) as store, holdfast.connect(url) as other:
        store.add_user_message("a", "first")

        def once(step: int) -> bool:
            with Strike(step, *LENDING) as strike:
                store.get_chat_history("a")
                store.add_user_message("a", "struck")
            gc.collect(1)  # a loan that was lost goes with the garbage
            within(lambda: store.get_chat_history("a"), strike.where)
            within(lambda: other.add_user_message("a", "next"), strike.where)
            return strike.came

        everywhere(once, least=20)


def test_conditions_are_not_entered() -> None:
    """A condition's lock is: entering and leaving the condition itself is Python, as Ctrl-C is."""
    for file in Path(SOURCE).rglob("*.py"):
        text = file.read_text("utf-8")
        for name in re.findall(r"(\w+) = threading\.Condition\(", text):
            assert not re.search(rf"with (self\.)?{name}\b", text), f"{name} in {file}"


def test_a_turn() -> None:
    """It is closed, or, where its end had not begun, kept no longer."""

    def once(step: int) -> bool:
        store = holdfast.connect("memory://")
        strike = _strike_a_turn(store, step)
        engine = store._engine
        left = list(engine._beating)
        for live in left:
            live.beat(1e9)
        row = store._reading.live_row("a")
        is_open = row is not None and row.open_turn is not None
        assert is_open == bool(left), strike.where
        assert all(live.fault is not None for live in left), strike.where  # type: ignore[attr-defined]
        assert not left or strike.where in NOT_BEGUN
        within(lambda: store.add_user_message("b", "next"), strike.where)
        within(store.close, strike.where)
        return strike.came

    everywhere(once, least=100)


def _strike_a_turn(store: SessionStore, step: int) -> Strike:
    with Strike(step) as strike, store.turn("a", "One?", flush_interval=0.001) as turn:
        turn.write("yes")
        turn.add_message("assistant", "Yes.")
    return strike


def test_what_others_queued() -> None:
    """Whoever gives the token back calls the committer for those who wait."""

    def once(step: int) -> bool:
        engine = Engine(backend := Joined(), Sources())
        backend.join = lambda: engine.post(_message_to("theirs"), lambda _: settled.set())
        settled = threading.Event()
        with Strike(step, "engine.py") as strike:
            engine.commit(_message_to("mine"), 5)
        assert not backend.joined or settled.wait(NO_END_S), strike.where
        engine.close()
        return strike.came

    everywhere(once, least=20)


class Joined(MemoryBackend):
    """One in which somebody else posts a write while the first is being committed."""

    def __init__(self) -> None:
        super().__init__(Sources())
        self.join: Callable[[], object] = list
        self.joined = False

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Let them post it, then commit."""
        if not self.joined:
            self.join()
            self.joined = True
        return super().commit(writes)


def test_text_that_is_being_posted() -> None:
    """Nothing of it is lost or doubled, and what comes later is posted as before."""

    def once(step: int) -> bool:
        store = holdfast.connect("memory://")
        with store.turn("a", "One?", flush_interval=60) as turn:
            with Strike(step, "streaming.py", "engine.py", "pending.py") as strike:
                turn.write("a" * FLUSH_CHARACTERS)
            taken = FLUSH_CHARACTERS if turn._live._size else 0
            for _ in range(2):
                turn.write("b" * FLUSH_CHARACTERS)
                within(lambda: _until_settled(store), strike.where)
        (_, said) = store.get_chat_history("a")
        assert said["content"] == "a" * taken + "b" * 2 * FLUSH_CHARACTERS, strike.where
        store.close()
        return strike.came

    everywhere(once, least=20)


def _until_settled(store: SessionStore) -> bool:
    (live,) = store._engine._beating
    with live._lock:  # type: ignore[attr-defined]
        return bool(live._change.wait_for(lambda: not live._posted, NO_END_S))  # type: ignore[attr-defined]


@pytest.mark.parametrize("others", [False, True], ids=["first", "later"])
def test_a_write_that_waits(*, others: bool) -> None:
    """Where another process keeps its caller waiting, it is taken back, and no other write is."""

    def once(step: int) -> bool:
        backend = GatedBackend()
        engine = Engine(backend, Sources())
        backend.gate.clear()
        backend.admits = False
        if others:
            engine.post(_message_to("theirs"), lambda _: None)
        with Strike(step, "engine.py", "pending.py") as strike, contextlib.suppress(Unavailable):
            engine.commit(_message_to("given up"), 0.01)
        queued = [p.write.session_id for p in engine._queue if p.state is State.QUEUED]
        backend.admits = True
        backend.gate.set()
        engine.close()
        theirs = ["theirs"] * others
        assert (queued, backend.batches) == (theirs, [theirs] * others), strike.where
        return strike.came

    everywhere(once, least=20)


def test_a_task() -> None:
    """Ctrl-C that meets a task whom another process keeps waiting leaves nothing queued."""

    def once(step: int) -> bool:
        backend = GatedBackend()
        engine = Engine(backend, Sources())
        backend.gate.clear()
        backend.admits = False
        with pytest.raises((KeyboardInterrupt, Unavailable)):
            asyncio.run(given_up(engine, step))
        queued = [p for p in engine._queue if p.state is State.QUEUED]
        backend.admits = True
        backend.gate.set()
        engine.close()
        assert (queued, backend.batches) == ([], []), found[-1].where
        return found[-1].came

    async def given_up(engine: Engine, step: int) -> None:
        with Strike(step, "engine.py", "pending.py") as strike:
            found.append(strike)
            await engine.commit_async(_message_to("given up"), 0.01)
        raise KeyboardInterrupt

    found: list[Strike] = []
    everywhere(once, least=10)


def test_a_turn_that_was_dropped() -> None:
    """What nobody can leave any more, such as a lost task's turn, is left to its lease."""

    async def lose() -> None:
        store = AsyncSessionStore(
            Engine(MemoryBackend(Sources()), Sources()), "default", Sources(), 5
        )
        turn = await store.turn("a", "One?", flush_interval=60).__aenter__()
        live = turn._live
        assert not live.stranded()
        del turn
        live.beat(1e6)
        assert isinstance(live.fault, HoldfastError)
        await store.close()

    asyncio.run(lose())


def _message_to(session_id: str) -> Write:
    said = new_entry(EntryKind.MESSAGE, [b'{"role":"user","content":"x"}'])
    return Write(tenant="default", session_id=session_id, kind=WriteKind.ADD, entries=(said,))
