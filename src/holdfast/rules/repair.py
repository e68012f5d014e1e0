"""Tool calls and their results, made acceptable to a provider when history is read.

Providers refuse a call without a result, a result without a call, and anything between the two.
Crashes, limits and concurrent writers make all three. The log keeps what happened; this view closes
it, by position, since call ids are reused in the wild.
"""

from __future__ import annotations

from holdfast.model.message import PLAIN_KEYS, Message, SyntheticMessage

NO_RESULT = "No result was recorded: this call may or may not have been carried out."


def repair(messages: list[Message]) -> list[Message]:
    """Return `messages` with every tool call directly followed by its results, and no stray ones.

    A call's result is the first later `tool` message with its id, before the next assistant message
    that uses the id again. What stood between a call and its results follows them.
    """
    if are_plain(messages):
        return messages
    results = exchanges(messages)
    whole: list[Message] = []
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            continue  # a result stands behind its call; one without a call is left out
        whole.append(message)
        for call, found in results.get(index, ()):
            whole.append(_no_result(call) if found is None else messages[found])
    return whole


def are_plain(messages: list[Message]) -> bool:
    """Say, without a loop of our own, that there are no calls and no results among messages."""
    return set(map(len, messages)) <= {PLAIN_KEYS}


def exchanges(messages: list[Message]) -> dict[int, list[tuple[str, int | None]]]:
    """Return each calling message's call ids and the indexes of their results."""
    pairs: dict[int, list[tuple[str, int | None]]] = {}
    waiting: dict[str, list[tuple[int, int]]] = {}
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            open_calls = waiting.get(message.get("tool_call_id") or "")
            if open_calls:
                caller, position = open_calls.pop(0)
                pairs[caller][position] = (pairs[caller][position][0], index)
        elif message["role"] == "assistant" and message.get("tool_calls"):
            ids = [str(call["id"]) for call in message["tool_calls"]]
            pairs[index] = [(call, None) for call in ids]
            for call in ids:
                waiting[call] = []
            for position, call in enumerate(ids):
                waiting[call].append((index, position))
    return pairs


def _no_result(call: str) -> SyntheticMessage:
    return SyntheticMessage(role="tool", tool_call_id=call, content=NO_RESULT)
