"""What can be made into a runner: a generator function, or an agent of Pydantic AI."""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

from holdfast.agents.events import Event, Text
from holdfast.agents.runner import YIELD, Runner, closing
from holdfast.errors import ConfigError
from holdfast.rules.history import History

_METHODS = ("answer", "resume", "summarise")

Answering: TypeAlias = Callable[[History], AsyncIterator[str | Event]]
"""An asynchronous generator function that yields text, or events."""


class FunctionRunner:
    """An asynchronous generator function as a runner; the text that it yields becomes events."""

    def __init__(self, function: Answering) -> None:
        self._function = function

    async def answer(self, history: History) -> AsyncIterator[Event]:
        """Yield what the function yields."""
        async with closing(self._function(history)) as source:
            async for piece in source:
                yield Text(piece) if isinstance(piece, str) else piece


def as_runner(runner: Any) -> Runner:
    """Return the runner that this is, or that can be made of it.

    That is a `Runner`, an asynchronous generator function, or an agent of Pydantic AI. Raises
    `ConfigError` for anything else.
    """
    methods = _METHODS if isinstance(runner, Runner) else ()
    for function in (runner, *(getattr(runner, name, None) for name in methods)):
        if inspect.iscoroutinefunction(function):
            raise ConfigError(
                f"{function.__qualname__} cannot answer: it is a coroutine function, which returns "
                "once and streams nothing",
                hint=YIELD,
            )
    if isinstance(runner, Runner) and not isinstance(runner, type):
        return runner
    if inspect.isasyncgenfunction(runner) or inspect.isasyncgenfunction(
        getattr(runner, "__call__", None)  # noqa: B004 - an object whose calls are generators
    ):
        return FunctionRunner(runner)
    if "pydantic_ai" in sys.modules:  # nobody has an agent of a library that is not loaded
        from pydantic_ai.agent import AbstractAgent

        if isinstance(runner, AbstractAgent):
            from holdfast.agents.pydantic_ai import PydanticAIRunner

            return PydanticAIRunner(runner)
    raise ConfigError(
        f"{runner!r} cannot answer",
        hint="pass a Runner, an asynchronous generator function that takes the history and yields "
        "text, or an agent of Pydantic AI",
    )
