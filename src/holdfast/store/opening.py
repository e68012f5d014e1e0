"""A caller's wish for a turn: the writes that try for it, and what to do while it is busy."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal, TypeAlias

from msgspec import Struct

from holdfast.errors import HoldfastError, InvalidArgument, InvalidMessage, SessionBusy
from holdfast.model.commit import Commit
from holdfast.model.entry import EntryKind, NewEntry
from holdfast.model.message import Message
from holdfast.model.turn import TURN_PREFIX, Busy, Interrupting, Leaving, Opened, Opening, Token
from holdfast.model.usage import TurnStatus, Usage
from holdfast.model.write import Write, WriteKind
from holdfast.rules import codec
from holdfast.rules.arguments import check_count, check_id, check_optional_id
from holdfast.rules.history import History
from holdfast.store.engine import Engine
from holdfast.store.reading import Reading
from holdfast.store.streaming import RunningTurn

OnBusy: TypeAlias = Literal["wait", "reject", "interrupt"]
ON_BUSY = ("wait", "reject", "interrupt")
RENEW_S = 0.5
"""Whoever waits tries again at least so often, which keeps the place in the line."""


class TurnOptions(Struct, frozen=True, kw_only=True):
    """How a turn is opened and kept: whose it is, and its times in seconds."""

    key: str | None
    user_id: str | None
    on_busy: OnBusy
    timeout_s: float
    ttl_s: float
    flush_interval_s: float
    resume: str | None = None


class TurnRequest:
    """One call of `turn`: what it asks for, and what it has to know while it waits."""

    def __init__(
        self,
        engine: Engine,
        reading: Reading,
        place: tuple[str, str],
        prompt: str | Message | Sequence[Message] | None,
        options: TurnOptions,
    ) -> None:
        check_id(place[1])
        check_optional_id(options.key, "key")
        check_optional_id(options.user_id, "user_id")
        check_optional_id(options.resume, "resume")
        if options.resume is not None and (options.key, prompt) != (None, None):
            raise InvalidArgument(
                "a turn that is resumed has its prompt and its key",
                hint="pass resume= alone, or a prompt to open another turn",
            )
        _check_options(options)
        self.key = options.key
        self._engine = engine
        self._reading = reading
        self._place = place
        self._options = options
        self._sources = sources = engine.sources
        self._entries = self._prompt(prompt)
        self._turn = f"{TURN_PREFIX}{sources.new_id()}"
        self._ticket = self._place_in_line(options)
        self._deadline = sources.monotonic_s() + options.timeout_s
        self._asked: set[int] = set()
        self._stood = False

    # Opening

    def write(self) -> Write:
        """Return the write that opens the turn, if the session is free."""
        tenant, session_id = self._place
        return Write(
            tenant=tenant,
            session_id=session_id,
            kind=WriteKind.TURN,
            entries=self._entries,
            key=self.key,
            turn=Opening(
                turn=self._turn,
                worker=worker_name(),
                ttl_ms=round(self._options.ttl_s * 1000),
                ticket=self._ticket,
                supersede=self._options.on_busy == "interrupt",
                user_id=self._options.user_id,
                resume=self._options.resume,
            ),
        )

    def _place_in_line(self, options: TurnOptions) -> str | None:
        """Return a ticket's name; whoever died while waiting finds its own again under its key."""
        if options.on_busy == "reject":
            return None
        return self._sources.new_id() if options.key is None else f"key:{options.key}"

    def what_to_do(self, busy: Busy) -> Write | None:
        """Return a write that asks the running turn to stop, if that is to be; or refuse."""
        self._stood = True
        if self._options.on_busy == "reject" or (busy.waiting and not busy.same):
            raise self._refusal(busy)
        if self._sources.monotonic_s() >= self._deadline:
            raise self._refusal(busy)
        if self._options.on_busy != "interrupt" or busy.same or busy.fence in self._asked:
            return None
        self._asked.add(busy.fence)
        tenant, session_id = self._place
        return Write(
            tenant=tenant,
            session_id=session_id,
            kind=WriteKind.TURN,
            turn=Interrupting(busy.fence),
        )

    def next_try_s(self) -> float:
        """Return how long to wait before the next try, whatever happens."""
        return max(0.0, min(RENEW_S, self._deadline - self._sources.monotonic_s()))

    def free_again(self, busy: Busy) -> Callable[[], bool]:
        """Return a look, which only reads, at whether another try may work."""

        def look() -> bool:
            row = self._reading.live_row(self._place[1])
            if row is None or row.fence != busy.fence or (row.open_turn or "") != busy.turn:
                return True
            # It may have been renewed: the commit decides, by the clock that it goes by.
            return row.open_turn is not None and self._sources.now_ms() >= row.lease_until

        return look

    def leave_line(self, error: BaseException) -> None:
        """Give up the place in the line soon, if there is one: nobody is to wait for us.

        If it cannot be written, the place lapses by itself.
        """
        unheard = not isinstance(error, Exception)  # Ctrl-C or cancellation, maybe in a commit
        if self._ticket is None or not (self._stood or unheard):
            return
        tenant, session_id = self._place
        leaving = Leaving(self._ticket)
        write = Write(tenant=tenant, session_id=session_id, kind=WriteKind.TURN, turn=leaving)
        with suppress(HoldfastError):
            self._engine.post(write, lambda _: None)

    def _refusal(self, busy: Busy) -> SessionBusy:
        name = f"session {self._place[1]!r}"
        if busy.waiting:
            return SessionBusy(
                f"{name} waits for an answer to turn {busy.turn}",
                turn=busy.turn,
                worker=busy.worker,
                waiting=True,
                hint='answer it, or open a turn with on_busy="interrupt", which closes it',
            )
        if not busy.turn:
            return SessionBusy(f"others stand in line for {name}")
        return SessionBusy(
            f"{name} is running turn {busy.turn} on worker {busy.worker}",
            turn=busy.turn,
            worker=busy.worker,
        )

    def opened_in_vain(self, opened: Opened | None) -> Opened | None:
        """Return the turn that was opened, also if nobody heard of it; `None` if there is none.

        Unheard is only a turn's first attempt found, by its id, which no other can have. A later
        one is left to its lease.
        """
        if opened is not None:
            return None if opened.replayed else opened
        row = self._reading.live_row(self._place[1])
        if row is None or row.open_turn != self._turn:
            return None
        commit = Commit(row.revision, row.history_revision)
        token = Token(row.pk, row.fence)
        return Opened(commit, token, self._turn, row.open_attempt, row.history_revision, row.start)

    # Running

    def is_written(self, opened: Opened, write: Write) -> bool:
        """Say whether a write that added messages to the turn is in the log."""
        last = write.entries[-1].payload
        return last in self._reading.payloads(self._place[1], opened.begun)

    def read_back(self, opened: Opened) -> tuple[History, list[Message]]:
        """Return the history that the turn answers, and its own whole messages so far."""
        return self._reading.turn(self._place[1], opened)

    def start(self, opened: Opened) -> RunningTurn:
        """Return the turn as this worker runs it."""
        return RunningTurn(
            self._place,
            opened,
            ttl_s=self._options.ttl_s,
            interval_s=self._options.flush_interval_s,
            posting=self._engine,
            look=lambda: self._reading.live_row(self._place[1]),
            stamp=self._stamp,
            now=self._sources.monotonic_s(),
        )

    def line(self, message: Message) -> bytes:
        """Return a message as JSON; what cannot be stored is refused here."""
        return codec.encode_message(message, "message", self._stamp())

    def record_usage(
        self,
        live: RunningTurn,
        *,
        call: str | None,
        model: str | None,
        tokens: tuple[int, int, int],
        unknown: bool,
    ) -> None:
        """Check one call's token counts and hand them to the turn."""
        names = ("input_tokens", "output_tokens", "cached_tokens")
        used, made, cached = (check_count(n, name) for n, name in zip(tokens, names, strict=True))
        live.add_usage(
            Usage(
                call=live.next_call() if call is None else check_id(call, "call"),
                model=check_optional_id(model, "model"),
                input_tokens=used,
                output_tokens=made,
                cached_tokens=cached,
                unknown=unknown,
            )
        )

    def _stamp(self) -> codec.Stamp:
        return self._sources.message_id, self._sources.now_text()

    def _prompt(self, prompt: str | Message | Sequence[Message] | None) -> tuple[NewEntry, ...]:
        if prompt is None:
            return ()
        if isinstance(prompt, str):
            prompt = {"role": "user", "content": prompt}
        messages = [prompt] if isinstance(prompt, dict) else prompt
        if not isinstance(messages, list | tuple):
            raise InvalidMessage(
                f"a prompt is text, a message or a list of messages, not {type(prompt).__name__}",
                path="prompt",
            )
        lines = codec.encode_messages(messages, "prompt", self._stamp())
        return (codec.new_entry(EntryKind.MESSAGE, lines),) if lines else ()


def worker_name() -> str:
    """Return what names this process to people: its machine and its process id."""
    return f"{_machine()}:{os.getpid()}"


@functools.cache
def _machine() -> str:
    import socket  # slow to import

    return socket.gethostname()


def ending(
    error: BaseException | None, *, abandoned: bool, interrupted: bool, waits: bool = False
) -> tuple[TurnStatus, dict[str, str]]:
    """Return how a turn ends whose block was left, and what its entry says of that."""
    if error is None and abandoned:
        return TurnStatus.INTERRUPTED, {"reason": "abandoned"}
    if error is None and waits and not interrupted:
        return TurnStatus.WAITING, {}
    if error is None:
        status = TurnStatus.INTERRUPTED if interrupted else TurnStatus.COMPLETED
        return status, {"reason": "requested"} if interrupted else {}
    if isinstance(error, Exception):
        return TurnStatus.FAILED, {"error": f"{type(error).__name__}: {error}"}
    return TurnStatus.INTERRUPTED, {"reason": "cancelled"}


def check_waiting(on_busy: OnBusy, timeout_s: float) -> None:
    """Refuse what does not say how to wait for a session that is busy."""
    if on_busy not in ON_BUSY:
        raise InvalidArgument(
            f"on_busy={on_busy!r} is unknown", hint=f"use one of {', '.join(ON_BUSY)}"
        )
    _check_seconds("timeout", timeout_s, 0.0)


def _check_options(options: TurnOptions) -> None:
    check_waiting(options.on_busy, options.timeout_s)
    _check_seconds("ttl", options.ttl_s, 0.001)
    _check_seconds("flush_interval", options.flush_interval_s, 0.001)


def _check_seconds(name: str, value: object, least: float) -> None:
    if isinstance(value, bool) or not _is_at_least(value, least):
        raise InvalidArgument(f"{name}={value!r} must be a number of seconds")


def _is_at_least(value: object, least: float) -> bool:
    return isinstance(value, int | float) and least <= value < float("inf")
