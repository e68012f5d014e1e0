"""As much of PostgreSQL's protocol as a proxy must understand: where messages begin, and which.

A connection begins with packets that have no type; after the startup packet each message is a
byte that names its type, four bytes of length, and a body.
Source: PostgreSQL 18, chapter 54, "Frontend/Backend Protocol".
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable, Mapping

CANCEL, TLS, GSS = 80877102, 80877103, 80877104

# From clients.
QUERY, PARSE, BIND, SYNC, CALL, TERMINATE = b"Q", b"P", b"B", b"S", b"F", b"X"
REQUEST_ENDS = frozenset({QUERY, SYNC, CALL})
"""What a client ends a request with: the server answers each with one `READY`."""
EXTENDED = frozenset({PARSE, BIND, b"D", b"E", b"C"})
"""What belongs to a request that a `SYNC` will end, and may wait for it."""

# From servers.
AUTHENTICATION, PARAMETER, KEY, READY, ERROR, NOTIFICATION = b"R", b"S", b"K", b"Z", b"E", b"A"
IDLE = b"I"

CHUNK = 1 << 16
"""How many bytes are read at once."""

_PACKET_LIMIT = 10_000


class Splitter:
    """Cuts a stream of bytes into messages, each whole and as it came."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that are complete with these bytes."""
        rest = self._rest
        rest += data
        messages = []
        begin = 0
        while len(rest) - begin >= 5:
            end = begin + 1 + int.from_bytes(rest[begin + 1 : begin + 5], "big")
            if end > len(rest):
                break
            messages.append(bytes(rest[begin:end]))
            begin = end
        del rest[:begin]
        return messages


async def read_startup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Return a client's startup packet or cancel request, having declined encryption."""
    while True:
        head = await reader.readexactly(8)
        length, code = struct.unpack("!ii", head)
        if not 8 <= length <= _PACKET_LIMIT:
            raise ConnectionError(f"a packet of {length} bytes does not begin a connection")
        packet = head + await reader.readexactly(length - 8)
        if code not in {TLS, GSS}:
            return packet
        writer.write(b"N")


def is_cancel(packet: bytes) -> bool:
    """Say whether a first packet is a cancel request."""
    return int.from_bytes(packet[4:8], "big") == CANCEL


def startup(parameters: Mapping[str, str]) -> bytes:
    """Return a startup packet, of version 3.0."""
    words = "".join(f"{name}\0{value}\0" for name, value in parameters.items())
    body = struct.pack("!hh", 3, 0) + words.encode() + b"\0"
    return struct.pack("!i", len(body) + 4) + body


def startup_parameters(packet: bytes) -> dict[str, str]:
    """Return what a startup packet asks for: the user, the database, and more."""
    words = packet[8:].rstrip(b"\0").decode().split("\0")
    return dict(zip(words[::2], [*words[1::2], ""], strict=False))


def message(kind: bytes, body: bytes) -> bytes:
    """Return one message."""
    return kind + struct.pack("!i", len(body) + 4) + body


def fatal(code: str, text: str) -> bytes:
    """Return the message with which a server ends a connection."""
    fields = {"S": "FATAL", "V": "FATAL", "C": code, "M": text}
    body = b"".join(f"{name}{value}\0".encode() for name, value in fields.items())
    return message(ERROR, body + b"\0")


class Statements:
    """The texts of what one client runs, those that it has prepared under a name included."""

    def __init__(self) -> None:
        self._prepared: dict[bytes, str] = {}

    def read(self, messages: Iterable[bytes]) -> tuple[str, ...]:
        """Return the text of each statement that these messages of the client run."""
        texts = []
        for one in messages:
            kind, words = one[:1], one[5:].split(b"\0", 2)
            if kind == QUERY:
                texts.append(_text(words[0]))
            elif kind == PARSE:
                self._prepared[words[0]] = _text(words[1])
            elif kind == BIND:
                texts.append(self._prepared.get(words[1], ""))
        return tuple(texts)


def _text(encoded: bytes) -> str:
    return encoded.decode("utf-8", "replace")
