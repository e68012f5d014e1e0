"""A server on loopback that speaks OpenAI's chat completions, streaming included.

It answers what a test has scripted, and can fail as providers do: refuse, be overloaded, stream
slowly, or cut a stream in the middle. The real `openai` client talks to it: give it `base_url`.
Source: the chat completions part of OpenAI's API reference.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self, TypeAlias

from msgspec import Struct

PATIENCE_S = 60.0
"""A stream that is held back goes on after so long, whoever forgot to let it."""


class FakeCall(Struct, frozen=True):
    """A tool that the model calls; `arguments` is a JSON object."""

    name: str
    arguments: str = "{}"
    id: str = "call_1"


class Scripted(Struct, frozen=True, kw_only=True):
    """One answer of the server: its text in `pieces`, then its tool `calls`, or a fault.

    A `status` of 400 and more is sent as an error. The stream stops `hold_after` so many pieces
    until the server is told to `release` it, and its connection is cut `cut_after` so many. Between
    pieces `delay` seconds pass. The usage is sent in the stream's last chunk, if the client asked
    for it and `usage` is given: input and output tokens.
    """

    pieces: tuple[str, ...] = ()
    calls: tuple[FakeCall, ...] = ()
    usage: tuple[int, int] | None = (10, 5)
    status: int = 200
    delay: float = 0.0
    hold_after: int | None = None
    cut_after: int | None = None


Script: TypeAlias = "Sequence[Scripted] | Callable[[dict[str, Any]], Scripted]"
"""What is answered: one after the other, or by a function of the request's body."""


class FakeOpenAI:
    """The server, to be used with `with`; `base_url` is its address.

    `requests` has the bodies of all requests so far, in order. A script that is at its end answers
    with status 500.
    """

    def __init__(self, script: Script = ()) -> None:
        self.requests: list[dict[str, Any]] = []
        self.cut_off = threading.Event()
        self._script = script
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._stopped = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def base_url(self) -> str:
        """What to give the client as `base_url`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def release(self) -> None:
        """Let streams go on that are held back, now and later."""
        self._released.set()

    def next(self, body: dict[str, Any]) -> Scripted:
        """Note a request, and return what is to be answered."""
        with self._lock:
            number = len(self.requests)
            self.requests.append(body)
        if callable(self._script):
            return self._script(body)
        if number < len(self._script):
            return self._script[number]
        return Scripted(status=500)

    def wait_until_released(self) -> None:
        """Hold a stream back."""
        self._released.wait(PATIENCE_S)

    def wait(self, seconds: float) -> None:
        """Let time pass, unless the server is being closed."""
        self._stopped.wait(seconds)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for them, so that nothing is left behind
    block_on_close = True
    request_queue_size = 128
    fake: FakeOpenAI


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection's requests."""

    protocol_version = "HTTP/1.1"
    timeout = 5.0  # of an idle connection
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        fake = self.server.fake
        if not self.path.endswith("/chat/completions"):
            self._send(404, {"error": {"message": f"there is no {self.path}"}})
            return
        scripted = fake.next(body)
        if scripted.status >= 400:
            self._send(scripted.status, _error(scripted.status))
        elif body.get("stream"):
            self._stream(scripted, body)
        else:
            self._send(200, _whole(scripted, body["model"]))

    def _send(self, status: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        if status == 429:
            self.send_header("retry-after-ms", "10")
        # A client that is refused opens a connection anew, so that none is left idle.
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(text)
        self.close_connection = True

    def _stream(self, scripted: Scripted, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        fake = self.server.fake
        try:
            for number, choice in enumerate(_choices(scripted)):
                if number == scripted.cut_after:
                    return  # without the end that the encoding asks for
                if number == scripted.hold_after:
                    fake.wait_until_released()
                self._event(_chunk(body["model"], [choice]))
                if scripted.delay:
                    fake.wait(scripted.delay)
            if (body.get("stream_options") or {}).get("include_usage") and scripted.usage:
                self._event(_chunk(body["model"], [], scripted.usage))
            self._write(b"data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
        except OSError:  # whoever asked is gone
            fake.cut_off.set()

    def _event(self, chunk: dict[str, Any]) -> None:
        self._write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    def _write(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


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
