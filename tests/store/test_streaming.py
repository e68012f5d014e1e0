"""A running turn as its worker knows it, with writes that fail on the way."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import holdfast
from holdfast.errors import HoldfastError, InvalidMessage, Unavailable
from holdfast.model.entry import EntryKind, NewEntry, TurnEntry
from holdfast.model.turn import Held, Opened
from holdfast.model.usage import TurnStatus, Usage
from holdfast.model.write import Write, WriteKind
from holdfast.store.async_store import AsyncSessionStore
from holdfast.store.backend import Outcome
from holdfast.store.engine import Engine
from holdfast.store.memory import MemoryBackend
from holdfast.store.opening import TurnOptions, TurnRequest
from holdfast.store.pending import PostedPending
from holdfast.store.reading import Reading
from holdfast.store.streaming import MAX_TEXT_BYTES, MAX_UNWRITTEN, RunningTurn
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance import Script
from holdfast.testing.conformance.blocking import LoopThread, blocking
from holdfast.testing.conformance.subject import Face

OPTIONS = TurnOptions(
    key=None, user_id=None, on_busy="reject", timeout_s=1, ttl_s=30, flush_interval_s=0.1
)


class Desk:
    """A turn whose posted writes lie here until the test commits them, or says that they failed."""

    def __init__(self) -> None:
        script = Script()
        self.backend = MemoryBackend(script.sources())
        self.engine = Engine(self.backend, script.sources())
        reading = Reading(self.backend, "default")
        request = TurnRequest(self.engine, reading, ("default", "s"), "Hello", OPTIONS)
        opened = self.commit(request.write())
        assert isinstance(opened, Opened)
        self.posted: list[PostedPending] = []
        self.live = RunningTurn(
            ("default", "s"),
            opened,
            ttl_s=30,
            interval_s=0.1,
            posting=self,
            look=lambda: reading.live_row("s"),
            stamp=lambda: (script.new_id, "now"),
            now=0.0,
        )

    def send(self, posted: PostedPending) -> None:
        """Take a write that is posted."""
        self.posted.append(posted)

    def withdraw(self, posted: PostedPending) -> bool:
        """Say whether it does not lie here."""
        return posted not in self.posted

    def commit(self, write: Write) -> Outcome:
        """Commit a write and return what it came to."""
        (outcome,) = self.backend.commit([write])
        return outcome

    def settle(self) -> None:
        """Commit what was posted first."""
        first = self.posted.pop(0)
        first.settled(self.commit(first.write))

    def fail(self) -> None:
        """Say of what was posted first that it was not written."""
        self.posted.pop(0).settled(Unavailable("the disk is full"))

    def close(self, *, before: Callable[[], None] | None = None) -> None:
        """Close the turn; `before` happens after the closing write was made."""
        write = self.live.closing(TurnStatus.COMPLETED)
        if before is not None:
            before()
        assert isinstance(self.commit(write), Held)

    def calls(self) -> list[str]:
        """The model calls that the log has records of."""
        read = self.backend.read_log("default", "s")
        assert read is not None
        kinds = [row.payload.decode() for row in read.rows if row.kind == EntryKind.USAGE]
        return [payload.split('"')[3] for payload in kinds]


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A turn that was just opened."""
    found = Desk()
    yield found
    found.engine.close()


def test_usage_that_was_not_written(desk: Desk) -> None:
    """Usage that was posted with text that could not be written comes with a later commit."""
    desk.live.add_usage(Usage(call="c1"))
    desk.live.add_text("a")
    desk.live.beat(1.0)
    desk.fail()
    desk.live.add_usage(Usage(call="c2"))
    desk.live.beat(2.0)
    desk.settle()
    assert desk.calls() == ["c1", "c2"]
    desk.close()
    assert desk.calls() == ["c1", "c2"]


def test_usage_with_a_renewal(desk: Desk) -> None:
    """Usage is in the log with the next renewal of the lease, if nothing else is written."""
    desk.live.add_usage(Usage(call="c1"))
    desk.live.beat(20.0)
    desk.settle()
    assert desk.calls() == ["c1"]


def test_a_lease_is_renewed_in_silence(desk: Desk) -> None:
    """A turn that writes nothing renews its lease as often as a third of it is over."""
    renewed: list[int] = []
    for second in range(1, 5 * 30 + 1):
        desk.live.beat(float(second))
        if desk.posted:
            renewed.append(second)
            desk.settle()
    assert renewed == [*range(10, 151, 10)]


@pytest.mark.parametrize("happens", ["settle", "fail", "nothing"])
def test_usage_under_way(desk: Desk, happens: str) -> None:
    """Usage that is under way when the turn closes stands in the log once, whatever becomes."""
    desk.live.add_usage(Usage(call="c1"))
    desk.live.add_text("a")
    desk.live.beat(1.0)
    desk.live.add_usage(Usage(call="c2"))
    fates: dict[str, Callable[[], None] | None] = {
        "settle": desk.settle,
        "fail": desk.fail,
        "nothing": None,
    }
    desk.close(before=fates[happens])
    assert desk.calls() == ["c1", "c2"]


def test_usage_of_a_message_that_was_not_written(desk: Desk) -> None:
    """Usage that was to be written with a message comes with the next one if that failed."""
    desk.live.add_usage(Usage(call="c1"))
    message = {"role": "assistant", "content": "a"}
    write = desk.live.adding(message, b'{"role":"assistant","content":"a"}')
    assert write.kind is WriteKind.TURN
    desk.live.not_written()
    desk.close()
    assert desk.calls() == ["c1"]


def test_closing_while_something_beats() -> None:
    """A store may be closed while a turn is open, at any moment: its thread ends without an error.

    An exception in a thread would fail this test.
    """
    script = Script()
    engine = Engine(MemoryBackend(script.sources()), script.sources())
    beats, closed = threading.Event(), threading.Event()

    failed: list[HoldfastError] = []

    class Late:
        interval_s = 0.1

        def fail(self, error: HoldfastError) -> None:
            failed.append(error)

        def retire(self) -> None:
            pass

        def disown(self) -> None:
            pass

        def beat(self, now: float) -> None:  # noqa: ARG002 - whenever it is
            beats.set()
            assert closed.wait(30)
            write = Write(tenant="default", session_id="s", kind=WriteKind.ADD)
            engine.post(write, lambda _: None)

    engine.attach(Late())
    assert beats.wait(30)
    (committer,) = (t for t in threading.enumerate() if t is engine._committer)
    engine.close()
    closed.set()
    committer.join(30)
    assert not committer.is_alive()
    assert [error.code for error in failed] == ["closed"]


@pytest.mark.parametrize("face", ["sync", "async"])
def test_text_that_finds_no_room_is_refused(
    tmp_path: Path, face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text that the disk does not keep up with raises `Unavailable`, and what was taken is kept."""
    path = tmp_path / "s.db"
    with contextlib.ExitStack() as opened:
        store: SessionStore
        if face == "sync":
            store = opened.enter_context(holdfast.connect(path))
        else:
            loop = LoopThread()
            opened.callback(loop.close)
            store = blocking(loop.run(_connected(path)), loop)
            opened.callback(store.close)
        other = opened.enter_context(
            contextlib.closing(sqlite3.connect(path, isolation_level=None))
        )
        with store.turn("s", "Hello") as turn:
            other.execute("BEGIN IMMEDIATE")
            turn.write("a" * MAX_UNWRITTEN)  # is under way, and no more can be
            turn.write("b" * MAX_UNWRITTEN)
            with monkeypatch.context() as hasty:
                hasty.setattr(store._shell, "_timeout_s", 0.1)
                with pytest.raises(Unavailable, match="no more text") as caught:
                    turn.write("c")
            other.execute("ROLLBACK")
        assert (caught.value.code, caught.value.retryable) == ("deadline", True)
        assert store.get_chat_history("s")[-1]["content"] == (
            "a" * MAX_UNWRITTEN + "b" * MAX_UNWRITTEN
        )


async def _connected(path: Path) -> AsyncSessionStore:
    return await holdfast.connect_async(path)


def test_an_interrupt_while_a_write_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of making a turn's write loses no text: the turn is closed with it."""
    take, hits = RunningTurn._take_usage, iter([True])

    def interrupted(live: RunningTurn) -> list[NewEntry]:
        if next(hits, False):
            raise KeyboardInterrupt
        return take(live)

    monkeypatch.setattr(RunningTurn, "_take_usage", interrupted)
    with holdfast.connect("memory://") as store:
        with contextlib.suppress(KeyboardInterrupt), store.turn("s", "Hello") as turn:
            turn.write("shown")
            turn.add_message("tool", "result", tool_call_id="c")
        assert [m["content"] for m in store.get_messages("s")] == ["Hello", "shown"]
        assert next(hits, None) is None


@pytest.mark.parametrize("chunk", ["x" * 1_000_000, "\n" * 500_000, "é" * 500_000])
def test_more_text_than_fits(chunk: str) -> None:
    """Text beyond what fits into a message is refused, the turn fails, and what fits is kept."""
    with holdfast.connect("memory://") as store:
        with pytest.raises(InvalidMessage):
            stream(store, chunk)
        assert store.get_session("s").status == "idle"
        kept = store.get_messages("s")[-1]
        assert kept["content"] == 16 * chunk
        assert kept["metadata"] == {"state": "interrupted"}
        entry = store.read_entries("s")[-1]
        assert isinstance(entry, TurnEntry)
        assert entry.status == "failed"


def stream(store: SessionStore, chunk: str) -> None:
    """Stream more than 16 MB."""
    with store.turn("s", "Go on") as turn:
        for _ in range(17):
            turn.write(chunk)


def test_as_much_text_as_fits() -> None:
    """What is just not refused is a whole message, and room comes back with the next one."""
    with holdfast.connect("memory://") as store:
        with store.turn("s", "Go on") as turn:
            turn.write("x" * MAX_TEXT_BYTES)
            turn.add_message("user", "More")
            turn.write("x" * MAX_TEXT_BYTES)
        sizes = [len(message["content"]) for message in store.get_messages("s")]
        assert sizes == [5, MAX_TEXT_BYTES, 4, MAX_TEXT_BYTES]
