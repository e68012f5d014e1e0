"""A server on loopback that plays a model's provider: what it answers is scripted, faults included.

It can refuse, be overloaded, stream slowly, or cut a stream in the middle. How requests and streams
look is a `Dialect`: that of one provider, in a module of its own.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

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
    pieces `delay` seconds pass. The usage is sent as the provider does, if the client asked for it
    and `usage` is given: input and output tokens. What the model thinks first is streamed, and
    signed, where the provider does so.
    """

    thinking: str = ""
    pieces: tuple[str, ...] = ()
    calls: tuple[FakeCall, ...] = ()
    usage: tuple[int, int] | None = (10, 5)
    status: int = 200
    delay: float = 0.0
    hold_after: int | None = None
    cut_after: int | None = None


Script: TypeAlias = "Sequence[Scripted] | Callable[[dict[str, Any]], Scripted]"
"""What is answered: one after the other, or by a function of the request's body."""


class Stream(Struct, frozen=True):
    """The bytes of a stream: its pieces are those of the text, then the calls, then their end."""

    begin: bytes
    pieces: Iterator[bytes]
    end: bytes


class Dialect(Protocol):
    """How one provider's requests and answers look."""

    root: str
    """What the client's `base_url` ends with."""

    path: str
    """What the path of a request for an answer ends with."""

    def wants_stream(self, body: dict[str, Any], /) -> bool:
        """Say whether a request asks for a stream."""
        ...

    def stream(self, scripted: Scripted, body: dict[str, Any], /) -> Stream:
        """Return the answer to a request as a stream."""
        ...

    def whole(self, scripted: Scripted, body: dict[str, Any], /) -> dict[str, Any]:
        """Return an answer that is no stream."""
        ...

    def error(self, status: int) -> dict[str, Any]:
        """Return the body of a refusal."""
        ...


class FakeServer:
    """The server, to be used with `with`; `base_url` is its address.

    `requests` has the bodies of all requests so far, in order. A script that is at its end answers
    with status 500.
    """

    def __init__(self, dialect: Dialect, script: Script = ()) -> None:
        self.requests: list[dict[str, Any]] = []
        self.cut_off = threading.Event()
        self.dialect = dialect
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
        return f"http://127.0.0.1:{self._server.server_address[1]}{self.dialect.root}"

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
    fake: FakeServer


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection's requests."""

    protocol_version = "HTTP/1.1"
    timeout = 5.0  # of an idle connection
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        fake = self.server.fake
        dialect = fake.dialect
        if not self.path.partition("?")[0].endswith(dialect.path):
            self._send(404, {"error": {"message": f"there is no {self.path}"}})
            return
        scripted = fake.next(body)
        if scripted.status >= 400:
            self._send(scripted.status, dialect.error(scripted.status))
        elif dialect.wants_stream(body):
            self._stream(scripted, body)
        else:
            self._send(200, dialect.whole(scripted, body))

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
        stream = fake.dialect.stream(scripted, body)
        try:
            self._write(stream.begin)
            for number, piece in enumerate(stream.pieces):
                if number == scripted.cut_after:
                    return  # without the end that the encoding asks for
                if number == scripted.hold_after:
                    fake.wait_until_released()
                self._write(piece)
                if scripted.delay:
                    fake.wait(scripted.delay)
            self._write(stream.end)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:  # whoever asked is gone
            fake.cut_off.set()

    def _write(self, data: bytes) -> None:
        if not data:
            return  # it would be the end
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


def sent(data: dict[str, Any], event: str | None = None) -> bytes:
    """Return an event of a stream."""
    head = b"" if event is None else f"event: {event}\n".encode()
    return head + b"data: " + json.dumps(data).encode() + b"\n\n"
