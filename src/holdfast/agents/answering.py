"""Who answers for an agent, on whichever event loop it is asked."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from holdfast.agents.adapting import as_runner
from holdfast.agents.approving import (
    Decision,
    calls_not_made,
    drive_on,
    pending_calls,
    without_invented,
)
from holdfast.agents.driving import Answer, Asking, Stage, drive
from holdfast.agents.events import Event, ToolCall, ToolResult, Waiting
from holdfast.agents.fitting import Fitting, check_fitting
from holdfast.agents.models import Character, runner_for
from holdfast.agents.runner import Resuming, Runner
from holdfast.agents.tools import asking_names, idempotent_names
from holdfast.errors import ConfigError
from holdfast.model.message import SyntheticMessage
from holdfast.model.usage import TurnStatus
from holdfast.rules.history import History
from holdfast.rules.repair import NO_RESULT
from holdfast.store.async_store import AsyncSessionStore
from holdfast.store.async_turn import AsyncTurn


class Answering:
    """Who answers for a character, or the runner that was given instead.

    A model's connections belong to an event loop, so each loop has a runner of its own; a runner
    that was given is used on all of them.
    """

    def __init__(self, character: Character, runner: Any = None) -> None:
        if runner is not None and not character.is_plain:
            raise ConfigError(
                "a runner answers as it does: model, instructions and tools belong to it",
                hint="pass either runner=, or model= and what goes with it",
            )
        check_fitting(character.history_tokens, character.compact)
        self._character = character
        self._given = None if runner is None else as_runner(runner)
        # The first is made at once, so that what is wrong with it is known.
        self._spare: Runner | None = self._given or runner_for(character)
        self._runners: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Runner] = (
            weakref.WeakKeyDictionary()
        )

    async def answer(self, store: AsyncSessionStore, asking: Asking, stage: Stage) -> Answer:
        """Answer in a turn; the output of an answer that is text is its text."""
        return self._finished(
            await drive(store, self._runner(), asking, stage, self._between(store, asking))
        )

    def _between(
        self, store: AsyncSessionStore, asking: Asking
    ) -> Callable[[Runner, AsyncTurn], Awaitable[AsyncIterator[Event]]]:
        """Return what stands between a runner and the turn that it answers in."""
        tokens = self._character.history_tokens
        again = idempotent_names(self._character.tools)
        asks = asking_names(self._character.tools)

        async def answering(runner: Runner, turn: AsyncTurn) -> AsyncIterator[Event]:
            history = turn.history
            unknown = _unknown_calls(history)
            if asks.intersection(call.name for call in unknown):
                entries = await store.read_entries(asking.session_id)
                not_made = calls_not_made(entries, turn.id)
                to_ask = frozenset(
                    call.id
                    for call in unknown
                    if call.name in asks and (call.name in again or call.id in not_made)
                )
                if to_ask:
                    return _asking_for(to_ask, unknown)
            repeated = frozenset(call.id for call in unknown if call.name in again - asks)
            if repeated and isinstance(runner, Resuming):
                return runner.resume(without_invented(history, repeated), repeated)
            if tokens is None:
                return runner.answer(history)
            summarise = self._character.compact == "auto"
            fitted = Fitting(
                store=store, session_id=asking.session_id, tokens=tokens, summarise=summarise
            )
            return fitted.answer(runner, history)

        return answering

    async def decide(self, store: AsyncSessionStore, decision: Decision, stage: Stage) -> Answer:
        """Decide on a tool call that waits, and go on with the answer once none waits."""
        if decision.approved and self._given is None:
            await self._require_tool(store, decision)
        tokens = self._character.history_tokens
        return self._finished(await drive_on(store, self._runner(), decision, stage, tokens))

    async def _require_tool(self, store: AsyncSessionStore, decision: Decision) -> None:
        """Refuse to approve what cannot be carried out here; the turn goes on waiting."""
        waiting = pending_calls(await store.get_chat_history(decision.session_id))
        known = {getattr(tool, "__name__", None) for tool in self._character.tools}
        for call in waiting:
            if call.id == decision.call and call.name not in known:
                raise ConfigError(
                    f"this agent has no tool {call.name!r}",
                    code="no_tool",
                    hint="approve with an agent that was given the tool; it is called there",
                )

    def _finished(self, answer: Answer) -> Answer:
        if answer.output is not None:
            return answer
        if self._character.output_type is str:
            return replace(answer, output=answer.text)
        if not (answer.replayed and answer.status is TurnStatus.COMPLETED and answer.text):
            return answer
        from holdfast.agents.pydantic_ai import read_output

        return replace(answer, output=read_output(answer.text, self._character.output_type))

    def _runner(self) -> Runner:
        if self._given is not None:
            return self._given
        loop = asyncio.get_running_loop()
        if loop not in self._runners:
            spare, self._spare = self._spare, None
            self._runners[loop] = spare or runner_for(self._character)
        return self._runners[loop]


def _unknown_calls(history: History) -> tuple[ToolCall, ...]:
    """Return the calls with which an attempt that died has ended."""
    if not (history and isinstance(history[-1], SyntheticMessage)):
        return ()
    return pending_calls(history)


async def _asking_for(calls: frozenset[str], unknown: tuple[ToolCall, ...]) -> AsyncIterator[Event]:
    """Let the turn wait for these calls; what became of the others is told as it is known."""
    for call in unknown:
        if call.id not in calls:
            yield ToolResult(call.id, NO_RESULT, call.name)
    yield Waiting(tuple(call.id for call in unknown if call.id in calls))
