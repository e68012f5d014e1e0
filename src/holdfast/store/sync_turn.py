# Generated from async_turn.py by scripts/generate_sync.py: do not edit.
"""A turn: a prompt, the answer as it streams, its tool calls and its token counts, as one thing."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from holdfast.errors import HoldfastError, InvalidMessage, Unavailable
from holdfast.model.message import Message, SyntheticMessage, new_message
from holdfast.model.turn import Busy, Held, Opened, Signalled
from holdfast.model.usage import TurnStatus
from holdfast.model.write import Write
from holdfast.rules.history import History
from holdfast.rules.repair import repair
from holdfast.store._sync_shell import SyncShell
from holdfast.store.opening import TurnRequest, ending
from holdfast.store.streaming import RunningTurn


class Turn:
    """One turn of a session; `SessionStore.turn` makes it, to be used with `with`.

    Opening commits the prompt and takes the session's lease, in one write. While the block runs no
    other turn of the session does, on any machine. Leaving it completes the turn; an exception
    leaves it failed, and Ctrl-C, cancellation or an interrupt leaves it interrupted. Whatever the
    user was shown is kept.
    """

    def __init__(self, shell: SyncShell, request: TurnRequest) -> None:
        self._shell = shell
        self._request = request
        self._running: RunningTurn | None = None
        self._history: History | None = None
        self._recorded: list[Message] = []
        self._streaming = False
        self._waits_with: tuple[str, ...] | None = None

    # What it is

    @property
    def id(self) -> str:
        """The turn's id, the same for every attempt at it."""
        return self._opened.turn

    @property
    def key(self) -> str | None:
        """The idempotency key that it was opened with."""
        return self._request.key

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1 on."""
        return self._opened.attempt

    @property
    def replayed(self) -> bool:
        """Whether the key's turn was over already: nothing runs, what it recorded is given back."""
        return self._opened.replayed

    @property
    def status(self) -> TurnStatus:
        """How far the turn had come when it was opened: running, or what a replayed one is."""
        return self._opened.status

    @property
    def history(self) -> History:
        """What a model is to answer: the history up to the prompt, and this turn's messages."""
        assert self._history is not None, "a turn is used with `with`"
        if self.replayed:
            return self._history
        before = [m for m in self._history if not isinstance(m, SyntheticMessage)]
        return History(repair([*before, *self._recorded, *self._said()]), self._history.origin)

    @property
    def messages(self) -> list[Message]:
        """This turn's whole messages so far, ready for a provider, without the prompt."""
        return repair([*self._recorded, *self._said()])

    @property
    def text(self) -> str:
        """What the assistant said in this turn's whole messages."""
        said = (m["content"] for m in self.messages if m["role"] == "assistant")
        return "".join(content for content in said if isinstance(content, str))

    @property
    def interrupted(self) -> bool:
        """Whether the turn was asked to stop, or lost its lease; a runner looks as it goes."""
        return self._running is not None and self._running.interrupted

    def wait_interrupted(self, timeout: float | None = None) -> bool:
        """Wait until the turn is asked to stop; false if `timeout` seconds passed before."""
        return self._shell.wait_interrupted(self._live, timeout)

    @property
    def waited(self) -> bool:
        """Whether it waited for an answer until this attempt at it began."""
        return self._opened.waited

    @property
    def approved(self) -> tuple[str, ...]:
        """The ids of the tool calls that were approved while it waited."""
        return self._opened.approved

    @property
    def waits(self) -> bool:
        """Whether it is to wait for an answer once its block ends."""
        return self._waits_with is not None

    def wait_for_approval(self, *, approved: Sequence[str] = ()) -> None:
        """Let the turn wait once its block ends, for an answer to its open tool calls.

        It is not closed then and has no lease: any worker goes on with it, with
        `store.turn(..., resume=turn.id)`. `approved` names the calls that are approved already. A
        turn that is interrupted, or whose block raises, does not wait.
        """
        self._waits_with = tuple(approved)

    # What is written into it

    def write(self, text: str) -> None:
        """Add streamed text; it is in the log within `flush_interval` seconds.

        Returns at once, unless more than 1 MiB waits for the disk already; if that does not change
        in the store's `timeout`, raises `Unavailable`, and the text was not taken. Raises
        `LeaseLost` when another worker has taken the turn over, and `InvalidMessage` where the text
        since the last whole message would no longer fit into one: then it was not taken.
        """
        if not isinstance(text, str):
            raise InvalidMessage(f"streamed text must be text, not {type(text).__name__}")
        live = self._live
        if not live.has_room():
            self._shell.wait_for_room(live)
        if text:
            live.add_text(text)

    def add_message(
        self,
        role: str,
        content: Any = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        tool_calls: Sequence[Mapping[str, Any]] | None = None,
        tool_call_id: str | None = None,
    ) -> None:
        """Add a whole message, such as a tool call before it is carried out; durable on return.

        An assistant's message takes the place of the text that was streamed of it.
        """
        message = new_message(
            role, content, metadata=metadata, tool_calls=tool_calls, tool_call_id=tool_call_id
        )
        live = self._live
        write = live.adding(message, self._request.line(message))
        try:
            live.heard(self._shell.answer(write, Held))
        except Unavailable:
            live.not_written()
            raise
        except HoldfastError:
            raise
        except BaseException:  # Ctrl-C or cancellation: what was shown is kept, and once
            self._find_out(live, write)
            raise

    def _find_out(self, live: RunningTurn, write: Write) -> None:
        """Learn whether a message was written, of which nothing was heard."""
        with contextlib.suppress(HoldfastError):
            self._shell.answer(live.renewing(), Held)  # behind whatever is in flight
            if not self._shell.read(self._request.is_written, live.opened, write):
                live.not_written()

    def record_usage(
        self,
        *,
        model: str | None = None,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cached_tokens: int = 0,
        unknown: bool = False,
        call: str | None = None,
    ) -> None:
        """Record one model call's tokens, with the next commit; `unknown` if it did not tell.

        `call` names the call within this attempt; one that comes again counts once.
        """
        self._request.record_usage(
            self._live,
            call=call,
            model=model,
            tokens=(input_tokens, output_tokens, cached_tokens),
            unknown=unknown,
        )

    def stream(self, ask: Callable[[History], Any]) -> Iterator[str]:
        """Yield what `ask(history)` yields, each piece on its way into the log first.

        Ends early when the turn is interrupted. Leaving the loop early interrupts the turn. On a
        replayed turn `ask` is not called: the recorded text comes in one piece.
        """
        if self.replayed:
            if self.text:
                yield self.text
            return
        self._streaming = True
        source = self._shell.pieces(ask, self.history)
        try:
            for text in source:
                self.write(text)
                yield text
                if self.interrupted:
                    break
        finally:
            self._shell.close_pieces(source)
        self._live.require_running()
        self._streaming = False

    # Its beginning and its end

    def __enter__(self) -> Self:
        opened: Opened | None = None
        try:
            opened = self._open()
            self._history, self._recorded = self._shell.read(self._request.read_back, opened)
            self._running = self._request.start(opened)
            if not opened.replayed:
                self._shell.attach(self._running, weakref.ref(self))
        except BaseException as error:
            self._give_up(opened, error)
            raise
        return self

    def _give_up(self, opened: Opened | None, error: BaseException) -> None:
        """Leave the line, and close the turn if it was opened: nobody else would soon."""
        if opened is None:
            self._request.leave_line(error)
        with contextlib.suppress(HoldfastError):
            lost = self._shell.read(self._request.opened_in_vain, opened)
            if lost is not None:
                status, facts = ending(error, abandoned=False, interrupted=False)
                running = self._running or self._request.start(lost)
                self._shell.close_turn(running, lambda: running.closing(status, **facts))

    def _open(self) -> Opened:
        """Open the turn, after the turns of those who came before."""
        request = self._request
        while True:
            answer = self._shell.open_turn(request.write())
            if isinstance(answer, Opened):
                return answer
            self._make_way(answer)
            self._shell.pause_until(request.free_again(answer), request.next_try_s())

    def _make_way(self, busy: Busy) -> None:
        """Refuse, or ask the turn that runs to stop, as the caller said."""
        stop = self._request.what_to_do(busy)
        if stop is not None:
            self._shell.answer(stop, Signalled)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        live = self._live
        if live.opened.replayed:
            return
        try:
            self._shell.close_turn(live, lambda: self._closing(live, error))
        except HoldfastError:
            if error is None:
                raise

    def _closing(self, live: RunningTurn, error: BaseException | None) -> Write:
        """Return the write that closes the turn, by how its block was left."""
        if live.fault is not None:
            raise live.fault.twin()
        status, facts = ending(
            error,
            abandoned=self._streaming,
            interrupted=self.interrupted,
            waits=self._waits_with is not None,
        )
        told = {"approved": self._waits_with or None} if status == TurnStatus.WAITING else {}
        return live.closing(status, **facts, **told)

    @property
    def _live(self) -> RunningTurn:
        assert self._running is not None, "a turn is used with `with`"
        return self._running

    @property
    def _opened(self) -> Opened:
        return self._live.opened

    def _said(self) -> list[Message]:
        return list(self._running.messages) if self._running is not None else []
