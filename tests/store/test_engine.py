"""What the engine promises to callers that share it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

import holdfast
from holdfast import AsyncSessionStore, SessionStore
from holdfast.errors import Conflict, HoldfastError, InvalidMessage, OutcomeUnknown, Unavailable
from holdfast.model.write import Write
from holdfast.store.backend import Outcome
from holdfast.store.engine import Engine
from holdfast.store.pending import AsyncPending, Pending, State
from holdfast.store.sources import Sources
from tests.store.opening import GatedBackend, Sluice

PATIENCE_S = 60.0


@pytest.fixture
def backend() -> GatedBackend:
    """A backend whose commits a test holds up."""
    return GatedBackend()


@pytest.fixture
def engine(backend: GatedBackend) -> Iterator[Engine]:
    """An engine over it."""
    engine = Engine(backend, Sources())
    yield engine
    backend.failure = None
    backend.admits = True
    backend.gate.set()
    engine.close()


@pytest.fixture
def store(engine: Engine) -> SessionStore:
    """The synchronous face of that engine."""
    return SessionStore(engine, "default", Sources(), PATIENCE_S)


def asynchronous(engine: Engine, timeout_s: float = PATIENCE_S) -> AsyncSessionStore:
    """Return the asynchronous face of that engine."""
    return AsyncSessionStore(engine, "default", Sources(), timeout_s)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread is about to do."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.001)


def expire_in_flight(monkeypatch: pytest.MonkeyPatch, session_id: str) -> None:
    """Let deadlines of a session's writes pass only once their batch has begun."""
    await_outcome, expire_async = Engine._await_outcome, Engine._expire_async

    def once_begun(pending: Pending | AsyncPending) -> None:
        if pending.write.session_id == session_id:
            until(lambda: pending.state is not State.QUEUED)

    def await_outcome_once_begun(engine: Engine, pending: Pending) -> Outcome:
        once_begun(pending)
        return await_outcome(engine, pending)

    def expire_once_begun(engine: Engine, pending: AsyncPending) -> None:
        once_begun(pending)
        expire_async(engine, pending)

    monkeypatch.setattr(Engine, "_await_outcome", await_outcome_once_begun)
    monkeypatch.setattr(Engine, "_expire_async", expire_once_begun)


@contextlib.contextmanager
def a_batch_in_flight(backend: GatedBackend, store: SessionStore) -> Iterator[Future[object]]:
    """Hold the gate shut with one write inside, so that whatever comes must queue."""
    backend.gate.clear()
    backend.entered.clear()
    with ThreadPoolExecutor(1) as pool:
        first: Future[object] = pool.submit(store.add_user_message, "first", "in flight")
        backend.entered.wait()
        try:
            yield first
        finally:
            backend.gate.set()
            first.result()


def test_a_lone_caller_commits_on_its_own_thread(
    backend: GatedBackend, store: SessionStore
) -> None:
    """One caller pays no hand-over: no other thread is even started."""
    before = threading.active_count()
    for number in range(20):
        store.add_user_message("a", str(number))
    assert set(backend.threads) == {threading.get_ident()}
    assert threading.active_count() == before


def test_concurrent_callers_share_a_commit(
    backend: GatedBackend, store: SessionStore, engine: Engine
) -> None:
    """Whoever arrives during a commit goes into the next one, together."""
    with ThreadPoolExecutor(40) as pool, a_batch_in_flight(backend, store):
        others = [pool.submit(store.add_user_message, f"s{n}", "hello") for n in range(40)]
        until(lambda: len(engine._queue) == 40)
        backend.gate.set()
        for other in others:
            other.result()
    assert backend.batches[0] == ["first"]
    assert sorted(backend.batches[1]) == sorted(f"s{n}" for n in range(40))
    assert len(backend.batches) == 2


def test_tasks_do_not_cost_threads(tmp_path: Path) -> None:
    """512 tasks that write and read at once run on one committer and four reader threads."""
    most = 0

    async def one(store: AsyncSessionStore, number: int) -> None:
        nonlocal most
        for _ in range(4):
            await store.add_user_message(f"s{number % 8}", "hello")
            most = max(most, threading.active_count())
        await store.get_chat_history(f"s{number % 8}", 3)
        most = max(most, threading.active_count())

    async def run() -> None:
        async with holdfast.connect_async(str(tmp_path / "a.db")) as store:
            await asyncio.gather(*(one(store, number) for number in range(512)))
            total = sum([len(await store.get_chat_history(f"s{n}")) for n in range(8)])
            assert total == 512 * 4

    before = threading.active_count()
    asyncio.run(run())
    # connect_async opens the store on a thread of asyncio's own pool, which keeps it.
    assert most <= before + 1 + 4 + 1


def test_tasks_are_woken_once_a_batch(
    backend: GatedBackend, engine: Engine, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand tasks that share a commit cost their event loop one wake-up."""

    async def run() -> int:
        loop = asyncio.get_running_loop()
        wakes = 0
        wake = loop.call_soon_threadsafe

        def counting(*arguments: object, **options: object) -> asyncio.Handle:
            nonlocal wakes
            wakes += 1
            return wake(*arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
        face = asynchronous(engine)
        with a_batch_in_flight(backend, store):
            tasks = [asyncio.create_task(face.add_user_message("t", str(n))) for n in range(100)]
            await asyncio.sleep(0)
            backend.gate.set()
            await asyncio.gather(*tasks)
        return wakes

    assert asyncio.run(run()) == 1


def test_a_sync_call_on_an_event_loops_thread_does_not_commit_there(
    backend: GatedBackend, store: SessionStore
) -> None:
    """A blocking call inside a coroutine is queued: the committer's fsync is not the loop's."""

    async def run() -> int:
        store.add_user_message("a", "from a coroutine")
        return threading.get_ident()

    assert asyncio.run(run()) not in backend.threads
    assert len(store.get_chat_history("a")) == 1


def test_a_bad_write_fails_alone(
    backend: GatedBackend, store: SessionStore, engine: Engine
) -> None:
    """In one batch each write has its own outcome."""
    with ThreadPoolExecutor(3) as pool, a_batch_in_flight(backend, store):
        good = pool.submit(store.add_user_message, "a", "good")
        bad = pool.submit(
            store.add_messages, "first", [{"role": "user", "content": "x"}], expected_revision=0
        )
        until(lambda: len(engine._queue) == 2)
        backend.gate.set()
        assert good.result().revision > 0
        with pytest.raises(Conflict):
            bad.result()
    assert len(backend.batches) == 2


def test_a_failed_commit_fails_every_writer_in_it(
    backend: GatedBackend, store: SessionStore, engine: Engine
) -> None:
    """All get the same truth, each as an exception of its own."""
    with ThreadPoolExecutor(3) as pool, a_batch_in_flight(backend, store) as first:
        others = [pool.submit(store.add_user_message, "a", str(n)) for n in range(3)]
        until(lambda: len(engine._queue) == 3)
        backend.gate.set()
        first.result()
        backend.failure = OutcomeUnknown("the disk did not answer")
    raised = [other.exception() for other in others if other.exception() is not None]
    assert all(isinstance(error, OutcomeUnknown) for error in raised)
    assert len({id(error) for error in raised}) == len(raised)


def test_a_deadline_that_passes_in_the_queue_means_not_written(
    backend: GatedBackend, store: SessionStore, engine: Engine
) -> None:
    """`Unavailable` is certain: the write was taken out of the queue."""
    hasty = SessionStore(engine, "default", Sources(), timeout_s=0.02)
    with a_batch_in_flight(backend, store), pytest.raises(Unavailable) as raised:
        hasty.add_user_message("a", "too late")
    assert raised.value.code == "deadline"
    store.add_user_message("b", "afterwards")
    assert not store.session_exists("a")
    assert all("a" not in batch for batch in backend.batches)


@pytest.mark.parametrize("backend", [Sluice()], ids=["sluice"])
def test_a_deadline_that_passes_in_flight_means_unknown(
    backend: Sluice, engine: Engine, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once its batch has started only the batch knows, and the caller is told so."""
    expire_in_flight(monkeypatch, "a")
    hasty = SessionStore(engine, "default", Sources(), timeout_s=0.02)
    with ThreadPoolExecutor(1) as pool, a_batch_in_flight(backend, store) as first:
        late = pool.submit(hasty.add_user_message, "a", "in flight, too")
        until(lambda: len(engine._queue) == 1)
        backend.gate.set()  # for the first alone
        first.result()
        assert isinstance(late.exception(), OutcomeUnknown)
    until(lambda: store.session_exists("a"))


def test_a_sync_caller_in_flight_is_told_that_nobody_knows(
    backend: GatedBackend, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The committer's batch stands at the gate, the caller's deadline passes: `OutcomeUnknown`."""
    expire_in_flight(monkeypatch, "a")

    async def run() -> None:
        hasty = SessionStore(engine, "default", Sources(), timeout_s=0.02)
        with pytest.raises(OutcomeUnknown):
            hasty.add_user_message("a", "in flight")  # on a loop's thread, so it queues

    backend.gate.clear()
    asyncio.run(run())
    backend.gate.set()
    until(lambda: backend.read_session("default", "a") is not None)


def test_an_async_deadline_tells_the_same_truth(
    backend: GatedBackend, engine: Engine, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queued: `Unavailable` and never written; in flight: `OutcomeUnknown`."""
    expire_in_flight(monkeypatch, "in flight")

    async def run() -> None:
        hasty = asynchronous(engine, timeout_s=0.02)
        with a_batch_in_flight(backend, store), pytest.raises(Unavailable):
            await hasty.add_user_message("queued", "x")
        backend.gate.clear()
        with pytest.raises(OutcomeUnknown):
            await hasty.add_user_message("in flight", "x")
        backend.gate.set()

    asyncio.run(run())
    until(lambda: store.session_exists("in flight"))
    assert not store.session_exists("queued")


def test_a_task_cancelled_in_the_queue_has_not_written(
    backend: GatedBackend, engine: Engine, store: SessionStore
) -> None:
    """Cancelling takes the write out of the queue."""

    async def run() -> None:
        face = asynchronous(engine)
        with a_batch_in_flight(backend, store):
            task = asyncio.create_task(face.add_user_message("cancelled", "x"))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await face.add_user_message("afterwards", "x")

    asyncio.run(run())
    assert not store.session_exists("cancelled")


def test_a_task_cancelled_in_flight_is_told_what_became_of_its_write(
    backend: GatedBackend, engine: Engine, store: SessionStore
) -> None:
    """The cancellation waits for the batch, and says that the write is there."""

    async def run() -> None:
        face = asynchronous(engine)
        backend.gate.clear()
        backend.entered.clear()
        task = asyncio.create_task(face.add_user_message("cancelled", "x"))
        await asyncio.to_thread(backend.entered.wait)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        backend.gate.set()
        with pytest.raises(asyncio.CancelledError, match="the write is committed"):
            await task

    asyncio.run(run())
    assert store.session_exists("cancelled")


def test_ctrl_c_takes_a_queued_write_back(
    backend: GatedBackend, engine: Engine, store: SessionStore
) -> None:
    """What its caller gave up is not written behind its back."""
    with a_batch_in_flight(backend, store):

        def interrupt() -> None:
            until(lambda: len(engine._queue) == 1)
            os.kill(os.getpid(), signal.SIGINT)

        helper = threading.Thread(target=interrupt)
        helper.start()
        with pytest.raises(KeyboardInterrupt):
            store.add_user_message("given up", "x")
        helper.join()
    assert not store.session_exists("given up")


def test_closing_commits_what_is_queued(
    backend: GatedBackend, engine: Engine, store: SessionStore
) -> None:
    """Close drains: every caller that was let in gets its answer; later ones are refused."""
    with ThreadPoolExecutor(12) as pool, a_batch_in_flight(backend, store):
        others = [pool.submit(store.add_user_message, f"s{n}", "x") for n in range(10)]
        until(lambda: len(engine._queue) == 10)
        closing = pool.submit(store.close)
        until(lambda: engine._closed)
        assert not closing.done()
        backend.gate.set()
        closing.result()
        assert all(other.result().revision for other in others)
    with pytest.raises(Unavailable) as raised:
        store.add_user_message("late", "x")
    assert raised.value.code == "closed"
    with pytest.raises(Unavailable):
        store.get_chat_history("late")
    store.close()


def test_closing_does_not_wait_for_a_process_that_hangs(
    backend: GatedBackend, engine: Engine
) -> None:
    """With all callers gone, a committer that stands in line behind a frozen process is left."""
    backend.gate.clear()
    backend.admits = False  # somebody else's turn, for ever
    hasty = SessionStore(engine, "default", Sources(), timeout_s=0.02)
    with pytest.raises(Unavailable):
        hasty.add_user_message("a", "x")
    hasty.close()
    assert not backend.gate.is_set()


def test_an_unforeseen_failure_reaches_whoever_waits(backend: GatedBackend, engine: Engine) -> None:
    """A bug below the committer must not leave its callers waiting for ever."""

    async def run() -> None:
        backend.failure = RuntimeError("a bug")
        with pytest.raises(OutcomeUnknown, match="a bug"):
            await asynchronous(engine).add_user_message("a", "x")
        backend.failure = None
        await asynchronous(engine).add_user_message("a", "x")

    asyncio.run(run())


def test_invalid_arguments_never_reach_the_queue(
    backend: GatedBackend, store: SessionStore
) -> None:
    """A message that cannot be stored is refused before anything is sent."""
    with pytest.raises(InvalidMessage):
        store.add_user_message("a", float("nan"))
    assert backend.batches == []
    assert issubclass(InvalidMessage, HoldfastError)


def test_a_cancellation_that_meets_the_deadline_is_a_cancellation(
    backend: GatedBackend, engine: Engine, store: SessionStore
) -> None:
    """A cancelled task ends cancelled, whichever came first, and knows: nothing was written."""

    async def run() -> None:
        hasty = asynchronous(engine, timeout_s=0.3)
        with a_batch_in_flight(backend, store):
            task = asyncio.create_task(hasty.add_user_message("late", "x"))
            await asyncio.sleep(0)
            pending = next(p for p in engine._queue if p.write.session_id == "late")
            engine._expire_async(pending)  # type: ignore[arg-type]
            task.cancel()
            with pytest.raises(asyncio.CancelledError, match="nothing was written"):
                await task
            assert task.cancelled()

    asyncio.run(run())
    assert not store.session_exists("late")


def test_a_second_cancellation_waits_as_well(
    backend: GatedBackend, engine: Engine, store: SessionStore
) -> None:
    """However often it is cancelled, a task in flight learns what became of its write."""

    async def run() -> None:
        face = asynchronous(engine)
        backend.gate.clear()
        backend.entered.clear()
        task = asyncio.create_task(face.add_user_message("cancelled", "x"))
        await asyncio.to_thread(backend.entered.wait)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        backend.gate.set()
        with pytest.raises(asyncio.CancelledError, match="the write is committed"):
            await task

    asyncio.run(run())
    assert store.session_exists("cancelled")


def test_without_a_thread_to_commit_on_callers_are_told(
    backend: GatedBackend, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system that gives no more threads means `Unavailable`, and the store lives on."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def run() -> None:
        face = asynchronous(engine)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(Unavailable) as raised:
                await face.add_user_message("a", "x")
            assert raised.value.code == "no_thread"
        await face.add_user_message("a", "x")

    asyncio.run(run())


def test_a_finalizer_that_writes_in_the_middle_of_a_commit_is_refused(
    backend: GatedBackend, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for its own thread for ever."""
    refused: list[HoldfastError] = []
    commit = GatedBackend.commit

    def with_a_finalizer(self: GatedBackend, writes: Sequence[Write]) -> list[Outcome]:
        try:
            store.add_user_message("from a finalizer", "x")
        except Unavailable as error:
            refused.append(error)
        return commit(self, writes)

    monkeypatch.setattr(GatedBackend, "commit", with_a_finalizer)
    store.add_user_message("a", "x")
    assert [error.code for error in refused] == ["reentrant"]
