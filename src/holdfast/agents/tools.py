"""What can be said of a tool: that a person has to agree, or that calling it twice does no harm."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

_NEEDS_APPROVAL = "__holdfast_needs_approval__"
_IDEMPOTENT = "__holdfast_idempotent__"


def needs_approval(function: Function) -> Function:
    """Mark a tool as one that is called only once a person has agreed."""
    setattr(function, _NEEDS_APPROVAL, True)
    return function


def idempotent(function: Function) -> Function:
    """Mark a tool as one that may be called again where nobody knows whether it was.

    That is so after a crash between the call and its result. A tool without this mark is not called
    again: the model is told that it may or may not have happened.
    """
    setattr(function, _IDEMPOTENT, True)
    return function


def asks_first(tool: object) -> bool:
    """Say whether a tool needs approval."""
    return getattr(tool, _NEEDS_APPROVAL, False) is True


def idempotent_names(tools: Iterable[Callable[..., Any]]) -> frozenset[str]:
    """Return the names of those tools that may be called again."""
    return frozenset(tool.__name__ for tool in tools if getattr(tool, _IDEMPOTENT, False) is True)
