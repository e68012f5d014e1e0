"""How a batch's threads are woken: each by the one before it, and none depends on one that left."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import pytest

from holdfast import SessionStore
from holdfast.errors import OutcomeUnknown
from holdfast.model.entry import EntryKind
from holdfast.model.write import Write, WriteKind
from holdfast.rules import codec
from holdfast.store.engine import Engine
from holdfast.store.pending import Pending, leave, wake
from holdfast.store.sources import Sources
from tests.store.opening import Sluice
from tests.store.test_engine import expire_in_flight, until

PATIENT_S = 60.0
"""Longer than any test may take: who waits so long was not woken."""


@pytest.fixture
def backend() -> Sluice:
    """A backend whose commits a test lets through one by one."""
    return Sluice()


@pytest.fixture
def engine(backend: Sluice) -> Iterator[Engine]:
    """An engine over it."""
    engine = Engine(backend, Sources())
    yield engine
    backend.gate.set()
    engine.close()


def _write() -> Write:
    entry = codec.new_entry(EntryKind.MESSAGE, [b'{"role": "user", "content": "hello"}'])
    return Write(tenant="default", session_id="a", kind=WriteKind.ADD, entries=(entry,))


def _pendings(count: int) -> list[Pending]:
    """Return writes as threads other than the main one queue them."""
    with ThreadPoolExecutor(1) as pool:
        return [pool.submit(Pending, _write(), 0.0).result() for _ in range(count)]


def _awake(*pendings: Pending) -> list[bool]:
    return [not pending.signal.locked() for pending in pendings]


def test_each_thread_is_woken_by_the_one_before_it(engine: Engine) -> None:
    """One is awake; the next when that one goes on."""
    first, second, third = _pendings(3)
    wake([first, second, third], engine._lock)
    assert _awake(first, second, third) == [True, False, False]
    leave(first, engine._lock)
    assert _awake(first, second, third) == [True, True, False]
    leave(second, engine._lock)
    assert _awake(first, second, third) == [True, True, True]


def test_one_that_left_before_is_passed_over(engine: Engine) -> None:
    """Its deadline passed while the batch was committed, so it will wake nobody."""
    first, second, third = _pendings(3)
    leave(second, engine._lock)
    wake([first, second, third], engine._lock)
    leave(first, engine._lock)
    assert _awake(third) == [True]


def test_one_that_leaves_in_its_turn_wakes_the_next(engine: Engine) -> None:
    """Its deadline passes just before it would have been woken; it is still woken only once."""
    first, second, third = _pendings(3)
    wake([first, second, third], engine._lock)
    leave(second, engine._lock)
    assert _awake(second, third) == [False, True]
    leave(first, engine._lock)
    leave(third, engine._lock)
    assert _awake(first, second, third) == [True, True, True]


def test_the_main_thread_keeps_nobody_waiting(engine: Engine) -> None:
    """It may be in a signal handler: it is woken at once, and wakes nobody."""
    (first, second), main = _pendings(2), Pending(_write(), 0.0)
    wake([main, first, second], engine._lock)
    assert _awake(main, first, second) == [True, True, False]
    leave(main, engine._lock)
    assert _awake(second) == [False]


def test_threads_go_on_when_one_between_them_gave_up(
    backend: Sluice, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three in one batch the second passes its deadline in flight; the others are answered."""
    expire_in_flight(monkeypatch, "a")
    patient = SessionStore(engine, "default", Sources(), PATIENT_S)
    hasty = SessionStore(engine, "default", Sources(), timeout_s=0.02)
    backend.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        alone = pool.submit(patient.add_user_message, "b", "in a batch of its own")
        assert backend.entered.wait(PATIENT_S)
        queued: list[Future[object]] = []
        for number, store in enumerate((patient, hasty, patient), 1):
            queued.append(pool.submit(store.add_user_message, "a", str(number)))
            until(partial(_has_queued, engine, number))
        backend.gate.set()
        alone.result(PATIENT_S)
        assert isinstance(queued[1].exception(PATIENT_S), OutcomeUnknown)
        backend.gate.set()
        queued[0].result(PATIENT_S)
        queued[2].result(PATIENT_S)
    assert [len(batch) for batch in backend.batches] == [1, 3]


def _has_queued(engine: Engine, count: int) -> bool:
    return len(engine._queue) == count


def test_a_group_that_is_broken_off_keeps_nobody_waiting(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that is interrupted with several writes in a batch leaves each of them."""
    waited_for: list[Pending] = []

    def broken_off(pending: Pending) -> None:
        waited_for.extend(one for one in engine._queue if isinstance(one, Pending))
        raise SystemExit

    with engine._lock:  # so nothing is taken from the queue before it is looked at
        monkeypatch.setattr(engine, "_await_outcome", broken_off)
        with pytest.raises(SystemExit):
            engine.commit_together([_write(), _write()], 1.0)
    assert [pending.left for pending in waited_for] == [True, True]
