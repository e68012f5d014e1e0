"""What the engine promises where two batches may be in flight."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from holdfast import AsyncSessionStore, SessionStore
from holdfast.errors import OutcomeUnknown, Unavailable
from holdfast.model.commit import Commit
from holdfast.model.write import Write
from holdfast.store.backend import Outcome
from holdfast.store.engine import Engine
from holdfast.store.memory import MemoryBackend
from holdfast.store.sources import Sources

Place = tuple[str, str]


class TwoLanes(MemoryBackend):
    """A memory backend for two batches at a time, each of which stops at a gate of its sessions."""

    lanes = 2

    def __init__(self) -> None:
        super().__init__(Sources())
        self.change = threading.Condition()
        self.shut: set[str] = set()  # sessions whose batches wait
        self.delay: Callable[[], float] = lambda: 0.0
        self.under_way: list[set[Place]] = []
        self.most = 0
        self.met: list[Place] = []  # sessions that were in two batches at once
        self.batches: list[list[str]] = []
        self.failure: Exception | None = None

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Note who else is in flight, wait, and commit."""
        places = {(write.tenant, write.session_id) for write in writes}
        names = [write.session_id for write in writes]
        with self.change:
            self.met += [place for place in places if any(place in on for on in self.under_way)]
            self.under_way.append(places)
            self.most = max(self.most, len(self.under_way))
            self.batches.append(names)
            self.change.notify_all()
            self.change.wait_for(lambda: not self.shut.intersection(names))
        try:
            time.sleep(self.delay())
            if self.failure is not None:
                raise self.failure
            return super().commit(writes)
        finally:
            with self.change:
                self.under_way.remove(places)

    def open_gates(self) -> None:
        """Let everything through."""
        with self.change:
            self.shut.clear()
            self.change.notify_all()

    def wait_for(self, *sessions: str) -> None:
        """Wait until batches with these sessions are in flight."""
        wanted = {("default", name) for name in sessions}
        with self.change:
            assert self.change.wait_for(lambda: wanted <= set().union(*self.under_way), 10)


@pytest.fixture
def backend() -> TwoLanes:
    """A backend with two lanes."""
    return TwoLanes()


@pytest.fixture
def engine(backend: TwoLanes) -> Iterator[Engine]:
    """An engine over it."""
    engine = Engine(backend, Sources())
    yield engine
    backend.failure = None
    backend.open_gates()
    engine.close()


@pytest.fixture
def store(engine: Engine) -> SessionStore:
    """The synchronous face of that engine."""
    return SessionStore(engine, "default", Sources(), timeout_s=10)


@pytest.mark.parametrize("seed", range(5))
def test_a_sessions_writes_keep_their_order(backend: TwoLanes, engine: Engine, seed: int) -> None:
    """Whatever is in flight for how long, a session's writes are committed as they were sent."""
    chance = random.Random(seed)
    lock = threading.Lock()

    def delay() -> float:
        with lock:
            return chance.choice([0.0, 0.0, 0.001, 0.003])

    backend.delay = delay
    sent: dict[str, list[str]] = {f"s{n}": [] for n in range(7)}

    async def run() -> None:
        face = AsyncSessionStore(engine, "default", Sources(), 10)
        under_way: set[asyncio.Task[object]] = set()
        for number in range(400):
            name = chance.choice(list(sent))
            sent[name].append(str(number))
            under_way.add(asyncio.ensure_future(face.add_user_message(name, str(number))))
            if chance.random() < 0.3:
                await asyncio.sleep(chance.choice([0, 0.001]))
        await asyncio.gather(*under_way)
        for name, texts in sent.items():
            found = await face.get_chat_history(name)
            assert [message["content"] for message in found] == texts

    asyncio.run(run())
    assert backend.met == []
    assert backend.most == 2


def test_a_session_in_flight_lets_others_past(
    backend: TwoLanes, store: SessionStore, engine: Engine
) -> None:
    """Its later writes wait in their place, and those of other sessions go past them."""
    backend.shut.add("slow")
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(store.add_user_message, "slow", "1")
        backend.wait_for("slow")
        second = pool.submit(store.add_user_message, "slow", "2")
        _until(lambda: len(engine._queue) == 1)
        others = [pool.submit(store.add_user_message, f"s{n}", "x") for n in range(8)]
        _until(lambda: sum(other.done() for other in others) >= 7)  # one is too few by itself
        assert not second.done()
        backend.open_gates()
        first.result()
        second.result()
    assert [m["content"] for m in store.get_chat_history("slow")] == ["1", "2"]
    assert backend.met == []


def test_few_wait_for_more(backend: TwoLanes, store: SessionStore, engine: Engine) -> None:
    """Beside a batch in flight single writes do not become batches of their own."""
    backend.shut |= {"first"}
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(store.add_user_message, "first", "x")
        backend.wait_for("first")
        few = [pool.submit(store.add_user_message, f"few{n}", "x") for n in range(7)]
        _until(lambda: len(engine._queue) == 7)
        assert not any(one.done() for one in few)
        few.append(pool.submit(store.add_user_message, "few7", "x"))
        for one in few:
            one.result(10)
        assert not first.done()
        backend.open_gates()
        first.result(10)
    assert sorted(backend.batches[1]) == [f"few{n}" for n in range(8)]


def test_many_share_the_lanes(backend: TwoLanes, engine: Engine) -> None:
    """A crowd that comes at once goes in two batches: one is worked on while the other is made."""

    async def run() -> None:
        face = AsyncSessionStore(engine, "default", Sources(), 10)
        backend.shut |= {"first", "s0", "s39"}
        first = asyncio.create_task(face.add_user_message("first", "x"))
        await asyncio.to_thread(backend.wait_for, "first")
        with engine._lock:  # so that they are there when somebody looks
            crowd = [asyncio.create_task(face.add_user_message(f"s{n}", "x")) for n in range(40)]
            await asyncio.sleep(0)
        await asyncio.to_thread(backend.wait_for, "s0")
        with backend.change:
            backend.shut.remove("first")
            backend.change.notify_all()
        await first
        await asyncio.to_thread(backend.wait_for, "s0", "s39")
        backend.open_gates()
        await asyncio.gather(*crowd)

    asyncio.run(run())
    assert backend.most == 2
    assert backend.met == []


def test_closing_waits_for_both(backend: TwoLanes, store: SessionStore, engine: Engine) -> None:
    """Close drains: what is in flight on either lane, and what is queued behind it."""
    with ThreadPoolExecutor(20) as pool:
        sent = _on_both_lanes(backend, store, pool)
        sent += [pool.submit(store.add_user_message, name, "2") for name in "abc"]
        _until(lambda: len(engine._queue) == 3)
        closing = pool.submit(store.close)
        _until(lambda: engine.closed)
        assert not closing.done()
        backend.open_gates()
        closing.result(10)
        assert all(one.result(0).revision > 0 for one in sent)


def test_ctrl_c_takes_back_what_waits_behind_its_session(
    backend: TwoLanes, store: SessionStore, engine: Engine
) -> None:
    """What its caller gave up is not written once its session is free."""
    backend.shut.add("a")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(store.add_user_message, "a", "1")
        backend.wait_for("a")

        def interrupt() -> None:
            _until(lambda: len(engine._queue) == 1)
            os.kill(os.getpid(), signal.SIGINT)

        pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.add_user_message("a", "given up")
        backend.open_gates()
        first.result()
    store.add_user_message("a", "2")
    assert [m["content"] for m in store.get_chat_history("a")] == ["1", "2"]


def test_cancelled_tasks_are_told_the_truth(backend: TwoLanes, engine: Engine) -> None:
    """Queued behind its session: not written. In flight on either lane: what became of it."""

    async def run() -> None:
        face = AsyncSessionStore(engine, "default", Sources(), 10)
        backend.shut |= {"a", "b"}
        flying = [asyncio.create_task(face.add_user_message("a", "1"))]
        await asyncio.to_thread(backend.wait_for, "a")
        flying += [asyncio.create_task(face.add_user_message(f"b{n}", "1")) for n in range(7)]
        flying.append(asyncio.create_task(face.add_user_message("b", "1")))
        await asyncio.to_thread(backend.wait_for, "b")
        queued = asyncio.create_task(face.add_user_message("a", "2"))
        await asyncio.sleep(0)
        for task in (*flying, queued):
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await queued
        assert not any(task.done() for task in flying)
        backend.open_gates()
        for task in flying:
            with pytest.raises(asyncio.CancelledError, match="the write is committed"):
                await task
        assert len(await face.get_chat_history("a")) == 1

    asyncio.run(run())


def test_a_failure_is_its_own_batchs(
    backend: TwoLanes, store: SessionStore, engine: Engine
) -> None:
    """A batch that fails as a whole says nothing about the one beside it."""
    backend.shut |= {"a"}
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(store.add_user_message, "a", "x")
        backend.wait_for("a")
        backend.failure = OutcomeUnknown("the server did not answer")
        others = [pool.submit(store.add_user_message, f"b{n}", "x") for n in range(8)]
        for other in others:
            with pytest.raises(OutcomeUnknown):
                other.result(10)
        backend.failure = None
        backend.open_gates()
        assert first.result().revision > 0


def test_a_finalizer_cannot_write_on_the_other_lane(
    backend: TwoLanes, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread has a connection in mid-use: it is refused, as with one lane."""
    codes: list[str | None] = []
    commit = TwoLanes.commit

    def with_a_finalizer(self: TwoLanes, writes: Sequence[Write]) -> list[Outcome]:
        try:
            store.add_user_message("from a finalizer", "x")
        except Unavailable as error:
            codes.append(error.code)
        return commit(self, writes)

    monkeypatch.setattr(TwoLanes, "commit", with_a_finalizer)
    store.add_user_message("a", "x")
    assert codes == ["reentrant"]


def test_forking_waits_for_both(backend: TwoLanes, store: SessionStore, engine: Engine) -> None:
    """No batch is in flight while the process forks, and both lanes go on after it."""
    with ThreadPoolExecutor(20) as pool:
        sent = _on_both_lanes(backend, store, pool)
        forking = pool.submit(engine.before_fork)
        _until(lambda: engine._forking is not None)
        sent += [pool.submit(store.add_user_message, "c", "x")]
        assert not forking.done()
        backend.open_gates()
        forking.result(10)
        assert backend.under_way == []
        assert not sent[-1].done()
        engine.after_fork_in_parent()
        for one in sent:
            one.result(10)


def _on_both_lanes(
    backend: TwoLanes, store: SessionStore, pool: ThreadPoolExecutor
) -> list[Future[Commit]]:
    """Have a batch in flight on each lane, with the session `a` in one and `b` in the other."""
    backend.shut |= {"a", "b"}
    sent = [pool.submit(store.add_user_message, "a", "1")]
    backend.wait_for("a")
    names = ["b", *(f"b{n}" for n in range(7))]
    sent += [pool.submit(store.add_user_message, name, "1") for name in names]
    backend.wait_for("a", "b")
    return sent


def _until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread is about to do."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.001)
