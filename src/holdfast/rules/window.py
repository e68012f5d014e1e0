"""Limits: the last messages of a history, never beginning inside a tool exchange."""

from __future__ import annotations

from holdfast.model.message import Message
from holdfast.rules.repair import are_plain, exchanges


def last_messages(messages: list[Message], limit: int) -> list[Message]:
    """Return at most `limit` messages from the end, from after an exchange they would split."""
    start = len(messages) - limit
    if start <= 0:
        return messages
    if reaches_back(messages[start:]):
        for caller, results in exchanges(messages).items():
            end = max((found for _, found in results if found is not None), default=caller)
            if caller < start <= end:
                start = end + 1
    return messages[start:]


def reaches_back(messages: list[Message]) -> bool:
    """Say whether a result in `messages` may belong to a call before them."""
    if are_plain(messages):
        return False
    calls: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message.get("tool_call_id") not in calls:
                return True
        elif called := message.get("tool_calls"):
            calls.update(str(call["id"]) for call in called)
    return False
