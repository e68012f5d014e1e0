"""What the engine does with writes that others are in the way of, just now."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast import AsyncSessionStore, SessionStore
from holdfast.errors import Unavailable
from holdfast.model.entry import EntryKind
from holdfast.model.write import Write, WriteKind
from holdfast.rules.codec import new_entry
from holdfast.store.backend import Outcome
from holdfast.store.engine import MAX_BATCH, Engine
from holdfast.store.memory import MemoryBackend
from holdfast.store.sources import Sources
from tests.turns.stage import wait_for

TRY_S = 0.02
PATIENCE_S = 60.0
FOREVER_S = 3600.0
"""Longer than any test may take: whoever waits so long hangs."""


class _Contended(MemoryBackend):
    """A store in memory in which others hold a session for as long as a test wants."""

    def __init__(self) -> None:
        super().__init__(Sources())
        self.held = ""
        self.tries = 0
        self.clock_s: float | None = None

    def monotonic_s(self) -> float:
        """Return the machine's time, or else one in which each try takes a second."""
        return time.monotonic() if self.clock_s is None else self.clock_s

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Do the writes, but for those of the session that is held."""
        if not any(write.session_id == self.held for write in writes):
            return super().commit(writes)
        if self.clock_s is None:
            threading.Event().wait(TRY_S)
        else:
            self.clock_s += 1.0
        self.tries += 1
        return [
            Unavailable("held", code="contended")
            if write.session_id == self.held
            else super(_Contended, self).commit([write])[0]
            for write in writes
        ]


@pytest.fixture
def backend() -> _Contended:
    """A backend in which a session can be held."""
    return _Contended()


@pytest.fixture
def engine(backend: _Contended) -> Iterator[Engine]:
    """An engine over it."""
    engine = Engine(backend, Sources(monotonic_s=backend.monotonic_s))
    yield engine
    backend.held = ""
    engine.close()


def _said(store: SessionStore, session_id: str) -> list[object]:
    return [message["content"] for message in store.get_chat_history(session_id)]


def _add(session_id: str, text: str) -> Write:
    line = f'{{"role":"user","content":"{text}"}}'.encode()
    said = new_entry(EntryKind.MESSAGE, [line])
    return Write(tenant="default", session_id=session_id, kind=WriteKind.ADD, entries=(said,))


def test_others_go_on(backend: _Contended, engine: Engine) -> None:
    """More writes than a batch takes wait for a session, and those of others are done."""
    store = SessionStore(engine, "default", Sources(), timeout_s=PATIENCE_S)
    store.add_user_message("held", "before")
    backend.held = "held"
    texts = [f"{number}" for number in range(2 * MAX_BATCH)]
    for text in texts:
        engine.post(_add("held", text), lambda _: None)
    for number in range(5):
        store.add_user_message("free", f"{number}")
    assert _said(store, "held") == ["before"]
    backend.held = ""
    store.add_user_message("held", "after")
    assert _said(store, "held") == ["before", *texts, "after"], "in the order of posting"


def test_a_caller_learns_in_time_that_nothing_was_written(
    backend: _Contended, engine: Engine
) -> None:
    """Whoever waits for a session until the deadline knows that nothing was or will be written."""
    backend.clock_s = 0.0
    store = SessionStore(engine, "default", Sources(), PATIENCE_S)
    store.add_user_message("held", "before")
    backend.held = "held"
    with ThreadPoolExecutor(4) as pool:
        for waiting in [pool.submit(store.add_user_message, "held", "late") for _ in range(4)]:
            error = waiting.exception(2 * PATIENCE_S)
            assert isinstance(error, Unavailable)
            assert error.code in ("contended", "deadline")
    backend.held = ""
    store.add_user_message("held", "after")
    assert _said(store, "held") == ["before", "after"]


def test_what_is_cancelled_is_not_tried_again(backend: _Contended, engine: Engine) -> None:
    """A task that is cancelled while its write is tried learns that it was not written."""
    backend.held = "held"

    async def run() -> None:
        store = AsyncSessionStore(engine, "default", Sources(), FOREVER_S)
        waiting = asyncio.create_task(store.add_user_message("held", "cancelled"))
        await asyncio.to_thread(wait_for, lambda: backend.tries > 2, "trying again")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(run())
    backend.held = ""
    store = SessionStore(engine, "default", Sources(), timeout_s=PATIENCE_S)
    store.add_user_message("held", "after")
    assert _said(store, "held") == ["after"]


def test_closing_waits_for_what_waits(backend: _Contended, engine: Engine) -> None:
    """A store that is closed first does what was posted, once nobody is in the way any more."""
    store = SessionStore(engine, "default", Sources(), timeout_s=PATIENCE_S)
    outcomes: list[Outcome] = []
    backend.held = "held"
    engine.post(_add("held", "posted"), outcomes.append)
    wait_for(lambda: backend.tries > 1, "trying")
    closing = threading.Thread(target=store.close)
    closing.start()
    wait_for(lambda: engine.closed, "closing")
    backend.held = ""
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    assert not isinstance(outcomes[0], Exception)
