"""What a message is: a JSON object that a model provider understands.

Holdfast understands `role` and `content`, keeps every other key exactly, and adds `id` and
`created_at` where the caller gave none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]
"""One message as JSON values: the one mapping that crosses floors untyped."""

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})

PLAIN_ROLES = ROLES - {"tool"}
"""Who may say something that is only text; a tool's message names the call that it answers."""

PLAIN_KEYS = 2
"""A provider-ready message with that many keys has a role and content only, as nearly all have."""


class SyntheticMessage(dict[str, Any]):
    """A message that reading invented to close a tool call without a result; never stored."""


VERBATIM = "verbatim"
"""Where in a message's metadata its runner keeps what the neutral form lacks."""


class VerbatimMessage(dict[str, Any]):
    """A message as a provider takes it, with what its runner kept of it, for the same turn only."""

    def __init__(self, message: Message, verbatim: Any) -> None:
        super().__init__(message)
        self.verbatim = verbatim


def new_message(
    role: str,
    content: Any,
    *,
    metadata: Mapping[str, Any] | None = None,
    tool_calls: Sequence[Mapping[str, Any]] | None = None,
    tool_call_id: str | None = None,
) -> Message:
    """Return a message with those keys that have a value; nothing is checked."""
    message: Message = {"role": role, "content": content}
    if tool_calls is not None:
        message["tool_calls"] = tool_calls
    if tool_call_id is not None:
        message["tool_call_id"] = tool_call_id
    if metadata is not None:
        message["metadata"] = metadata
    return message
