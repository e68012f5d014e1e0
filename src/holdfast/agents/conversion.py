"""From messages as the log has them to those of Pydantic AI."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
)

from holdfast.model.message import Message

_DATA_URL = re.compile(r"data:([^;,]+);base64,(.*)", re.DOTALL)


def to_model_messages(history: Sequence[Message]) -> list[ModelMessage]:
    """Return a history as Pydantic AI takes it.

    What follows each other on one side of the conversation becomes one message. A part of a message
    that Pydantic AI has no form for is handed over as its JSON text.
    """
    messages: list[ModelMessage] = []
    names: dict[str, str] = {}
    for message in history:
        if message["role"] == "assistant":
            parts = _said(message)
            names |= {p.tool_call_id: p.tool_name for p in parts if isinstance(p, ToolCallPart)}
            _add_response(messages, parts)
        else:
            _add_request(messages, _request_part(message, names))
    return messages


def _add_request(messages: list[ModelMessage], part: ModelRequestPart) -> None:
    last = messages[-1] if messages else None
    if isinstance(last, ModelRequest):
        last.parts = [*last.parts, part]
    else:
        messages.append(ModelRequest(parts=[part]))


def _add_response(messages: list[ModelMessage], parts: list[ModelResponsePart]) -> None:
    last = messages[-1] if messages else None
    if not parts:
        return  # an empty answer: providers refuse it
    if isinstance(last, ModelResponse):
        last.parts = [*last.parts, *parts]
    else:
        messages.append(ModelResponse(parts=parts))


def _request_part(message: Message, names: dict[str, str]) -> ModelRequestPart:
    content = message.get("content")
    if message["role"] == "tool":
        call = str(message.get("tool_call_id"))
        return ToolReturnPart(names.get(call, "unknown"), _as_text(content), call)
    if message["role"] == "user":
        return UserPromptPart(_user_content(content))
    return SystemPromptPart(_as_text(content))


def _said(message: Message) -> list[ModelResponsePart]:
    text = _as_text(message.get("content"))
    parts: list[ModelResponsePart] = [TextPart(text)] if text else []
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        parts.append(
            ToolCallPart(
                tool_name=str(function.get("name", "unknown")),
                args=function.get("arguments") or "{}",
                tool_call_id=str(call["id"]),
            )
        )
    return parts


def _as_text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part["text"] if _is_text(part) else _json(part) for part in content)


def _user_content(content: Any) -> str | list[UserContent]:
    if not isinstance(content, list):
        return _as_text(content)
    return [_user_part(part) for part in content]


def _user_part(part: Any) -> UserContent:
    if _is_text(part):
        return str(part["text"])
    if isinstance(part, dict) and part.get("type") == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else image
        if isinstance(url, str):
            return _stored_inline(url) or ImageUrl(url=url)
    return _json(part)


def _stored_inline(url: str) -> BinaryContent | None:
    found = _DATA_URL.fullmatch(url)
    if found is None:
        return None
    try:
        data = base64.b64decode(found[2], validate=True)
    except binascii.Error:
        return None
    return BinaryContent(data=data, media_type=found[1])


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
