"""What a runner says while it answers, as frozen values."""

from __future__ import annotations

from typing import Any, TypeAlias, get_args

from msgspec import Struct

from holdfast.errors import InvalidArgument

_LONG = 80


class Text(Struct, frozen=True):
    """A piece of the answer, as it is streamed; `apart` begins a message of its own with it."""

    text: str
    apart: bool = False


class ModelCall(Struct, frozen=True):
    """A call of a model begins; `Used` ends it. One that has no such end counts as unknown."""

    model: str | None = None


class Used(Struct, frozen=True, kw_only=True):
    """A call of a model has ended, and took so many tokens; `unknown` if it did not tell."""

    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    unknown: bool = False


class ToolCall(Struct, frozen=True):
    """A tool that a model wants to be called: its name, and the arguments as a JSON object."""

    id: str
    name: str
    arguments: str = "{}"


class ToolCalls(Struct, frozen=True):
    """All tools that a model wants to be called at once.

    They are in the log when the runner goes on, which may call them from then on. The text that was
    streamed before is part of the same message. `verbatim` are JSON values that are kept with it,
    such as signed thinking: if the turn goes on in another attempt, the message in the history that
    the runner is given is a `VerbatimMessage`, which has them.
    """

    calls: tuple[ToolCall, ...]
    verbatim: Any = None


class ToolResult(Struct, frozen=True):
    """What a tool gave back: `call` is the id of its `ToolCall`."""

    call: str
    content: str
    name: str | None = None


class Waiting(Struct, frozen=True):
    """The answer cannot go on before these calls, by their ids, are approved or denied.

    They are in the log already. It is the last event; the turn waits then.
    """

    calls: tuple[str, ...]


class Output(Struct, frozen=True):
    """The answer as a value, where it is more than text; it is not written into the log."""

    value: Any


Event: TypeAlias = Text | ModelCall | Used | ToolCalls | ToolResult | Waiting | Output
"""What a runner yields, in the order in which it happens."""


def check_event(event: object) -> None:
    """Refuse what a runner may not yield: `InvalidArgument` says what it was."""
    if isinstance(event, Text) and isinstance(event.text, str):
        return
    if isinstance(event, Event) and not isinstance(event, Text):
        return
    names = ", ".join(kind.__name__ for kind in get_args(Event))
    raise InvalidArgument(
        f"a runner yielded {_shown(event)}, which is no event",
        code="no_event",
        hint=f"a generator function yields text (str), or one of holdfast.agents: {names}; "
        "a Runner yields only those",
    )


def _shown(event: object) -> str:
    shown = repr(event)
    return f"{type(event).__name__} {shown if len(shown) <= _LONG else shown[:_LONG] + '…'}"
