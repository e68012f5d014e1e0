"""The provider-ready form in the dialect of Anthropic's messages API.

Source: https://docs.anthropic.com/en/api/messages (system apart from the messages, calls as
`tool_use` blocks, results as `tool_result` blocks of the user's next message, roles in turn, the
user first).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from holdfast.model.message import Message

CONTINUED = "(The conversation goes on from here.)"
"""Stands for the user where a history begins with the assistant, which the API refuses."""

_FORBIDDEN = re.compile(r"[^a-zA-Z0-9_-]")
_NAME_LENGTH = 128


class AnthropicMessages(NamedTuple):
    """What `messages.create` takes: `system=` and `messages=`."""

    system: str
    messages: list[Message]


def to_anthropic(history: Iterable[Message]) -> AnthropicMessages:
    """Return the system texts, joined by blank lines, and the other messages with merged roles."""
    system: list[str] = []
    messages: list[Message] = []
    ids = _Ids()
    for message in history:
        role = message["role"]
        if role in ("system", "developer"):
            system.append(_text(message["content"]))
            continue
        blocks = _blocks(message, ids)
        if not blocks:
            continue  # the API refuses a message without content
        target = "assistant" if role == "assistant" else "user"
        if target == "assistant" and not messages:
            messages.append({"role": "user", "content": [{"type": "text", "text": CONTINUED}]})
        if messages and messages[-1]["role"] == target:
            messages[-1]["content"].extend(blocks)
        else:
            messages.append({"role": target, "content": blocks})
    _trim_end(messages)
    return AnthropicMessages("\n\n".join(system), messages)


def _trim_end(messages: list[Message]) -> None:
    """Take off the white space that the API refuses at the end of an assistant's last message."""
    if messages and messages[-1]["role"] == "assistant":
        blocks = messages[-1]["content"]
        if blocks[-1].get("type") == "text":
            blocks[-1] = {**blocks[-1], "text": blocks[-1]["text"].rstrip()}


class _Ids:
    """Call ids as the API wants them: of its characters, and each once in a request.

    Results name their calls as they were, so each is given to the first that waits for it.
    """

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._waiting: dict[str, list[str]] = {}

    def called(self, call: str) -> str:
        clean = _FORBIDDEN.sub("_", call)
        name, number = clean, 1
        while name in self._used:
            number += 1
            name = f"{clean}-{number}"
        self._used.add(name)
        self._waiting.setdefault(call, []).append(name)
        return name

    def answered(self, call: str) -> str:
        waiting = self._waiting.get(call)
        return waiting.pop(0) if waiting else _FORBIDDEN.sub("_", call)


def _blocks(message: Message, ids: _Ids) -> list[dict[str, Any]]:
    content = message["content"]
    if message["role"] == "tool":
        return [
            {
                "type": "tool_result",
                "tool_use_id": ids.answered(message["tool_call_id"]),
                "content": content if isinstance(content, str) else _parts(content),
            }
        ]
    blocks = _parts(content)
    blocks.extend(_tool_use(call, ids) for call in message.get("tool_calls") or ())
    return blocks


def _parts(content: object) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    parts = content if isinstance(content, list) else []
    return [_part(part) for part in parts if not _is_blank(part)]


def _is_blank(part: dict[str, Any]) -> bool:
    return part.get("type") == "text" and not str(part.get("text") or "").strip()


def _part(part: dict[str, Any]) -> dict[str, Any]:
    """Return OpenAI's image part as Anthropic's; every other part as it is."""
    if part.get("type") != "image_url":
        return part
    image = part.get("image_url")
    url = image.get("url", "") if isinstance(image, dict) else str(image)
    head, comma, data = url.partition(";base64,")
    if comma and head.startswith("data:"):
        source = {"type": "base64", "media_type": head.removeprefix("data:"), "data": data}
    else:
        source = {"type": "url", "url": url}
    return {"type": "image", "source": source}


def _tool_use(call: dict[str, Any], ids: _Ids) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict):
        function = {}
    return {
        "type": "tool_use",
        "id": ids.called(call["id"]),
        "name": _FORBIDDEN.sub("_", str(function.get("name") or "unknown"))[:_NAME_LENGTH],
        "input": _arguments(function.get("arguments")),
    }


def _arguments(text: object) -> dict[str, Any]:
    if isinstance(text, dict):
        return text
    try:
        found = msgspec.json.decode(str(text or "{}"))
    except msgspec.DecodeError:
        return {"arguments": text}  # a model's broken JSON: shown as it was, never dropped
    return found if isinstance(found, dict) else {"arguments": found}


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part["text"]) for part in parts if "text" in part)
