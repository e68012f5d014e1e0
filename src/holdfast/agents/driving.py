"""The one place that runs a runner inside a turn.

What a runner yields is written before it goes on: text on its way into the log, a tool call durable
before the tool is called, a result before the next call of a model. However the turn ends, what was
shown is kept, and a call of a model that did not tell its tokens is recorded as unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeAlias, TypedDict, assert_never

from msgspec import Struct

from holdfast.agents.events import (
    Event,
    ModelCall,
    Output,
    Text,
    ToolCalls,
    ToolResult,
    Used,
    Waiting,
    check_event,
)
from holdfast.agents.runner import Runner, closing
from holdfast.errors import HoldfastError
from holdfast.model.message import VERBATIM, Message
from holdfast.model.usage import TurnStatus, UsageTotals
from holdfast.store.async_store import AsyncSessionStore
from holdfast.store.async_turn import AsyncTurn
from holdfast.store.opening import OnBusy

Prompt: TypeAlias = str | Message | Sequence[Message]
"""What a turn is opened with: text, a message, or several."""


class Wishes(TypedDict, total=False):
    """How a turn is to be opened, as `store.turn` takes it; `timeout` is in seconds."""

    key: str | None
    on_busy: OnBusy
    timeout: float


class Asking(Struct, frozen=True, kw_only=True):
    """What is asked, in which session, and what to do if that is busy; `timeout` in seconds."""

    session_id: str
    prompt: Prompt | None
    key: str | None = None
    user_id: str | None = None
    on_busy: OnBusy = "wait"
    timeout: float = 60.0


class Answer(Struct, frozen=True, kw_only=True):
    """How a turn went: the text that was said last, the value if there is one, what it used."""

    turn: str | None
    status: TurnStatus
    text: str
    output: Any = None
    usage: UsageTotals = UsageTotals()
    replayed: bool = False


class Stage(Struct, frozen=True):
    """Who listens to an answer: `hear` is told each event once it is written.

    `opened` is called once the turn is open, and its prompt in the log. `stopping` says, when the
    task is cancelled, whether that is how the listener asked to stop.
    """

    hear: Callable[[Event], None] = lambda _: None
    opened: Callable[[], None] = lambda: None
    stopping: Callable[[], bool] = lambda: False


async def drive(
    store: AsyncSessionStore,
    runner: Runner,
    asking: Asking,
    stage: Stage,
    answering: Callable[[Runner, AsyncTurn], Awaitable[AsyncIterator[Event]]] | None = None,
) -> Answer:
    """Open a turn, let the runner answer, and return how it went.

    `answering` may stand between the runner and the turn whose history it is given.

    An error of the runner leaves the turn failed and is raised; an interrupt cancels the runner and
    is no error. Cancelling the task leaves the turn interrupted. Raises what `store.turn` raises.
    """

    async def begin(turn: AsyncTurn) -> AsyncIterator[Event]:
        if answering is not None:
            return await answering(runner, turn)
        return runner.answer(turn.history)

    turn = store.turn(
        asking.session_id,
        asking.prompt,
        key=asking.key,
        user_id=asking.user_id,
        on_busy=asking.on_busy,
        timeout=asking.timeout,
    )
    return await in_turn(turn, begin, stage)


async def in_turn(
    turn: AsyncTurn,
    begin: Callable[[AsyncTurn], Awaitable[AsyncIterator[Event] | None]],
    stage: Stage,
) -> Answer:
    """Open a turn, write the events that `begin` gives, if any, and return how it went."""
    telling: _Telling | None = None
    try:
        async with turn:
            stage.opened()
            if turn.replayed:
                return _recorded(turn, stage)
            telling = _Telling(turn, stage)
            events = await begin(turn)
            if events is not None:
                try:
                    await _until_interrupted(turn, telling.all(events))
                finally:
                    await telling.settle()
            status = _status(turn)
    except asyncio.CancelledError:
        if not stage.stopping():
            raise
        status = TurnStatus.INTERRUPTED
    if telling is None:  # stopped before its turn came
        return Answer(turn=None, status=status, text="")
    return telling.answer(status)


def _status(turn: AsyncTurn) -> TurnStatus:
    if turn.interrupted:
        return TurnStatus.INTERRUPTED
    return TurnStatus.WAITING if turn.waits else TurnStatus.COMPLETED


def _recorded(turn: AsyncTurn, stage: Stage) -> Answer:
    said = [m["content"] for m in turn.messages if m["role"] == "assistant" and m["content"]]
    if turn.text:
        stage.hear(Text(turn.text))
    return Answer(turn=turn.id, status=turn.status, text=said[-1] if said else "", replayed=True)


async def _until_interrupted(turn: AsyncTurn, telling: Coroutine[Any, Any, None]) -> None:
    """Wait until all is told; once the turn is asked to stop, cancel what tells it."""
    # A task of its own: whoever answers may hold a scope that one task has to enter and to leave.
    told = asyncio.ensure_future(telling)
    asked = asyncio.ensure_future(turn.wait_interrupted())
    try:
        await asyncio.wait([told, asked], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped = not told.done()
        told.cancel()
        asked.cancel()
        await _despite_cancellation([told, asked])
        failure = None if told.cancelled() else told.exception()  # retrieved, whatever happens
    if not stopped:
        if failure is not None:
            raise failure
        told.result()  # raises if the runner cancelled itself


async def _despite_cancellation(tasks: list[asyncio.Future[Any]]) -> None:
    """Wait for tasks that are ending, also in a task that is cancelled meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    while any(not task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


class _Telling:
    """Writes a runner's events into a turn."""

    def __init__(self, turn: AsyncTurn, stage: Stage) -> None:
        self._output: Any = None
        self._usage = UsageTotals()
        self._turn = turn
        self._stage = stage
        self._said: list[str] = []
        self._shown: list[str] = []
        self._calling: ModelCall | None = None

    def answer(self, status: TurnStatus) -> Answer:
        """Return how the turn went."""
        return Answer(
            turn=self._turn.id,
            status=status,
            text="".join(self._shown),
            output=self._output,
            usage=self._usage,
        )

    async def all(self, events: AsyncIterator[Event]) -> None:
        """Write all events; whoever yields them is closed in this task, however it ends."""
        async with closing(events) as source:
            async for event in source:
                check_event(event)
                if not isinstance(event, Text) or event.text:
                    await self._write(event)
                    self._stage.hear(event)

    async def settle(self) -> None:
        """Record a model call that has not told its tokens."""
        calling, self._calling = self._calling, None
        if calling is not None:
            with contextlib.suppress(HoldfastError):  # of a turn that is lost: it is closed already
                await self._record(Used(model=calling.model, unknown=True))

    async def _write(self, event: Event) -> None:
        match event:
            case Text():
                if event.apart:
                    await self._end_message()
                if not self._said:
                    self._shown = []
                self._said.append(event.text)
                self._shown.append(event.text)
                await self._turn.write(event.text)
            case ModelCall():
                await self.settle()
                await self._end_message()
                self._calling = event
            case Used():
                self._calling = None
                await self._record(event)
            case ToolCalls():
                await self._add_calls(event)
            case ToolResult():
                await self._end_message()
                await self._turn.add_message("tool", event.content, tool_call_id=event.call)
            case Waiting():
                self._turn.wait_for_approval()
            case Output():
                self._output = event.value
            case _:
                assert_never(event)

    async def _end_message(self) -> None:
        """Make a message of text that no tool call has taken along."""
        if self._said:
            text = "".join(self._said)
            self._said = []
            await self._turn.add_message("assistant", text)

    async def _add_calls(self, event: ToolCalls) -> None:
        text = "".join(self._said)
        self._said = []
        calls = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in event.calls
        ]
        kept = None if event.verbatim is None else {VERBATIM: event.verbatim}
        await self._turn.add_message("assistant", text or None, tool_calls=calls, metadata=kept)

    async def _record(self, used: Used) -> None:
        await self._turn.record_usage(
            model=used.model,
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            cached_tokens=used.cached_tokens,
            unknown=used.unknown,
        )
        total = self._usage
        self._usage = UsageTotals(
            input_tokens=total.input_tokens + used.input_tokens,
            output_tokens=total.output_tokens + used.output_tokens,
            cached_tokens=total.cached_tokens + used.cached_tokens,
            requests=total.requests + 1,
            unknown=total.unknown + used.unknown,
        )
