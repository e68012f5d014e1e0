"""A proxy that cuts connections at chosen moments: above all between a commit and its answer."""

from __future__ import annotations

import asyncio
import enum
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeAlias

from holdfast.testing.postgres import wire
from holdfast.testing.postgres.addresses import Addressed, address_through
from holdfast.testing.postgres.listener import Listener


class Cut(enum.Enum):
    """The moment of a request at which a client loses its connection."""

    BEFORE = "before the server was sent anything of it"
    AFTER = "after all of it was sent, and before any of the answer came"
    DURING = "after half of the answer"
    BETWEEN = "after the answer that leaves the connection outside of a transaction"


@dataclass(frozen=True, slots=True)
class Request:
    """What a client has sent and waits for the answer of.

    `connection` counts the proxy's connections from 1, `number` the requests of that connection.
    `statements` are the texts that it runs; `in_transaction` says whether the answers before it
    left a transaction open.
    """

    connection: int
    number: int
    statements: tuple[str, ...]
    in_transaction: bool


Choose: TypeAlias = Callable[[Request], Cut | None]


def never(_: Request) -> None:
    """Choose to cut nothing."""


def once(cut: Cut, *, containing: str = "") -> Choose:
    """Choose the first request that runs a statement with this text, and no other."""
    left = [cut]

    def choose(request: Request) -> Cut | None:
        found = any(containing in statement for statement in request.statements)
        return left.pop() if left and found else None

    return choose


def at_random(seed: int, *, rate: float, cuts: Sequence[Cut] = tuple(Cut)) -> Choose:
    """Choose each request with the same chance (0 to 1), and one of the cuts for it."""
    dice = random.Random(seed)
    return lambda _: dice.choice(cuts) if dice.random() < rate else None


class CuttingProxy:
    """A proxy on a loopback port, which `choose` tells when to cut.

    A client that is cut off finds its connection closed, or reset if it got no answer at all. The
    server is left to finish what it was sent: what it commits stays committed. `choose` may be
    replaced at any time, and is called in the proxy's thread.
    """

    def __init__(self, target_port: int, choose: Choose = never) -> None:
        self.choose = choose
        self._target = target_port
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._cuts: Counter[Cut] = Counter()
        self._connections = 0
        self._listener = Listener(self._serve)

    @property
    def port(self) -> int:
        """The port that the proxy listens on."""
        return self._listener.port

    @property
    def cuts(self) -> dict[Cut, int]:
        """How many connections were cut, by kind."""
        return dict(self._cuts)

    def url_for(self, server: Addressed | str) -> str:
        """Return the address of a server or a database, with the way through this proxy."""
        return address_through(server, self.port)

    def hold(self) -> None:
        """Forward no more answers: the server is reached, and nobody hears of it."""
        self._listener.call(_now(self._flowing.clear))

    def release(self) -> None:
        """Forward answers again, those first that were held."""
        self._listener.call(_now(self._flowing.set))

    def refuse(self) -> None:
        """Refuse new connections; those that there are go on."""
        self._listener.refuse()

    def accept(self) -> None:
        """Take new connections again."""
        self._listener.accept()

    def retarget(self, port: int) -> None:
        """Lead new connections to another server; those that there are stay where they are."""
        self._target = port

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
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        try:
            server_writer.write(packet)
            if wire.is_cancel(packet):
                await server_reader.read()
                return
            self._connections += 1
            connection = _Connection(self._connections, self, self._flowing, self._cuts)
            await connection.run(reader, writer, server_reader, server_writer)
        finally:
            server_writer.close()


class _Connection:
    """One client's way to the server and back."""

    def __init__(
        self, number: int, proxy: CuttingProxy, flowing: asyncio.Event, cuts: Counter[Cut]
    ) -> None:
        self._number = number
        self._proxy = proxy
        self._flowing = flowing
        self._cuts = cuts
        self._asked = 0
        self._answered = -1  # the startup packet is answered as a request is
        self._in_transaction = False
        self._statements = wire.Statements()
        self._texts: list[str] = []
        self._halved: int | None = None
        self._between = False
        self._cut_now: Cut | None = None
        self._is_cut = False
        self._settled = asyncio.Event()

    async def run(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        """Forward until one side ends, or until the server has finished after a cut."""
        ways = [
            asyncio.ensure_future(self._ask(reader, writer, server_writer)),
            asyncio.ensure_future(self._answer(server_reader, writer)),
        ]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                way.result()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _ask(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        """Forward what the client sends, requests as a whole, until it is gone or cut off."""
        splitter = wire.Splitter()
        unsent: list[bytes] = []
        is_reset = False
        while not is_reset and (data := await reader.read(wire.CHUNK)):
            for message in splitter.feed(data):
                unsent.append(message)
                kind = message[:1]
                if kind in wire.EXTENDED:
                    continue  # it waits for its Sync
                self._texts += self._statements.read(unsent)
                cut = self._chosen() if kind in wire.REQUEST_ENDS else None
                if cut in {Cut.BEFORE, Cut.AFTER}:
                    self._reset(writer, cut)
                    is_reset = True
                if cut is not Cut.BEFORE:
                    self._asked += kind in wire.REQUEST_ENDS
                    server_writer.write(b"".join(unsent))
                unsent.clear()
                if is_reset:
                    break
            await server_writer.drain()
        if self._is_cut:
            self._settle()
            await self._settled.wait()

    def _chosen(self) -> Cut | None:
        """Return how the request that was just read is to be cut."""
        request = Request(self._number, self._asked + 1, tuple(self._texts), self._in_transaction)
        self._texts.clear()
        cut = self._proxy.choose(request)
        if cut is Cut.DURING:
            self._halved = request.number
        elif cut is Cut.BETWEEN:
            self._between = True
        return cut

    async def _answer(
        self, server_reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Forward what the server sends; after a cut only count its answers."""
        splitter = wire.Splitter()
        answer = bytearray()
        with suppress(ConnectionError):
            while data := await server_reader.read(wire.CHUNK):
                forward = bytearray()
                for message in splitter.feed(data):
                    answer += message
                    if message[:1] == wire.READY:
                        self._in_transaction = message[5:] != wire.IDLE
                        forward += self._answered_with(answer)
                        answer.clear()
                # An answer that is to be halved is awaited whole.
                if self._cut_now is None and self._answered + 1 != self._halved:
                    forward += answer
                    answer.clear()
                await self._forward(forward, writer)
        await self._flowing.wait()  # nobody hears either that the server is gone
        self._settled.set()

    def _answered_with(self, answer: bytearray) -> bytes:
        """Count an answer; return as much of it as the client is to see."""
        self._answered += 1
        if self._cut_now:
            return b""
        visible = len(answer)
        if self._answered == self._halved:
            self._cut_now = Cut.DURING
            visible //= 2
        elif self._between and not self._in_transaction and self._answered == self._asked:
            self._cut_now = Cut.BETWEEN
        if self._cut_now:
            self._cuts[self._cut_now] += 1
        return bytes(answer[:visible])

    async def _forward(self, answers: bytearray, writer: asyncio.StreamWriter) -> None:
        """Let the client have this, and close its connection if it was the last."""
        await self._flowing.wait()
        if answers and not self._is_cut:
            writer.write(answers)
            await writer.drain()
        if self._cut_now and not self._is_cut:
            self._is_cut = True
            writer.close()
        self._settle()

    def _settle(self) -> None:
        if self._is_cut and self._answered >= self._asked:
            self._settled.set()

    def _reset(self, writer: asyncio.StreamWriter, cut: Cut) -> None:
        """Let the client find its connection reset, and no answer in it."""
        self._is_cut = True
        self._cuts[cut] += 1
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()


async def _now(act: Callable[[], None]) -> None:
    act()
