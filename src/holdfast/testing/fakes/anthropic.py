"""A server on loopback that speaks Anthropic's messages, streaming included.

The real `anthropic` client talks to it: give it `base_url`. What the model thinks is streamed, and
signed with `SIGNATURE`. Source: "Messages" and "Streaming messages" in Anthropic's API reference.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from holdfast.testing.fakes.serving import FakeCall, FakeServer, Script, Scripted, Stream, sent

__all__ = ["SIGNATURE", "FakeAnthropic", "FakeCall", "Script", "Scripted"]

SIGNATURE = "signed-by-the-fake"


class FakeAnthropic(FakeServer):
    """The server, to be used with `with`; `base_url` is its address.

    `requests` has the bodies of all requests so far, in order. A script that is at its end answers
    with status 500.
    """

    def __init__(self, script: Script = ()) -> None:
        super().__init__(_Messages(), script)


class _Messages:
    root = ""
    path = "/v1/messages"

    def wants_stream(self, body: dict[str, Any]) -> bool:
        return bool(body.get("stream"))

    def stream(self, scripted: Scripted, body: dict[str, Any]) -> Stream:
        used, made = scripted.usage or (0, 0)
        begun = _message(body["model"], [], None, (used, 1))
        delta = {"stop_reason": _reason(scripted), "stop_sequence": None}
        return Stream(
            _event({"type": "message_start", "message": begun})
            + b"".join(_thinking(scripted.thinking)),
            _pieces(scripted),
            _event({"type": "message_delta", "delta": delta, "usage": {"output_tokens": made}})
            + _event({"type": "message_stop"}),
        )

    def whole(self, scripted: Scripted, body: dict[str, Any]) -> dict[str, Any]:
        content: list[dict[str, Any]] = [
            {"type": "text", "text": piece} for piece in scripted.pieces
        ]
        content += [_tool(call, json.loads(call.arguments)) for call in scripted.calls]
        return _message(body["model"], content, _reason(scripted), scripted.usage or (0, 0))

    def error(self, status: int) -> dict[str, Any]:
        kinds = {429: "rate_limit_error", 401: "authentication_error", 529: "overloaded_error"}
        kind = kinds.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": f"scripted {status}"}}


def _pieces(scripted: Scripted) -> Iterator[bytes]:
    index = 1 if scripted.thinking else 0
    begun = _block(index, {"type": "text", "text": ""})
    for piece in scripted.pieces:
        yield begun + _delta(index, {"type": "text_delta", "text": piece})
        begun = b""
    if scripted.pieces:
        yield _stop(index)
        index += 1
    for call in scripted.calls:
        half = len(call.arguments) // 2
        first, rest = (
            _delta(index, {"type": "input_json_delta", "partial_json": part})
            for part in (call.arguments[:half], call.arguments[half:])
        )
        yield _block(index, _tool(call, {})) + first
        yield rest
        yield _stop(index)
        index += 1


def _message(
    model: str, content: list[dict[str, Any]], reason: str | None, usage: tuple[int, int]
) -> dict[str, Any]:
    return {
        "id": "msg_fake",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {"input_tokens": usage[0], "output_tokens": usage[1]},
    }


def _tool(call: FakeCall, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}


def _reason(scripted: Scripted) -> str:
    return "tool_use" if scripted.calls else "end_turn"


def _thinking(text: str) -> Iterator[bytes]:
    if not text:
        return
    yield _block(0, {"type": "thinking", "thinking": "", "signature": ""})
    yield _delta(0, {"type": "thinking_delta", "thinking": text})
    yield _delta(0, {"type": "signature_delta", "signature": SIGNATURE})
    yield _stop(0)


def _block(index: int, block: dict[str, Any]) -> bytes:
    return _event({"type": "content_block_start", "index": index, "content_block": block})


def _delta(index: int, delta: dict[str, Any]) -> bytes:
    return _event({"type": "content_block_delta", "index": index, "delta": delta})


def _stop(index: int) -> bytes:
    return _event({"type": "content_block_stop", "index": index})


def _event(data: dict[str, Any]) -> bytes:
    return sent(data, data["type"])
