"""What turns should do, step by step: a plain model, written from the small print alone."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from holdfast.errors import LeaseLost, Purged, SessionBusy
from holdfast.model.session import SessionRow
from holdfast.store.backend import Backend
from holdfast.store.engine import Engine
from holdfast.store.sources import Sources
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance import Script
from tests.model.driving import Driven, drive

TTL_MS = 5_000
KEYS = ("k", "l")

engines = st.integers(0, 1)
numbers = st.integers(0, 9)


@dataclass
class Said:
    """One message of a turn: in which attempt, by whom, and whether it was cut off."""

    attempt: int
    role: str
    text: str
    generation: int  # in which the log holds it as this turn's
    cut: bool = False


@dataclass
class Record:
    """What a turn should be."""

    id: str
    prompt: str
    generation: int  # in which it began
    attempt: int = 1
    status: str = "running"
    repeats: bool = False
    said: list[Said] = field(default_factory=list)

    def whole(self, final: int = 0) -> list[str]:
        """What it said, as an attempt is told, or as whoever repeats it is given back."""
        return [one.text for one in self.said if not one.cut or one.attempt == final]


@dataclass
class Worker:
    """Whoever runs a turn, or thinks so."""

    driven: Driven
    record: Record
    life: int
    fence: int
    flushed: str = ""
    unwritten: str = ""
    usage: int = 0
    streamed: bool = False  # since its last usage
    told: bool = False  # that it was asked to stop

    def lost(self) -> bool:
        """Whether it has learned already that it lost the lease."""
        return isinstance(self.driven.live.fault, LeaseLost)


class Turning(RuleBasedStateMachine):
    """One session, its turns, and workers that come and go."""

    engine_count: ClassVar[int] = 1

    def backend(self, folder: Path, sources: Sources) -> Backend:
        """A backend on this example's data."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.script = Script()
        self.closing = contextlib.ExitStack()
        folder = Path(self.closing.enter_context(tempfile.TemporaryDirectory()))
        self.stores: list[SessionStore] = []
        self.backends: list[Backend] = []
        for _ in range(self.engine_count):
            backend = self.backend(folder, self.script.sources())
            backend.open()
            engine = Engine(backend, self.script.sources())
            self.closing.callback(engine.close)
            self.backends.append(backend)
            self.stores.append(SessionStore(engine, "default", self.script.sources(), 30))
        self.workers: list[Worker] = []
        self.holder: Worker | None = None
        self.number = self.life = self.last_fence = 0
        self.forget()

    def forget(self) -> None:
        """Begin with no session."""
        self.items: list[tuple[str, str | None]] = []  # text, and whose turn it is part of
        self.holder = None
        self.until = self.asked = 0
        self.keys: dict[str, Record] = {}
        self.requests = self.unknown = 0
        self.generation = self.floor = 0
        self.exists = False

    def teardown(self) -> None:
        """Close what the example opened."""
        self.closing.close()

    def store(self, engine: int) -> SessionStore:
        """One of the stores on the same data."""
        return self.stores[engine % self.engine_count]

    def text(self, letter: str) -> str:
        """A text that nobody said yet."""
        self.number += 1
        return f"{letter}{self.number} "

    def row(self) -> SessionRow:
        """The session's row as it is stored."""
        row = self.backends[0].read_session("default", "s")
        assert row is not None
        return row

    def alive(self) -> bool:
        """Whether the holder's lease holds; a clock that went back ends it too."""
        return self.script.now_ms < self.until <= self.script.now_ms + TTL_MS

    # What holds after every step

    @invariant()
    def agrees(self) -> None:
        """History, open turn, usage and checks are what the model says."""
        store = self.stores[-1]
        assert store.session_exists("s") == self.exists
        if not self.exists:
            return
        assert [m["content"] for m in store.get_chat_history("s")] == [t for t, _ in self.items]
        row = self.row()
        holder = self.holder
        assert row.open_turn == (holder and holder.record.id)
        assert row.turn_status == ("running" if holder else None)
        if holder is not None:
            assert (row.fence, row.lease_until) == (holder.fence, self.until)
        usage = store.stats("s").usage
        assert (usage.requests, usage.unknown) == (self.requests, self.unknown)
        assert store.verify().problems == []

    # Opening

    @rule(key=st.none() | st.sampled_from(KEYS), engine=engines)
    def open(self, key: str | None, engine: int) -> None:
        """Open a turn: busy, given back, taken over, repeated or new."""
        prompt = self.text("p")
        turn = self.store(engine).turn("s", prompt, key=key, on_busy="reject", ttl=TTL_MS / 1000)
        record = self.keys.get(key) if key else None
        done = record is not None and record.status != "running" and not record.repeats
        if self.holder is not None and self.alive() and not done:
            with pytest.raises(SessionBusy) as caught:
                turn.__enter__()
            assert caught.value.turn == self.holder.record.id
            return
        if done and record is not None and record.generation < self.floor:
            with pytest.raises(Purged):
                turn.__enter__()
            return
        driven = drive(turn, self.store(engine))
        if done and record is not None:
            assert (turn.replayed, turn.id, turn.status) == (True, record.id, record.status)
            assert [m["content"] for m in turn.messages] == record.whole(record.attempt)
            turn.__exit__(None, None, None)
            return
        self.exists = True
        self.abandon()
        if record is None:
            record = Record(turn.id, prompt, self.generation)
            self.items.append((prompt, turn.id))
        else:
            record.attempt, record.status, record.repeats = record.attempt + 1, "running", False
            if record.prompt not in [text for text, _ in self.items]:
                record.prompt = prompt
                self.items.append((prompt, turn.id))
        if key:
            self.keys[key] = record
        assert (turn.replayed, turn.id, turn.attempt) == (False, record.id, record.attempt)
        told = [m["content"] for m in turn.history]
        assert told[-1 - len(record.whole()) :] == [record.prompt, *record.whole()]
        fence = self.row().fence
        assert fence > self.last_fence
        self.last_fence = fence
        self.holder = Worker(driven, record, self.life, fence)
        self.until = self.script.now_ms + TTL_MS
        self.workers.append(self.holder)

    def abandon(self) -> None:
        """Close the open turn for its worker, if there is one."""
        if self.holder is None:
            return
        worker, self.holder = self.holder, None
        if worker.flushed:
            self.say(worker, "assistant", worker.flushed, cut=True)
        self.requests += worker.streamed
        self.unknown += worker.streamed
        worker.record.status, worker.record.repeats = "interrupted", True

    def say(self, worker: Worker, role: str, text: str, *, cut: bool = False) -> None:
        """Add a message of a turn."""
        worker.record.said.append(Said(worker.record.attempt, role, text, self.generation, cut))
        self.items.append((text, worker.record.id))

    # Inside a turn

    def worker(self, number: int) -> Worker:
        """One of the workers, gone or not."""
        return self.workers[number % len(self.workers)]

    def committed(self, worker: Worker) -> None:
        """A write of the holder is durable: its lease and its usage with it."""
        self.until = self.script.now_ms + TTL_MS
        self.requests += worker.usage
        worker.streamed = worker.streamed and not worker.usage
        worker.usage = 0
        worker.told = worker.told or self.asked == worker.fence

    @precondition(lambda self: self.workers)
    @rule(number=numbers, twice=st.booleans())
    def write(self, *, number: int, twice: bool) -> None:
        """Stream text, and let a beat write it: to a lease that was lost it cannot."""
        worker = self.worker(number)
        if worker.lost():
            with pytest.raises(LeaseLost):
                worker.driven.turn.write("x")
            return
        for _ in range(1 + twice):
            worker.unwritten += (text := self.text("t"))
            worker.driven.turn.write(text)
        worker.driven.flush()
        if worker is not self.holder:
            assert worker.lost()
            assert worker.driven.turn.interrupted
            return
        worker.flushed += worker.unwritten
        worker.unwritten, worker.streamed = "", True
        self.committed(worker)

    @precondition(lambda self: self.workers)
    @rule(number=numbers, role=st.sampled_from(["assistant", "user"]), streamed=st.booleans())
    def add_message(self, *, number: int, role: str, streamed: bool) -> None:
        """Add a whole message; an assistant's takes the place of what was streamed of it."""
        worker, text = self.worker(number), self.text("m")
        if streamed and not worker.lost():
            worker.unwritten += (more := self.text("t"))
            worker.driven.turn.write(more)
        if worker is not self.holder:
            with pytest.raises(LeaseLost):
                worker.driven.turn.add_message(role, text)
            return
        worker.driven.turn.add_message(role, text)
        before = worker.flushed + worker.unwritten
        if before and role != "assistant":
            self.say(worker, "assistant", before)
        self.say(worker, role, text)
        worker.flushed = worker.unwritten = ""
        self.committed(worker)

    @precondition(lambda self: self.holder is not None)
    @rule()
    def use(self) -> None:
        """Record what a model call used; it joins the next commit."""
        assert self.holder is not None
        self.holder.driven.turn.record_usage(input_tokens=1)
        self.holder.usage += 1

    @precondition(lambda self: self.workers)
    @rule(number=numbers, how=st.sampled_from(["complete", "fail", "cancel"]))
    def leave(self, number: int, how: str) -> None:
        """Leave a turn's block; whoever lost the lease learns of it."""
        worker = self.worker(number)
        self.workers.remove(worker)
        turn = worker.driven.turn
        error = {"fail": RuntimeError("boom"), "cancel": KeyboardInterrupt()}.get(how)
        if worker is not self.holder and error is None:
            with pytest.raises(LeaseLost):
                turn.__exit__(None, None, None)
            return
        turn.__exit__(type(error) if error else None, error, None)
        if worker is not self.holder:
            return
        record, self.holder = worker.record, None
        stopped = how == "complete" and worker.told
        record.status = {"fail": "failed", "cancel": "interrupted"}.get(how, "completed")
        if stopped:
            record.status = "interrupted"
        record.repeats = how == "fail"
        if text := worker.flushed + worker.unwritten:
            self.say(worker, "assistant", text, cut=record.status != "completed")
        self.committed(worker)

    # Outside of it

    @precondition(lambda self: self.workers)
    @rule(number=numbers)
    def crash(self, number: int) -> None:
        """A worker dies without a word."""
        self.workers.remove(self.worker(number))

    @rule(by=st.sampled_from([1, 4_999, 5_000, 60_000, 60_000, -60_000]))
    def advance(self, by: int) -> None:
        """Time passes, or the clock is set back."""
        self.script.advance(by)

    @precondition(lambda self: self.exists)
    @rule(engine=engines)
    def interrupt(self, engine: int) -> None:
        """Ask the turn that runs to stop; the answer says whether somebody runs it."""
        running = self.holder is not None and self.alive()
        assert self.store(engine).interrupt("s") == running
        if self.holder is not None:
            self.asked = self.holder.fence

    @rule(engine=engines)
    def recover(self, engine: int) -> None:
        """Close what nobody runs any more."""
        dead = self.holder is not None and not self.alive()
        assert self.store(engine).recover() == dead
        if dead:
            self.abandon()
            fence = self.row().fence
            assert fence > self.last_fence
            self.last_fence = fence

    @rule(engine=engines)
    def outside(self, engine: int) -> None:
        """Add a message outside of any turn."""
        text = self.text("o")
        self.store(engine).add_user_message("s", text)
        self.items.append((text, None))
        self.exists = True

    def clear(self, engine: int) -> None:
        """Clear the session: the turn that is open goes on with what it said."""
        self.store(engine).clear_session("s")
        self.generation += 1
        record = self.holder.record if self.holder is not None else None
        self.items = [one for one in self.items if record is not None and one[1] == record.id]
        carried = [text for text, _ in self.items]
        for one in record.said if record is not None else ():
            if one.text in carried:
                one.generation = self.generation

    @precondition(lambda self: self.exists)
    @rule(how=st.sampled_from(["clear", "rewrite", "rewrite", "purge", "delete"]), engine=engines)
    def change(self, how: str, engine: int) -> None:
        """Do to the session what turns have to survive; one rule, or few of them would run."""
        if how == "rewrite" and self.items:
            self.rewrite(1 + self.number % 3, engine)
        elif how != "rewrite":
            {"clear": self.clear, "purge": self.purge, "delete": self.delete}[how](engine)

    def rewrite(self, first: int, engine: int) -> None:
        """Save the history without its beginning."""
        history = self.store(engine).get_chat_history("s")
        self.store(engine).set_chat_history("s", history[first:])
        self.items = self.items[first:]
        self.generation += 1

    def purge(self, engine: int) -> None:
        """Destroy earlier generations, and with them what turns said there."""
        self.store(engine).purge("s")
        self.floor = self.generation
        records = [*self.keys.values(), *([self.holder.record] if self.holder else [])]
        for record in records:
            gone = {one.text for one in record.said if one.generation < self.floor}
            record.said = [one for one in record.said if one.text not in gone]
            # What a rewrite stored anew is known as the turn's by the entry that is gone now.
            self.items = [(text, None if text in gone else turn) for text, turn in self.items]

    def delete(self, engine: int) -> None:
        """Delete the session: nobody holds anything of it any more."""
        self.store(engine).delete_session("s")
        self.life += 1
        self.last_fence = 0
        self.forget()
