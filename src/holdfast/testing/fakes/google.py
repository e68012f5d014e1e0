"""A server on loopback that speaks the streams of Google's Gemini API.

The real `google-genai` client talks to it: give it `base_url`, or name that in
`GOOGLE_GEMINI_BASE_URL`. What is asked without a stream is unknown to it. What the model thinks is
streamed, and its calls are signed with `SIGNATURE` then.
Source: `models.streamGenerateContent` in the Gemini API reference.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from holdfast.testing.fakes.serving import FakeCall, FakeServer, Script, Scripted, Stream, sent

__all__ = ["SIGNATURE", "FakeCall", "FakeGoogle", "Script", "Scripted"]

SIGNATURE = base64.b64encode(b"signed-by-the-fake").decode()


class FakeGoogle(FakeServer):
    """The server, to be used with `with`; `base_url` is its address.

    `requests` has the bodies of all requests so far, in order. A script that is at its end answers
    with status 500.
    """

    def __init__(self, script: Script = ()) -> None:
        super().__init__(_Gemini(), script)


class _Gemini:
    root = ""
    path = ":streamGenerateContent"

    def wants_stream(self, _: dict[str, Any]) -> bool:
        return True

    def stream(self, scripted: Scripted, _: dict[str, Any]) -> Stream:
        thought = [{"text": scripted.thinking, "thought": True}] if scripted.thinking else []
        return Stream(
            b"".join(_chunk([part]) for part in thought),
            (_chunk([part]) for part in _parts(scripted)),
            _chunk([], "STOP", scripted.usage),
        )

    def whole(self, scripted: Scripted, _: dict[str, Any]) -> dict[str, Any]:
        return _answer(list(_parts(scripted)), "STOP", scripted.usage)

    def error(self, status: int) -> dict[str, Any]:
        names = {429: "RESOURCE_EXHAUSTED", 401: "UNAUTHENTICATED", 400: "INVALID_ARGUMENT"}
        name = names.get(status, "INTERNAL")
        return {"error": {"code": status, "message": f"scripted {status}", "status": name}}


def _parts(scripted: Scripted) -> Iterator[dict[str, Any]]:
    for piece in scripted.pieces:
        yield {"text": piece}
    signed = {"thoughtSignature": SIGNATURE} if scripted.thinking else {}
    for call in scripted.calls:
        wanted = {"id": call.id, "name": call.name, "args": json.loads(call.arguments)}
        yield {"functionCall": wanted} | signed


def _chunk(
    parts: list[dict[str, Any]], reason: str | None = None, usage: tuple[int, int] | None = None
) -> bytes:
    return sent(_answer(parts, reason, usage))


def _answer(
    parts: list[dict[str, Any]], reason: str | None, usage: tuple[int, int] | None
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": parts}}
    if reason:
        candidate["finishReason"] = reason
    answer: dict[str, Any] = {"candidates": [candidate], "responseId": "fake"}
    if usage is not None:
        used, made = usage
        answer["usageMetadata"] = {
            "promptTokenCount": used,
            "candidatesTokenCount": made,
            "totalTokenCount": used + made,
        }
    return answer
