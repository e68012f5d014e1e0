"""Tools that a person has to agree to: which calls wait, and how the answer goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence, Set

from msgspec import Struct
from msgspec.structs import replace

from holdfast.agents.driving import Answer, Stage, in_turn
from holdfast.agents.events import Event, ToolCall
from holdfast.agents.fitting import fitting
from holdfast.agents.runner import Resuming, Runner
from holdfast.errors import Conflict, NotSupported
from holdfast.model.entry import Entry, MessageEntry, TurnEntry
from holdfast.model.message import Message, SyntheticMessage
from holdfast.model.usage import TurnStatus
from holdfast.rules.history import History
from holdfast.store.async_store import AsyncSessionStore
from holdfast.store.async_turn import AsyncTurn

DENIED = "Denied: the user did not allow this call."
"""What a model is told of a call that was denied without a reason."""


class Decision(Struct, frozen=True, kw_only=True):
    """What was decided on one tool call of a turn that waits; `timeout` in seconds."""

    session_id: str
    turn: str
    call: str
    approved: bool
    reason: str | None = None
    timeout: float = 60.0


def pending_calls(history: Sequence[Message]) -> tuple[ToolCall, ...]:
    """Return the last message's tool calls that have no result: in a turn that waits, those do."""
    for index in range(len(history) - 1, -1, -1):
        calls = history[index].get("tool_calls")
        if history[index]["role"] == "assistant" and calls:
            invented = {
                message["tool_call_id"]
                for message in history[index:]
                if isinstance(message, SyntheticMessage)
            }
            return tuple(
                ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
                for call in calls
                if call["id"] in invented
            )
    return ()


def calls_not_made(entries: Iterable[Entry], turn: str) -> frozenset[str]:
    """Return the turn's tool calls, by their ids, that nobody can have agreed to.

    That is so if the turn has not waited since they were asked for.
    """
    asked: set[str] = set()
    waited: set[str] = set()
    for entry in entries:
        if entry.turn != turn:
            continue
        if isinstance(entry, MessageEntry):
            for message in entry.messages:
                asked.update(call["id"] for call in message.get("tool_calls") or ())
        elif isinstance(entry, TurnEntry) and entry.status is TurnStatus.WAITING:
            waited |= asked
    return frozenset(asked - waited)


async def drive_on(
    store: AsyncSessionStore,
    runner: Runner,
    decision: Decision,
    stage: Stage,
    tokens: int | None = None,
) -> Answer:
    """Go on with a turn that waits, once all of its calls are decided on; until then it waits.

    Raises `Conflict` with the code `not_waiting` if the call does not wait, whether or not the turn
    still does: somebody else may have decided at the same moment, and differently. A turn whose
    worker died after it had gone on is left failed, for its key or for the next turn: nobody knows
    whether its calls were made.
    """
    fault: Conflict | NotSupported | None = None

    def opened() -> None:
        if turn.replayed:  # it is over: what it came to was not decided here
            raise not_waiting(decision.session_id, decision.call)
        stage.opened()

    async def begin(turn: AsyncTurn) -> AsyncIterator[Event] | None:
        nonlocal fault
        if not turn.waited:
            raise not_waiting(decision.session_id, decision.call)
        waiting = {call.id for call in pending_calls(turn.history)}
        approved = {*turn.approved} & waiting
        fault = _fault(runner, decision, waiting)
        if fault is not None:
            turn.wait_for_approval(approved=sorted(approved))
            return None
        if decision.approved:
            approved.add(decision.call)
        else:
            reason = f"Denied: {decision.reason}" if decision.reason else DENIED
            await turn.add_message("tool", reason, tool_call_id=decision.call)
            waiting.discard(decision.call)
        if waiting - approved:
            turn.wait_for_approval(approved=sorted(approved))
            return None
        assert isinstance(runner, Resuming), "found out above"
        history = without_invented(turn.history, approved)
        if tokens is not None:
            history = History(fitting(history, tokens), history.origin)
        return runner.resume(history, frozenset(approved))

    turn = store.turn(decision.session_id, resume=decision.turn, timeout=decision.timeout)
    answer = await in_turn(turn, begin, replace(stage, opened=opened))
    if fault is not None:
        raise fault
    return answer


def _fault(runner: Runner, decision: Decision, waiting: set[str]) -> Conflict | NotSupported | None:
    if decision.call not in waiting:
        return not_waiting(decision.session_id, decision.call)
    if not isinstance(runner, Resuming):
        return NotSupported(
            f"{type(runner).__name__} cannot go on with a turn that waits",
            hint="give the runner a method resume(history, approved)",
        )
    return None


def not_waiting(session_id: str, call: str) -> Conflict:
    """Return the error of who decides on a call that does not wait."""
    return Conflict(
        f"no call {call!r} waits in session {session_id!r}",
        code="not_waiting",
        hint="it was decided on already, the conversation went on without it, or a worker died in "
        "it: the turn's key, or another prompt, goes on then",
    )


def without_invented(history: History, calls: Set[str]) -> History:
    """Return the history without the invented results of these calls."""
    return History(
        message
        for message in history
        if not (isinstance(message, SyntheticMessage) and message["tool_call_id"] in calls)
    )
