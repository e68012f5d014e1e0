"""Who answers: the one-method protocol, and what a runner may have besides."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing
from typing import Protocol, TypeVar, runtime_checkable

from holdfast.agents.events import Event
from holdfast.errors import InvalidArgument
from holdfast.rules.history import History

T = TypeVar("T")

YIELD = "write an asynchronous generator: `async def` with a `yield` for each piece of the answer"


@runtime_checkable
class Runner(Protocol):
    """Answers a conversation: history in, events out. Any agent framework can be behind it.

    `history` ends with what is to be answered: the prompt, or the results of this turn's tool calls
    if an earlier attempt at it was cut off. What is yielded is in the log before the runner goes
    on, so a tool is called after its `ToolCalls` was yielded. An exception fails the turn and
    reaches the caller. An interrupted turn cancels the task in which the runner runs.
    """

    def answer(self, history: History) -> AsyncIterator[Event]:
        """Yield the answer's events; usually an asynchronous generator."""
        ...


@runtime_checkable
class Resuming(Protocol):
    """A runner that can go on once a person has agreed to tool calls that it asked for."""

    def resume(self, history: History, approved: frozenset[str]) -> AsyncIterator[Event]:
        """Yield the rest of the answer.

        `history` ends with the tool calls and those results that there are; those `approved`, by
        their ids, have none yet and are to be carried out.
        """
        ...


@runtime_checkable
class Summarising(Protocol):
    """A runner that has a way of its own to summarise, such as one without its tools."""

    def summarise(self, history: History) -> AsyncIterator[Event]:
        """Yield a summary; `history` ends with the wish for it."""
        ...


def closing(events: AsyncIterator[T]) -> aclosing[AsyncGenerator[T, None]]:
    """Return events to be used with `async with`: whoever yields them is closed at its end.

    A runner may hold what one task has to enter and to leave. A generator that is merely left is
    closed some time later, in another task. Going through what is no stream of events raises
    `InvalidArgument`.
    """
    return aclosing(_closable(events))


async def _closable(events: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    _require_stream(events)
    try:
        async for event in events:
            yield event
    finally:
        if isinstance(events, AsyncGenerator):
            await events.aclose()


def _require_stream(events: object) -> None:
    if isinstance(events, AsyncIterable):
        return
    if inspect.iscoroutine(events):
        events.close()  # or Python complains that nobody awaited it
    name = getattr(events, "__qualname__", "a runner")
    raise InvalidArgument(
        f"{name} gave a {type(events).__name__}, which is no stream of events",
        code="no_event",
        hint=YIELD,
    )
