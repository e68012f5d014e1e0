"""A running turn as its worker knows it: the text not yet in the log, its lease, what it said.

Plain state under one lock, shared by the thread or task that runs the turn and by the engine, which
asks at every beat what is to be written. Text is posted in order and at most one piece is under
way, so what the log shows of a message is always a beginning of it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from holdfast.errors import (
    Conflict,
    HoldfastError,
    InvalidMessage,
    LeaseLost,
    OutcomeUnknown,
    Unavailable,
)
from holdfast.model.entry import EntryKind, NewEntry
from holdfast.model.message import Message
from holdfast.model.session import SessionRow
from holdfast.model.turn import Held, Holding, Opened
from holdfast.model.usage import TurnStatus, Usage
from holdfast.model.write import Creation, Write, WriteKind
from holdfast.rules import codec
from holdfast.rules.partial import delta_entry, interrupted_message, turn_entry, usage_entry
from holdfast.store.pending import PostedPending

FLUSH_CHARACTERS = 2 * 1024
"""So much unwritten text is written at once, without waiting for the next beat."""

MAX_TEXT_BYTES = codec.MAX_MESSAGE_BYTES - 4 * 1024
"""So much text, as JSON, fits into one message beside what else is kept of it."""

MAX_UNWRITTEN = 1024 * 1024
"""Beyond so many characters `write` waits for the disk."""

CHECK_S = 0.5
"""A turn that writes nothing looks so often whether it was asked to stop."""


RETIRE_S = 30.0
"""So long closing the store waits for text that is under way."""


class Posting(Protocol):
    """Queues writes whose outcomes go to a function, on the committer's thread."""

    def send(self, posted: PostedPending) -> None:
        """Queue one, and return at once."""
        ...

    def withdraw(self, posted: PostedPending) -> bool:
        """Say that it is certainly not written, now or later; false if it may be in flight."""
        ...


class _Text(NamedTuple):
    """The text since the last message, as it was before it was taken."""

    call: int
    flushed: str
    flushed_length: int
    rest: str
    messages: int
    usage: list[NewEntry]
    size: int


class RunningTurn:
    """The state of one turn that this process runs."""

    def __init__(
        self,
        place: tuple[str, str],
        opened: Opened,
        *,
        ttl_s: float,
        interval_s: float,
        posting: Posting,
        look: Callable[[], SessionRow | None],
        stamp: Callable[[], codec.Stamp],
        now: float,
    ) -> None:
        self.opened = opened
        self.interval_s = min(interval_s, ttl_s / 3)  # the lease is kept at a beat, too
        self.messages: list[Message] = []
        self.interrupted = False
        self.fault: HoldfastError | None = None
        self.closed = False
        self.stranded: Callable[[], bool] = lambda: False
        self._place = place
        self._ttl_s = ttl_s
        self._posting = posting
        self._look = look
        self._stamp = stamp
        self._lock = threading.RLock()
        self._change = threading.Condition(self._lock)
        self._call = 0
        self._flushed: list[str] = []
        self._flushed_length = 0
        self._under_way = ""
        self._posted = False
        self._unwritten: list[str] = []
        self._unwritten_length = 0
        self._size = 0
        self._usage: list[NewEntry] = []
        self._usage_under_way: list[NewEntry] = []
        self._written = opened.commit.revision
        self._told: set[str] = set()
        self._calls = 0
        self._heard = self._looked = now
        self._slot = now // self.interval_s
        self._on_room: list[Callable[[], None]] = []
        self._on_interrupt: list[Callable[[], None]] = []
        self._before: _Text | None = None
        self._closing: Write | None = None

    # What the worker says

    def has_room(self) -> bool:
        """Say whether a chunk may come; false if the disk has to catch up before."""
        return self._unwritten_length < MAX_UNWRITTEN or self.fault is not None

    def add_text(self, text: str) -> None:
        """Take a chunk."""
        # What cannot be stored is refused here, and not at the next beat, or at the turn's end.
        size = len(codec.encode(text, "text")) - len('""')
        with self._lock:
            self.require_running()
            if self._size + size > MAX_TEXT_BYTES:
                raise InvalidMessage(
                    f"the text of one message is more than {MAX_TEXT_BYTES:,} bytes",
                    path="text",
                    hint="add what there is with turn.add_message, then go on; this text was not "
                    "taken",
                )
            self._size += size
            self._unwritten.append(text)
            self._unwritten_length += len(text)
            if self._unwritten_length >= FLUSH_CHARACTERS:
                self._flush()

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until the disk has caught up; false if it has not in this time."""
        with self._lock:
            return self._change.wait_for(self.has_room, timeout_s)

    def no_room(self, timeout_s: float) -> Unavailable:
        """Return the error that says so."""
        return Unavailable(
            f"the disk has not caught up with turn {self.turn} within {timeout_s:g} seconds, so no "
            "more text was taken",
            code="deadline",
            hint="the turn goes on: write this text again; find out who holds the store: "
            "holdfast doctor",
        )

    def on_room(self, call: Callable[[], None]) -> None:
        """Call once the disk has caught up, on whichever thread sees it."""
        with self._lock:
            if self.has_room():
                call()
            else:
                self._on_room.append(call)

    def on_interrupt(self, call: Callable[[], None]) -> None:
        """Call once the turn is asked to stop, on whichever thread learns of it."""
        with self._lock:
            if self.interrupted:
                call()
            else:
                self._on_interrupt.append(call)

    def wait_interrupted(self, timeout_s: float | None) -> bool:
        """Wait until the turn is asked to stop; false if it is not in this time."""
        with self._lock:
            return self._change.wait_for(lambda: self.interrupted, timeout_s)

    def _interrupt(self) -> None:
        self.interrupted = True
        self._change.notify_all()
        waiting, self._on_interrupt = self._on_interrupt, []
        for call in waiting:
            call()

    def add_usage(self, usage: Usage) -> None:
        """Take one call's token counts; they join the next commit."""
        with self._lock:
            self.require_running()
            if usage.call not in self._told:  # a call that is told twice counts once
                self._told.add(usage.call)
                self._usage.append(usage_entry(self.turn, self.attempt, usage))

    def next_call(self) -> str:
        """Return a name for a model call that came without one."""
        with self._lock:
            self._calls += 1
            return f"{self.attempt}.{self._calls}"

    def adding(self, message: Message, line: bytes) -> Write:
        """Return the write that adds a message; streamed text before it becomes one first.

        An assistant's message takes the place of what was streamed of it.
        """
        with self._lock, self._whole():
            self.require_running()
            text = self._take_text()
            entries: list[NewEntry] = []
            if text and message["role"] != "assistant":
                entries.append(self._message(self._said(text)))
            entries.append(self._message(line))
            return self._write([*entries, *self._take_usage()])

    def not_written(self) -> None:
        """Learn that the last message was certainly not written: its text is still to come."""
        with self._lock:
            if self._before is not None:
                self.messages = self.messages[: self._before.messages]
                self._call, self._flushed_length = self._before.call, self._before.flushed_length
                self._flushed, self._unwritten = [self._before.flushed], [self._before.rest]
                self._unwritten_length = len(self._before.rest)
                self._size = self._before.size
                self._usage = [*self._before.usage, *self._usage]

    def closing(self, status: TurnStatus, **facts: object) -> Write:
        """Return the write that closes the turn: what is left of its text, usage, its entry.

        Asked again, it returns the same write.
        """
        with self._lock, self._whole():
            if self._closing is not None:
                return self._closing
            text = self._take_text()
            entries: list[NewEntry] = []
            if text:
                complete = status in (TurnStatus.COMPLETED, TurnStatus.WAITING)
                line = self._said(text) if complete else self._cut_off(text)
                entries.append(self._message(line))
            self.closed = True
            # What is under way may fail yet, and there is no later write that could repeat it.
            usage = [*self._usage_under_way, *self._take_usage()]
            closing = turn_entry(self.turn, self.attempt, status, **facts)
            self._closing = self._write([*entries, *usage, closing], status)
            return self._closing

    def renewing(self) -> Write:
        """Return the write that renews the lease."""
        return self._write([])

    @property
    def turn(self) -> str:
        """The turn's id."""
        return self.opened.turn

    @property
    def attempt(self) -> int:
        """Which attempt at the turn this is, from 1 on."""
        return self.opened.attempt

    def require_running(self) -> None:
        """Raise if nothing can be written into the turn any more."""
        if self.fault is not None:
            raise self.fault.twin()
        if self.opened.replayed:
            raise Conflict(
                f"turn {self.turn} is replayed: it was {self.opened.status} before",
                code="replayed",
                hint="look at turn.replayed, and send what it recorded",
            )
        if self.closed:
            raise Conflict(f"turn {self.turn} is closed", code="turn_closed")

    # What the engine does

    def beat(self, now: float) -> None:
        """Post the text that is waiting; keep the lease, and look whether we are to stop."""
        with self._lock:
            slot, self._slot = self._slot, now // self.interval_s
            if slot == self._slot or self.closed or self.fault is not None or self._posted:
                return
            if self.stranded():  # it is left to its lease, as if the worker had died
                self._abandon("what ran it")
            elif self._unwritten:
                self._flush()
                self._heard = now
            elif now - self._heard >= self._ttl_s / 3:
                self._heard = now
                self._usage_under_way = [*self._usage_under_way, *self._take_usage()]
                self._send(self._write(self._usage_under_way))
            elif now - self._looked >= min(CHECK_S, self._ttl_s / 3):
                self._looked = now
                self.look()

    def look(self) -> None:
        """Look whether we are to stop."""
        with self._lock, contextlib.suppress(Unavailable):  # unreadable now: the next beat may
            if not self.closed and self.fault is None:
                self._check(self._look())

    def fail(self, error: HoldfastError) -> None:
        """Learn that nothing can be written any more."""
        with self._lock:
            self._fail(error)

    def retire(self) -> None:
        """Post what is left: the store is about to be closed.

        The turn itself stays open, and is closed by whoever comes next, as if its worker had died.
        """
        with self._lock:
            self._change.wait_for(lambda: not self._posted, RETIRE_S)
            if not self.closed and self.fault is None:
                self._abandon("the store")

    def _abandon(self, closed: str) -> None:
        if self._unwritten:
            self._flush()
        self._fail(
            Unavailable(
                f"{closed} was closed while turn {self.turn} was running",
                retryable=False,
                code="closed",
                hint=f"leave the turn first, then close {closed}",
            )
        )

    def disown(self) -> None:
        """Leave the turn to the parent: this is a forked child. Whoever held a lock is not here."""
        self._lock = threading.RLock()
        self._change = threading.Condition(self._lock)
        self.interrupted = True
        self.fault = LeaseLost(
            f"turn {self.turn} belongs to the process that this one was forked from",
            code="not_ours",
            hint="open a turn in the child, once that one is over",
        )

    def _check(self, session: SessionRow | None) -> None:
        fence = self.opened.token.fence
        if session is None or session.fence != fence or session.open_turn != self.turn:
            self._fail(LeaseLost(f"turn {self.turn} was taken over, closed or deleted"))
        elif session.interrupt_fence == fence:
            self._interrupt()

    def _flush(self) -> None:
        if self._posted:
            return  # one piece at a time: the next beat takes what came meanwhile
        text = "".join([self._under_way, *self._unwritten])  # Ctrl-C may have left some there
        delta = delta_entry(self.turn, self.attempt, self._call, self._flushed_length, text)
        self._usage_under_way = [*self._usage_under_way, *self._take_usage()]
        write = self._write([delta, *self._usage_under_way])
        # Nothing is called in between, so that Ctrl-C finds the text in one place.
        self._under_way, self._unwritten, self._unwritten_length = text, [], 0
        self._send(write)

    def _send(self, write: Write) -> None:
        posted = PostedPending(write, self._settled)
        self._posted = True
        try:
            self._posting.send(posted)
        except BaseException as error:  # the store is closed; or Ctrl-C, wherever it came
            if self._posting.withdraw(posted):
                self._settled(error)
            if not isinstance(error, HoldfastError):
                raise

    def _settled(self, outcome: object) -> None:
        """Learn what became of a posted write."""
        with self._lock:
            self._posted = False
            text, self._under_way = self._under_way, ""
            usage, self._usage_under_way = self._usage_under_way, []
            if isinstance(outcome, Held):
                if text:
                    self._flushed.append(text)
                    self._flushed_length += len(text)
                self.heard(outcome)
            elif self.closed:
                pass  # the closing write, which holds all of the text, came first
            elif isinstance(outcome, LeaseLost | OutcomeUnknown):
                self._fail(outcome)
            else:  # certainly not written: it waits for the next beat
                self._usage = usage + self._usage
                self._unwritten[:0] = [text] if text else []
                self._unwritten_length += len(text)
            self._wake()

    def heard(self, held: Held) -> None:
        """Learn from a write's answer how far the log is, and whether we are to stop."""
        with self._lock:
            self._written = max(self._written, held.commit.revision)
            if held.interrupted:
                self._interrupt()

    def _fail(self, error: HoldfastError) -> None:
        self.fault = error
        self._interrupt()
        self._wake()

    def _wake(self) -> None:
        self._change.notify_all()
        if self.has_room():
            waiting, self._on_room = self._on_room, []
            for call in waiting:
                call()

    # Writes

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """Make a write, or none: where Ctrl-C comes in between, nothing was taken for it."""
        text = self._flushed, self._flushed_length, self._under_way
        rest = self._unwritten, self._unwritten_length, self._call
        others = [*self.messages], self._usage, self._before, self.closed, self._size
        try:
            yield
        except BaseException:
            if self._closing is None:
                self._flushed, self._flushed_length, self._under_way = text
                self._unwritten, self._unwritten_length, self._call = rest
                self.messages, self._usage, self._before, self.closed, self._size = others
            raise

    def _take_text(self) -> str:
        """Return the whole text since the last message, and begin the next one."""
        flushed, rest = "".join(self._flushed), "".join([self._under_way, *self._unwritten])
        self._before = _Text(
            self._call,
            flushed,
            self._flushed_length,
            rest,
            len(self.messages),
            [*self._usage],
            self._size,
        )
        self._flushed, self._unwritten = [], []
        self._flushed_length = self._unwritten_length = self._size = 0
        self._under_way = ""
        self._call += 1
        return flushed + rest

    def _take_usage(self) -> list[NewEntry]:
        usage, self._usage = self._usage, []
        return usage

    def _said(self, text: str) -> bytes:
        return codec.encode_message({"role": "assistant", "content": text}, "text", self._stamp())

    def _cut_off(self, text: str) -> bytes:
        message = interrupted_message(self.turn, self.attempt, text, 0)
        del message["id"], message["created_at"]
        return codec.encode_message(message, "text", self._stamp())

    def _message(self, line: bytes) -> NewEntry:
        self.messages += codec.decode_provider([line])
        return codec.new_entry(EntryKind.MESSAGE, [line]).within(self.turn, self.attempt)

    def _write(self, entries: Sequence[NewEntry], status: TurnStatus = TurnStatus.RUNNING) -> Write:
        tenant, session_id = self._place
        return Write(
            tenant=tenant,
            session_id=session_id,
            kind=WriteKind.TURN,
            entries=tuple(entries),
            creation=Creation.FORBIDDEN,
            turn=Holding(
                token=self.opened.token,
                turn=self.turn,
                attempt=self.attempt,
                status=status,
                heard=self._written if self._usage_under_way and self.closed else None,
            ),
        )
