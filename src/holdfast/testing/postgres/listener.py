"""Takes connections on a loopback port, in a thread of its own.

A process that is forked while a listener runs holds its connections open, and a cut does not reach
them: start workers by `spawn` or as programs, or before the listener. A client in the same process
must not wait by calls that keep the interpreter's lock, as `psycopg.pq` does.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

from holdfast.testing.postgres import ports

T = TypeVar("T")
Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

CALL_S = 30.0
"""How long the thread may take to do what it is asked."""


class Listener:
    """Hands each connection to `serve`, on the event loop of its thread.

    What `serve` raises is raised again by `close`; that one side is gone is no failure.
    """

    def __init__(self, serve: Serve) -> None:
        self.port = 0
        self._serve = serve
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._server: asyncio.Server | None = None
        self._failures: list[BaseException] = []
        # asyncio knows who waits for a stream by weak references only.
        self._serving: set[asyncio.Task[Any] | None] = set()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def open(self) -> None:
        """Start the thread; from now on connections are taken."""
        self._thread.start()
        self._started.wait()
        self.call(self._accept())

    def close(self) -> None:
        """End the thread and all connections; raise what a connection failed with, if one did."""
        assert self._loop is not None
        assert self._ended is not None
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(CALL_S)
        if self._failures:
            raise self._failures[0]

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the listener's thread and return what it returns."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_S)

    def refuse(self) -> None:
        """Refuse new connections, as a machine does on which nothing listens."""
        self.call(self._refuse())

    def accept(self) -> None:
        """Take new connections again, on the same port."""
        self.call(self._accept())

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._note)
        self._ended = asyncio.Event()
        self._started.set()
        await self._ended.wait()
        await self._refuse()

    async def _accept(self) -> None:
        if self._server is not None:
            return
        if self.port:
            self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
        else:
            self._server = await asyncio.start_server(self._take, sock=ports.listen())
            self.port = self._server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(task := asyncio.current_task())
        connection: socket.socket = writer.get_extra_info("socket")
        # asyncio's way, which it forgets for connections to a socket that it was given.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # one side is gone, or the listener is being closed
        finally:
            writer.close()
            self._serving.discard(task)

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG002 # asyncio's
        self._failures.append(context.get("exception") or RuntimeError(context["message"]))
