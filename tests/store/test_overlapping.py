"""What the engine does while a batch is under way that is done elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from holdfast.errors import OutcomeUnknown
from holdfast.model.commit import Commit
from holdfast.model.entry import EntryKind
from holdfast.model.write import Write, WriteKind
from holdfast.rules.codec import new_entry
from holdfast.store.backend import Outcome
from holdfast.store.engine import Engine
from holdfast.store.pending import AnyPending, State
from holdfast.store.sources import Sources
from tests.store.opening import OverlappingBackend
from tests.turns.stage import wait_for


@pytest.fixture
def backend() -> OverlappingBackend:
    """A backend whose commits overlap, and which a test holds up."""
    return OverlappingBackend()


@pytest.fixture
def engine(backend: OverlappingBackend) -> Iterator[Engine]:
    """An engine over it."""
    engine = Engine(backend, Sources())
    yield engine
    backend.gate.set()
    engine.close()


def add(session_id: str) -> Write:
    """A write."""
    said = new_entry(EntryKind.MESSAGE, [b'{"role":"user","content":"x"}'])
    return Write(tenant="default", session_id=session_id, kind=WriteKind.ADD, entries=(said,))


def told(backend: OverlappingBackend, name: str, found: list[Outcome]) -> Callable[[Outcome], None]:
    """Return what takes down the moment at which a write learns its outcome."""

    def settled(outcome: Outcome) -> None:
        backend.events.append(f"told {name}")
        found.append(outcome)

    return settled


def post_two(engine: Engine, backend: OverlappingBackend) -> list[Outcome]:
    """Post a write, and another one while the first is under way; return what they will come to."""
    found: list[Outcome] = []
    backend.gate.clear()
    engine.post(add("a"), told(backend, "a", found))
    assert backend.entered.wait(10)
    engine.post(add("b"), told(backend, "b", found))
    return found


def test_the_next_batch_is_sent_first(engine: Engine, backend: OverlappingBackend) -> None:
    """A batch that is done is told of when the next one is on its way, and does not wait for it."""
    found = post_two(engine, backend)
    done = threading.Event()
    wait_at_gate = backend.gate.wait

    def wait_until_told(timeout: float | None = None) -> bool:
        if backend.events[-1] == "told a":
            done.set()
        return wait_at_gate(timeout)

    backend.gate.wait = wait_until_told  # type: ignore[method-assign]
    backend.gate.set()
    assert done.wait(10)
    wait_for(lambda: len(found) == 2, "both outcomes")
    assert backend.events == ["sent a", "sent b", "told a", "told b"]
    assert all(isinstance(outcome, Commit) for outcome in found)


def test_the_next_batch_has_no_time(engine: Engine, backend: OverlappingBackend) -> None:
    """If the next one never waits, the batch before is told of all the same, and as it was."""
    backend.waits = False
    found = post_two(engine, backend)
    backend.gate.set()
    wait_for(lambda: len(found) == 2, "both outcomes")
    assert backend.events == ["sent a", "sent b", "told a", "told b"]
    assert all(isinstance(outcome, Commit) for outcome in found)


def test_the_next_batch_fails(engine: Engine, backend: OverlappingBackend) -> None:
    """What becomes of the next one is nothing to the batch before."""
    backend.waits = False
    found = post_two(engine, backend)
    commit = backend.commit

    def fail_for_b(writes: list[Write]) -> list[Outcome]:
        backend.failure = RuntimeError("planted") if writes[0].session_id == "b" else None
        return commit(writes)

    backend.commit = fail_for_b  # type: ignore[assignment,method-assign]
    backend.gate.set()
    wait_for(lambda: len(found) == 2, "both outcomes")
    backend.failure = None
    assert isinstance(found[0], Commit)
    assert isinstance(found[1], OutcomeUnknown)


def test_the_next_batch_is_nobodys(
    engine: Engine, backend: OverlappingBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If all of the next one are withdrawn while it is taken, the batch before is told of."""
    found = post_two(engine, backend)
    take_batch = engine._take_batch

    def take_nobody() -> list[AnyPending]:
        monkeypatch.undo()
        with engine._lock:
            for pending in engine._queue:
                pending.state = State.WITHDRAWN
        nobody = take_batch()
        engine.post(add("c"), told(backend, "c", found))
        return nobody

    monkeypatch.setattr(engine, "_take_batch", take_nobody)
    backend.gate.set()
    wait_for(lambda: len(found) == 2, "both outcomes")
    assert backend.events == ["sent a", "told a", "sent c", "told c"]


def test_half_of_a_crowd_at_a_time(engine: Engine, backend: OverlappingBackend) -> None:
    """Of a crowd one half is under way while the other half can come back; of a few all are."""
    backend.gate.clear()
    engine.post(add("first"), lambda _: None)
    assert backend.entered.wait(10)
    rest = [f"s{number}" for number in range(79)]
    answered = threading.Semaphore(0)

    def settled(_: Outcome) -> None:
        answered.release()

    for name in rest:
        engine.post(add(name), settled)
    backend.gate.set()
    for _ in rest:
        assert answered.acquire(timeout=10)
    assert [len(batch) for batch in backend.batches] == [1, 40, 40 - 1]


def test_closing_waits_for_both(engine: Engine, backend: OverlappingBackend) -> None:
    """A store that is closed has told everybody, of the last batch and of the one before."""
    found = post_two(engine, backend)
    threading.Timer(0, backend.gate.set).start()
    engine.close()
    assert len(found) == 2
