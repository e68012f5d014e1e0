"""What can be said of a tool: that a person has to agree, or that calling it twice does no harm."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from holdfast.errors import ConfigError

Function = TypeVar("Function", bound=Callable[..., Any])

_FUNCTIONS = (
    "pass functions with types and a docstring, sync or async, and write one around anything else; "
    "Holdfast brings no tools"
)
_NEEDS_APPROVAL = "__holdfast_needs_approval__"
_IDEMPOTENT = "__holdfast_idempotent__"


def needs_approval(function: Function) -> Function:
    """Mark a tool as one that is called only once a person has agreed."""
    return _marked(function, _NEEDS_APPROVAL)


def idempotent(function: Function) -> Function:
    """Mark a tool as one that may be called again where nobody knows whether it was.

    That is so after a crash between the call and its result. A tool without this mark is not called
    again: the model is told that it may or may not have happened. One that needs approval as well
    waits for it once more.
    """
    return _marked(function, _IDEMPOTENT)


def asks_first(tool: object) -> bool:
    """Say whether a tool needs approval."""
    return getattr(tool, _NEEDS_APPROVAL, False) is True


def asking_names(tools: Iterable[Callable[..., Any]]) -> frozenset[str]:
    """Return the names of those tools that need approval."""
    return frozenset(tool.__name__ for tool in tools if asks_first(tool))


def idempotent_names(tools: Iterable[Callable[..., Any]]) -> frozenset[str]:
    """Return the names of those tools that may be called again."""
    return frozenset(tool.__name__ for tool in tools if getattr(tool, _IDEMPOTENT, False) is True)


def checked_tools(tools: object) -> tuple[Callable[..., Any], ...]:
    """Return tools that a model can be told of; raises `ConfigError` for anything else."""
    if isinstance(tools, str) or not isinstance(tools, Iterable):
        raise ConfigError(f"tools={tools!r} is no list of functions", hint=_FUNCTIONS)
    checked = tuple(tools)
    names: set[str] = set()
    for tool in checked:
        name = _name(tool)
        if name is None:
            raise ConfigError(f"tool {tool!r} is not a function", hint=_FUNCTIONS)
        if name in names:
            raise ConfigError(
                f"two tools are called {name!r}",
                hint="rename one: a model tells them apart by their names",
            )
        names.add(name)
    return checked


def _name(tool: Any) -> str | None:
    """Return what a model calls a tool, if it is a function or a tool of Pydantic AI."""
    if callable(tool):
        return getattr(tool, "__name__", None)
    library = sys.modules.get("pydantic_ai")  # nobody has a tool of one that is not loaded
    return tool.name if library is not None and isinstance(tool, library.Tool) else None


def _marked(function: Function, mark: str) -> Function:
    try:
        setattr(function, mark, True)
    except AttributeError:
        raise ConfigError(
            f"{function!r} cannot be marked",
            hint="mark the function itself, where it is defined",
        ) from None
    return function
