"""From messages as the log has them to those of Pydantic AI."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
from pydantic import ValidationError
from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
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

from holdfast.model.message import Message, VerbatimMessage

_DATA_URL = re.compile(r"data:([^;,]+);base64,(.*)", re.DOTALL)


def to_model_messages(history: Sequence[Message]) -> list[ModelMessage]:
    """Return a history as Pydantic AI takes it.

    What follows each other on one side of the conversation becomes one message. A part of a message
    that Pydantic AI has no form for is handed over as its JSON text. An answer that `verbatim` has
    kept is what the model said, as long as the message still says the same.
    """
    messages: list[ModelMessage] = []
    names: dict[str, str] = {}
    for message in history:
        if message["role"] == "assistant":
            response = _kept(message) or ModelResponse(parts=_said(message))
            names |= dict(_calls(response.parts))
            _add_response(messages, response)
        else:
            _add_request(messages, _request_part(message, names))
    return messages


def verbatim(response: ModelResponse) -> Any:
    """Return an answer as JSON values, if the neutral form lacks some of it; else `None`.

    Providers sign what their models think, and some insist on having it back with the results of
    the calls that followed from it.
    """
    if all(map(_is_neutral, response.parts)):
        return None
    found = msgspec.json.decode(ModelMessagesTypeAdapter.dump_json([response], exclude_none=True))
    return found[0]


def _is_neutral(part: ModelResponsePart) -> bool:
    return isinstance(part, TextPart | ToolCallPart) and not (part.id or part.provider_details)


def _kept(message: Message) -> ModelResponse | None:
    if not isinstance(message, VerbatimMessage):
        return None
    try:
        (found,) = ModelMessagesTypeAdapter.validate_json(msgspec.json.encode([message.verbatim]))
    except ValidationError:  # another runner's, or another version's
        return None
    if not isinstance(found, ModelResponse):
        return None
    said = _said(message)
    same = _text(found.parts) == _text(said) and _calls(found.parts) == _calls(said)
    return found if same else None


def _text(parts: Sequence[ModelResponsePart]) -> str:
    return "".join(part.content for part in parts if isinstance(part, TextPart))


def _calls(parts: Sequence[ModelResponsePart]) -> list[tuple[str, str]]:
    return [(p.tool_call_id, p.tool_name) for p in parts if isinstance(p, ToolCallPart)]


def _add_request(messages: list[ModelMessage], part: ModelRequestPart) -> None:
    last = messages[-1] if messages else None
    if isinstance(last, ModelRequest):
        last.parts = [*last.parts, part]
    else:
        messages.append(ModelRequest(parts=[part]))


def _add_response(messages: list[ModelMessage], response: ModelResponse) -> None:
    last = messages[-1] if messages else None
    if not response.parts:
        return  # an empty answer: providers refuse it
    if isinstance(last, ModelResponse):
        messages[-1] = replace(response, parts=[*last.parts, *response.parts])
    else:
        messages.append(response)


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
