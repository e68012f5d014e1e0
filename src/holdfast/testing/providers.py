"""What model providers refuse: their rules for a list of messages, as strict as they are.

For tests of whatever makes such lists. Each function raises `Refused` with the rule that a list
breaks, and returns nothing if the provider would take it. A list without messages is not judged:
there is nothing to be sent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from holdfast.model.message import Message

_OPENAI_KEYS = {
    "system": {"role", "content", "name"},
    "developer": {"role", "content", "name"},
    "user": {"role", "content", "name"},
    "assistant": {"role", "content", "name", "tool_calls"},
    "tool": {"role", "content", "tool_call_id"},
}
_ANTHROPIC_ID = re.compile(r"[a-zA-Z0-9_-]+")
_ANTHROPIC_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


class Refused(Exception):
    """A provider would answer 400 to this list of messages."""


def check_openai(messages: Sequence[Message]) -> None:
    """Raise unless OpenAI's chat completions take these messages.

    Source: https://platform.openai.com/docs/api-reference/chat/create. An assistant's message with
    `tool_calls` is followed at once by exactly one `tool` message for each id, and a `tool` message
    stands nowhere else. Content is text or a list of at least one part; only an assistant's message
    with calls may go without. Each role has the keys that the API knows of it.
    """
    open_calls: Counter[str] = Counter()
    for index, message in enumerate(messages):
        role = message.get("role")
        if role not in _OPENAI_KEYS:
            raise Refused(f"messages[{index}]: {role!r} is not a role")
        if unknown := set(message) - _OPENAI_KEYS[role]:
            raise Refused(f"messages[{index}]: {role} has no {', '.join(sorted(unknown))}")
        if role == "tool":
            _answer(index, message, open_calls)
        elif open_calls.total():
            raise Refused(f"messages[{index}]: calls {sorted(open_calls)} have no result before it")
        _check_openai_content(index, message)
        if role == "assistant" and "tool_calls" in message:
            open_calls = _openai_calls(index, message["tool_calls"])
    if open_calls.total():
        raise Refused(f"calls {sorted(open_calls)} at the end have no result")


def check_anthropic(messages: Sequence[Message]) -> None:
    """Raise unless Anthropic's messages API takes these messages.

    Source: https://docs.anthropic.com/en/api/messages and, for tools,
    https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/implement-tool-use. Roles take
    turns, and the user begins. Messages and texts are not blank. The `tool_use` blocks of a message
    are answered by the `tool_result` blocks with which the next one begins, one for each, and there
    are no others. Ids and names have their form, and no id is used twice. An assistant's message at
    the end does not end in white space.
    """
    open_calls: list[str] = []
    used: set[str] = set()
    for index, message in enumerate(messages):
        where, role, blocks = f"messages[{index}]", message.get("role"), message.get("content")
        if role != ("assistant" if index % 2 else "user"):
            raise Refused(f"{where}: {role!r}, but the user begins and roles take turns")
        if set(message) != {"role", "content"}:
            raise Refused(f"{where}: {sorted(message)} are not its keys")
        if not isinstance(blocks, list) or not blocks:
            raise Refused(f"{where}: content is empty")
        results = _leading_results(blocks)
        if sorted(results) != sorted(open_calls):
            raise Refused(f"{where}: results of {results} for calls {open_calls}")
        open_calls = [block["id"] for block in blocks if block.get("type") == "tool_use"]
        if open_calls and role != "assistant":
            raise Refused(f"{where}: the user calls no tools")
        if len(set(open_calls)) < len(open_calls) or used.intersection(open_calls):
            raise Refused(f"{where}: ids {open_calls} are not unique")
        used.update(open_calls)
        for block in blocks[len(results) :]:
            _check_block(where, block)
    if open_calls:
        raise Refused(f"calls {open_calls} at the end have no results")
    _check_end(messages)


def _answer(index: int, message: Message, open_calls: Counter[str]) -> None:
    call = message.get("tool_call_id")
    if not isinstance(call, str) or not open_calls[call]:
        raise Refused(f"messages[{index}]: no call right before it has the id {call!r}")
    open_calls[call] -= 1


def _check_openai_content(index: int, message: Message) -> None:
    content = message.get("content")
    if content is None and message["role"] == "assistant" and message.get("tool_calls"):
        return
    if not isinstance(content, str) and not (isinstance(content, list) and content):
        raise Refused(f"messages[{index}]: content is missing")
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise Refused(f"messages[{index}]: {part!r} is no part")


def _openai_calls(index: int, calls: Any) -> Counter[str]:
    if not isinstance(calls, list) or not calls:
        raise Refused(f"messages[{index}]: tool_calls is empty")
    for call in calls:
        function = call.get("function")
        if call.get("type") != "function" or not isinstance(function, dict):
            raise Refused(f"messages[{index}]: {call!r} is no call of a function")
        if not function.get("name") or not isinstance(function.get("arguments"), str):
            raise Refused(f"messages[{index}]: {function!r} lacks a name, or arguments as text")
    ids = Counter(call.get("id") for call in calls)
    if any(not isinstance(id_, str) or count > 1 for id_, count in ids.items()):
        raise Refused(f"messages[{index}]: the calls' ids {sorted(map(str, ids))} are not unique")
    return ids


def _leading_results(blocks: Iterable[dict[str, Any]]) -> list[str]:
    found = []
    for block in blocks:
        if block.get("type") != "tool_result":
            break
        inner = block.get("content", "")
        for part in inner if isinstance(inner, list) else ():
            _check_block("a result", part)
        found.append(block["tool_use_id"])
    return found


def _check_block(where: str, block: dict[str, Any]) -> None:
    kind = block.get("type")
    if kind == "text":
        if not str(block.get("text") or "").strip():
            raise Refused(f"{where}: text is blank")
    elif kind == "tool_use":
        if not _ANTHROPIC_NAME.fullmatch(str(block.get("name"))):
            raise Refused(f"{where}: {block.get('name')!r} is no tool's name")
        if not _ANTHROPIC_ID.fullmatch(block["id"]):
            raise Refused(f"{where}: {block['id']!r} is no call's id")
        if not isinstance(block.get("input"), dict):
            raise Refused(f"{where}: a call's input is no object")
    elif kind == "tool_result":
        raise Refused(f"{where}: results come first")
    elif kind not in ("image", "document"):
        raise Refused(f"{where}: {kind!r} is no block")


def _check_end(messages: Sequence[Message]) -> None:
    last = messages[-1]["content"][-1] if messages else {}
    if last.get("type") == "text" and messages[-1]["role"] == "assistant":
        text = last["text"]
        if text != text.rstrip():
            raise Refused("the assistant's text at the end ends in white space")
