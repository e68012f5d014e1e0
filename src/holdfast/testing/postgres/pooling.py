"""A proxy that shares a few connections among many clients, transaction by transaction.

It does what PgBouncer does with `pool_mode = transaction` and without support for prepared
statements, so whatever a session keeps beyond a transaction is lost, or met by somebody else. It
uses the connections in turn and opens all of them first, so that nothing is kept by luck.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

from holdfast.testing.postgres import wire
from holdfast.testing.postgres.addresses import Addressed, address_through
from holdfast.testing.postgres.listener import Listener

TRACKED = frozenset(
    {
        "user",
        "database",
        "application_name",
        "client_encoding",
        "datestyle",
        "timezone",
        "standard_conforming_strings",
    }
)
"""What a client may ask for when it connects, as with PgBouncer; here all but the user and the
database is ignored. `options` is refused."""


class PoolingProxy:
    """A proxy on a loopback port, with up to `size` connections for each user and database.

    A client has a connection from the first message of a transaction to its end; the others wait.
    Cancel requests reach the server. The server must trust its users.
    """

    def __init__(self, target_port: int, *, size: int) -> None:
        self._target = target_port
        self._size = size
        self._pools: dict[tuple[str, str], _Pool] = {}
        self._clients: dict[bytes, _Client] = {}
        self._keys = itertools.count(1)
        self._listener = Listener(self._serve)

    @property
    def port(self) -> int:
        """The port that the proxy listens on."""
        return self._listener.port

    @property
    def connections(self) -> int:
        """How many connections to the server there are."""
        return sum(pool.opened for pool in self._pools.values())

    def url_for(self, server: Addressed | str) -> str:
        """Return the address of a server or a database, with the way through this proxy."""
        return address_through(server, self.port)

    def __enter__(self) -> Self:
        self._listener.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packet = await wire.read_startup(reader, writer)
        if wire.is_cancel(packet):
            await self._cancel(packet[8:])
            return
        asked = wire.startup_parameters(packet)
        if refused := [name for name in asked if name.lower() not in TRACKED]:
            text = f"unsupported startup parameter: {refused[0]}"
            writer.write(wire.fatal("08P01", text))
            return
        user = asked["user"]
        pool = self._pool(user, asked.get("database", user))
        # Nobody can guess it, and it says nothing about the server's connections.
        key = struct.pack("!i", next(self._keys)) + os.urandom(4)
        client = self._clients[key] = _Client(pool, writer)
        try:
            await client.welcome(key)
            await client.ask(reader)
        except _ServerGone as gone:
            writer.write(gone.last_words)
        finally:
            del self._clients[key]
            client.leave()

    def _pool(self, user: str, database: str) -> _Pool:
        if (user, database) not in self._pools:
            parameters = {"user": user, "database": database}
            self._pools[user, database] = _Pool(self._target, parameters, self._size)
        return self._pools[user, database]

    async def _cancel(self, key: bytes) -> None:
        """Cancel what a client runs, if it has a connection just now."""
        client = self._clients.get(key)
        if client is None or client.link is None:
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", self._target)
        real = client.link.key
        writer.write(struct.pack("!ii", len(real) + 8, wire.CANCEL) + real)
        await reader.read()
        writer.close()


class _ServerGone(Exception):  # as with the errors of the package
    """The server refused or ended a connection; `last_words` is the message that tells a client."""

    def __init__(self, last_words: bytes) -> None:
        super().__init__("the server is gone")
        self.last_words = last_words


class _Client:
    """One client, which has a connection to the server only within a transaction."""

    def __init__(self, pool: _Pool, writer: asyncio.StreamWriter) -> None:
        self.link: _Link | None = None
        self.writer = writer
        self._pool = pool

    async def welcome(self, key: bytes) -> None:
        """Tell the client what the server told the pool, and a key of the proxy's own."""
        self.writer.write(
            wire.message(wire.AUTHENTICATION, struct.pack("!i", 0))
            + await self._pool.parameters()
            + wire.message(wire.KEY, key)
            + wire.message(wire.READY, wire.IDLE)
        )

    async def ask(self, reader: asyncio.StreamReader) -> None:
        """Forward what the client sends, until it takes its leave."""
        splitter = wire.Splitter()
        while data := await reader.read(wire.CHUNK):
            for message in splitter.feed(data):
                if message[:1] == wire.TERMINATE:
                    return
                link = self.link
                if link is None:
                    link = self.link = await self._pool.take()
                    link.client = self
                link.send(message)
            if self.link is not None:
                await self.link.drain()

    async def drain(self) -> None:
        """Wait until the client takes more."""
        with suppress(OSError):  # it is gone, and `ask` will notice
            await self.writer.drain()

    def lose(self) -> None:
        """Tell the client that the server is gone, and end its connection."""
        self.writer.write(wire.fatal("08P01", "server conn crashed?"))
        self.writer.close()

    def leave(self) -> None:
        """Let go of the connection: the server ends what was open in it."""
        if self.link is not None:
            self._pool.discard(self.link)
            self.link = None


class _Pool:
    """The connections for one user and one database."""

    def __init__(self, target: int, startup: Mapping[str, str], size: int) -> None:
        self.opened = 0
        self._target = target
        self._startup = wire.startup(startup)
        self._parameters: bytes | None = None
        # First in, first out. None stands for a connection that is still to be opened.
        self._free: asyncio.Queue[_Link | None] = asyncio.Queue()
        for _ in range(size):
            self._free.put_nowait(None)

    async def parameters(self) -> bytes:
        """Return what the server told the first connection about itself."""
        if self._parameters is None:
            self.give_back(link := await self.take())
            self._parameters = link.parameters
        return self._parameters

    async def take(self) -> _Link:
        """Return a connection that nobody has; wait for one if they all are taken."""
        link = await self._free.get()
        while link is not None and link.is_gone:
            self.discard(link)
            link = await self._free.get()
        if link is None:
            try:
                link = await _Link.open(self._target, self._startup, self.give_back)
            except BaseException:
                self._free.put_nowait(None)
                raise
            self.opened += 1
        return link

    def give_back(self, link: _Link) -> None:
        """Let the next one have the connection."""
        self._free.put_nowait(link)

    def discard(self, link: _Link) -> None:
        """Close the connection; another may be opened in its place."""
        link.close()
        self.opened -= 1
        self._free.put_nowait(None)


class _Link:
    """A connection to the server."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        give_back: Callable[[_Link], None],
    ) -> None:
        self.client: _Client | None = None
        self.parameters = b""
        self.key = b""
        self._reader = reader
        self._writer = writer
        self._give_back = give_back
        self._unanswered = 0
        self._is_open = False  # a request has begun, and its end was not sent yet
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, target: int, startup: bytes, give_back: Callable[[_Link], None]) -> _Link:
        """Connect to the server; raise `_ServerGone` with its reason if it refuses."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError as error:
            raise _ServerGone(wire.fatal("08006", str(error))) from error
        link = cls(reader, writer, give_back)
        try:
            writer.write(startup)
            await link._greet()
        except BaseException:
            writer.close()
            raise
        link._reading = asyncio.create_task(link._read())
        return link

    @property
    def is_gone(self) -> bool:
        """Whether the server has ended the connection."""
        return self._reading is None or self._reading.done()

    def send(self, message: bytes) -> None:
        """Send one message of the client."""
        if message[:1] in wire.REQUEST_ENDS:
            self._unanswered += 1
            self._is_open = False
        elif message[:1] in wire.EXTENDED:
            self._is_open = True
        self._writer.write(message)

    async def drain(self) -> None:
        """Wait until the server takes more."""
        await self._writer.drain()

    def close(self) -> None:
        """End the connection, and what was open in it."""
        self.client = None
        if self._reading is not None:
            self._reading.cancel()
        self._writer.close()

    async def _greet(self) -> None:
        """Read what the server says before it takes the first request."""
        splitter = wire.Splitter()
        while data := await self._reader.read(wire.CHUNK):
            for message in splitter.feed(data):
                kind, body = message[:1], message[5:]
                if kind == wire.ERROR:
                    raise _ServerGone(message)
                if kind == wire.AUTHENTICATION and any(body[:4]):
                    raise _ServerGone(wire.fatal("28000", "the pooling proxy knows no passwords"))
                if kind == wire.PARAMETER:
                    self.parameters += message
                elif kind == wire.KEY:
                    self.key = body
                elif kind == wire.READY:
                    return
        raise _ServerGone(wire.fatal("08006", "the server closed the connection"))

    async def _read(self) -> None:
        """Forward what the server sends to the client that has the connection, or drop it."""
        splitter = wire.Splitter()
        try:
            while data := await self._reader.read(wire.CHUNK):
                for message in splitter.feed(data):
                    client = self.client
                    if client is None:
                        continue  # a notification, which nobody is there to hear
                    client.writer.write(message)
                    if message[:1] == wire.READY:
                        self._answered(client, message[5:])
                if self.client is not None:
                    await self.client.drain()
        except OSError:
            pass  # as if it had been closed
        finally:
            self._writer.close()
            if self.client is not None:
                self.client.lose()

    def _answered(self, client: _Client, status: bytes) -> None:
        self._unanswered -= 1
        if status == wire.IDLE and not self._unanswered and not self._is_open:
            client.link = self.client = None
            self._give_back(self)
