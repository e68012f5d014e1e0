"""A server on loopback that speaks OpenAI's chat completions, streaming included.

It answers what a test has scripted, and can fail as providers do: refuse, be overloaded, stream
slowly, or cut a stream in the middle. The real `openai` client talks to it: give it `base_url`.
Source: the chat completions part of OpenAI's API reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from holdfast.testing.fakes.serving import FakeCall, FakeServer, Script, Scripted, Stream, sent

__all__ = ["FakeCall", "FakeOpenAI", "Script", "Scripted"]


class FakeOpenAI(FakeServer):
    """The server, to be used with `with`; `base_url` is its address.

    `requests` has the bodies of all requests so far, in order. A script that is at its end answers
    with status 500.
    """

    def __init__(self, script: Script = ()) -> None:
        super().__init__(_ChatCompletions(), script)


class _ChatCompletions:
    root = "/v1"
    path = "/chat/completions"

    def wants_stream(self, body: dict[str, Any]) -> bool:
        return bool(body.get("stream"))

    def stream(self, scripted: Scripted, body: dict[str, Any]) -> Stream:
        model, usage = body["model"], b""
        if (body.get("stream_options") or {}).get("include_usage") and scripted.usage:
            usage = sent(_chunk(model, [], scripted.usage))
        pieces = (sent(_chunk(model, [choice])) for choice in _choices(scripted))
        return Stream(b"", pieces, usage + b"data: [DONE]\n\n")

    def whole(self, scripted: Scripted, body: dict[str, Any]) -> dict[str, Any]:
        return _whole(scripted, body["model"])

    def error(self, status: int) -> dict[str, Any]:
        return _error(status)


def _choices(scripted: Scripted) -> Iterator[dict[str, Any]]:
    """Yield what each chunk's choice is: the pieces of text, the calls, and the end."""
    for piece in scripted.pieces:
        yield _choice({"role": "assistant", "content": piece})
    for index, call in enumerate(scripted.calls):
        half = len(call.arguments) // 2
        begun = {"name": call.name, "arguments": call.arguments[:half]}
        yield _choice(
            {"tool_calls": [{"index": index, "id": call.id, "type": "function", "function": begun}]}
        )
        rest = {"arguments": call.arguments[half:]}
        yield _choice({"tool_calls": [{"index": index, "function": rest}]})
    yield _choice({}, "tool_calls" if scripted.calls else "stop")


def _choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}


def _chunk(
    model: str, choices: list[dict[str, Any]], usage: tuple[int, int] | None = None
) -> dict[str, Any]:
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": model,
        "choices": choices,
        "usage": _usage(usage),
    }


def _whole(scripted: Scripted, model: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(scripted.pieces) or None}
    if scripted.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in scripted.calls
        ]
    finish = "tool_calls" if scripted.calls else "stop"
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": _usage(scripted.usage),
    }


def _usage(usage: tuple[int, int] | None) -> dict[str, int] | None:
    if usage is None:
        return None
    used, made = usage
    return {"prompt_tokens": used, "completion_tokens": made, "total_tokens": used + made}


def _error(status: int) -> dict[str, Any]:
    kinds = {429: "rate_limit_error", 401: "authentication_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": f"scripted {status}", "type": kind, "code": None, "param": None}}
