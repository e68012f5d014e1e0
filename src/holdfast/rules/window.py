"""Limits: the last messages of a history, never beginning inside a tool exchange."""

from __future__ import annotations

from holdfast.model.message import Message


def last_messages(messages: list[Message], limit: int) -> list[Message]:
    """Return at most `limit` messages from the end, never beginning inside a tool exchange."""
    start = max(0, len(messages) - limit)
    while start < len(messages) and messages[start]["role"] == "tool":
        start += 1
    return messages[start:]


def reaches_back(messages: list[Message]) -> bool:
    """Say whether a result in `messages` belongs to a call before them."""
    calls: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            if message.get("tool_call_id") not in calls:
                return True
        else:
            calls.update(str(call["id"]) for call in message.get("tool_calls") or ())
    return False
