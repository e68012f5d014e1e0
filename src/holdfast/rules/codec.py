"""Messages to JSON lines and back.

A payload is UTF-8 JSON, one object a line, beside its CRC-32: readable with any tool, decodable in
one call. What a caller stores comes back equal, or is refused with the path of the value at fault:
nothing is coerced, dropped or pickled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice, repeat
from operator import contains
from typing import Any, TypeAlias, TypedDict, cast

import msgspec

from holdfast.errors import CorruptEntry, InvalidMessage
from holdfast.model.entry import EntryKind, NewEntry
from holdfast.model.message import PLAIN_KEYS, PLAIN_ROLES, ROLES, Message, SyntheticMessage
from holdfast.rules.checksums import crc32
from holdfast.rules.repair import are_plain

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 64
MESSAGES_PER_ENTRY = 64
"""A rewrite's entries: longer ones read faster, shorter ones lose less to a damaged byte."""

SLICE_BYTES = 64 * 1024
"""As much is read, checked and decoded together: it stays in the processor's cache."""

FIRST_ROWS = 64
"""Of a history's first slice, when it is not known yet how long its entries are."""


class _ProviderForm(TypedDict, total=False):
    # Decoding into this type skips all other keys in C, which is faster than decoding them.
    role: str
    content: Any
    name: Any
    tool_calls: Any
    tool_call_id: Any


class _Named(msgspec.Struct):
    # The same for whoever wants to know ids only.
    id: Any = None


_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_whole = msgspec.json.Decoder(dict[str, Any])
_provider = msgspec.json.Decoder(_ProviderForm)
_named = msgspec.json.Decoder(_Named)

PayloadRow: TypeAlias = tuple[int, bytes, int]
"""An entry's revision, payload and checksum."""

CheckedPayload: TypeAlias = tuple[bytes, int]
"""An entry's payload and checksum: to read its revision as well would take a tenth longer."""

Stamp = tuple[Callable[[], str], str]
"""Gives a message its id, and says when it was added (ISO 8601, UTC)."""


def encode_messages(messages: Iterable[object], path: str, stamp: Stamp) -> list[bytes]:
    """Return messages as JSON lines; `path` may have a place for the number of one that is refused.

    What reading invented is left out: it will be invented again.
    """
    return [
        _plain_line(message, stamp) or _checked_line(message, path.format(index), stamp)
        for index, message in enumerate(messages)
        if not isinstance(message, SyntheticMessage)
    ]


def encode_message(message: object, path: str, stamp: Stamp) -> bytes:
    """Return `message` as a JSON line, with `id` and `created_at` added where they are missing."""
    return _plain_line(message, stamp) or _checked_line(message, path, stamp)


def _checked_line(message: object, path: str, stamp: Stamp) -> bytes:
    clean = _checked(message, path)
    _require_parts(clean, path)
    new_id, now = stamp
    if "id" not in clean:
        clean["id"] = new_id()
    if "created_at" not in clean:
        clean["created_at"] = now
    return _sized(encode(clean, path), path)


def _plain_line(message: object, stamp: Stamp) -> bytes | None:
    """Return some text that somebody said, as nearly all messages are, as a JSON line.

    There is nothing more to check; `None` if it is anything else, or cannot be stored.
    """
    if not (
        type(message) is dict
        and len(message) == PLAIN_KEYS
        and type(message.get("content")) is str
        and type(role := message.get("role")) is str
        and role in PLAIN_ROLES
    ):
        return None
    new_id, now = stamp
    try:
        line = _encode({**message, "id": new_id(), "created_at": now})
    except UnicodeEncodeError:
        return None
    return line if len(line) <= MAX_MESSAGE_BYTES else None


def _sized(line: bytes, path: str) -> bytes:
    if len(line) > MAX_MESSAGE_BYTES:
        raise InvalidMessage(
            f"the message has {len(line):,} bytes, more than {MAX_MESSAGE_BYTES:,}",
            path=path,
            hint="store large files elsewhere and refer to them",
        )
    return line


def encode_stored(message: Message, path: str) -> bytes:
    """Return a message that was stored before, with its id and its time, as a JSON line.

    It is as it was: one that an older version took is not refused.
    """
    for key in ("id", "created_at"):
        if key not in message:
            raise InvalidMessage("is missing", path=f"{path}.{key}")
    return _sized(encode(_checked(message, path), path), path)


def _checked(message: object, path: str) -> Message:
    if not isinstance(message, Mapping):
        raise InvalidMessage(
            f"a message must be a mapping, not {type(message).__name__}",
            path=path,
            hint='pass dicts such as {"role": "user", "content": "Hello"}',
        )
    clean = cast(Message, encodable(message, path))
    _check_shape(clean, path)
    return clean


def encodable(value: object, path: str) -> object:
    """Return `value` as plain JSON values, which will be read back equal."""
    try:
        return _plain(value, 0)
    except _Fault as fault:
        raise InvalidMessage(fault.reason, path=path + fault.path, hint=fault.hint) from None


def encode(value: object, path: str = "") -> bytes:
    """Return plain JSON values as UTF-8 JSON."""
    try:
        return _encode(value)
    except UnicodeEncodeError as error:
        raise InvalidMessage(
            "the text holds a lone surrogate, which is no character",
            path=path + (_surrogate(value) or ""),
            hint='clean it with text.encode("utf-8", "replace").decode()',
        ) from error


def new_entry(kind: EntryKind, lines: Iterable[bytes]) -> NewEntry:
    """Return the entry that holds these JSON lines."""
    lines = tuple(lines)
    payload = lines[0] if len(lines) == 1 else b"\n".join(lines)
    count = len(lines) if kind is EntryKind.MESSAGE else 0
    return NewEntry(kind, payload, crc32(payload), count)


def chunked(lines: list[bytes]) -> tuple[NewEntry, ...]:
    """Return message entries of up to `MESSAGES_PER_ENTRY` lines each."""
    return tuple(
        new_entry(EntryKind.MESSAGE, lines[start : start + MESSAGES_PER_ENTRY])
        for start in range(0, len(lines), MESSAGES_PER_ENTRY)
    )


def split_lines(payloads: Iterable[bytes]) -> list[bytes]:
    """Return the single messages' JSON lines of these payloads."""
    return b"\n".join(payloads).split(b"\n") if payloads else []


def first_messages(payloads: Sequence[bytes], count: int) -> tuple[bytes, ...]:
    """Return the payloads of the first `count` messages; the last may become shorter."""
    found: list[bytes] = []
    for payload in payloads:
        held = payload.count(b"\n") + 1
        if count <= held:
            break
        found.append(payload)
        count -= held
    else:
        return tuple(found)
    if count:
        found.append(b"\n".join(payload.split(b"\n")[:count]))
    return tuple(found)


def decode_whole(payloads: Sequence[bytes]) -> list[Message]:
    """Return the stored messages with every key."""
    messages = _decoded(_whole, payloads)
    if not all(map(contains, messages, repeat("role"))):
        raise _no_message()
    return messages


def message_ids(payloads: Iterable[bytes]) -> list[str]:
    """Return the stored messages' ids; one that is no text is the empty text, and names nothing."""
    named = [one for payload in payloads for one in _named.decode_lines(payload)]
    return [one.id if isinstance(one.id, str) else "" for one in named]


def decode_provider(payloads: Sequence[bytes]) -> list[Message]:
    """Return the stored messages with the keys that a model provider takes, and no empty ones."""
    messages = _decoded(_provider, payloads)
    if are_plain(messages) and all(map(contains, messages, repeat("content"))):
        return messages  # as nearly all histories are: found without a loop of our own
    for message in messages:
        if "role" not in message:
            raise _no_message()
        if len(message) != PLAIN_KEYS or "content" not in message:
            for key in ("name", "tool_calls", "tool_call_id"):
                if key in message and not message[key]:
                    del message[key]
            if message["role"] != "assistant":
                message.pop("tool_calls", None)  # nobody else calls, and providers refuse it
            if message["role"] != "tool":
                message.pop("tool_call_id", None)
            if message.get("content") in (None, []):
                message["content"] = None if "tool_calls" in message else ""
    return messages


def _no_message() -> msgspec.ValidationError:
    return msgspec.ValidationError("an object without a role is no message")


def _decoded(decoder: msgspec.json.Decoder[Any], payloads: Sequence[bytes]) -> list[Message]:
    """Decode payloads a slice in one call: neither a call for each nor a copy of them all."""
    step = max(1, SLICE_BYTES * len(payloads) // (sum(map(len, payloads)) or 1))
    messages: list[Message] = []
    for start in range(0, len(payloads), step):
        messages += decoder.decode_lines(b"\n".join(payloads[start : start + step]))
    return messages


def decode_object(payload: bytes | str) -> dict[str, Any]:
    """Return the one JSON object of a payload."""
    return _whole.decode(payload)


def canonical(value: object) -> bytes:
    """Return the same bytes for equal JSON values, and other bytes for others (1, 1.0, true)."""
    return _encode_sorted(value)


class Damaged(Exception):
    """An entry is not as it was written: the one at `index` of those that were read."""

    def __init__(self, index: int) -> None:
        super().__init__(f"entry {index} of those that were read")
        self.index = index


def joined(rows: Iterable[CheckedPayload]) -> tuple[bytes, ...]:
    """Return the payloads of entries, which are as written; `Damaged` if one is not.

    They are taken a slice at a time, and joined, so that what each of them took is used again for
    the next, and is still in the processor's cache.
    """
    rows = iter(rows)
    found: list[bytes] = []
    done, size = 0, FIRST_ROWS
    while some := list(islice(rows, size)):
        payloads, checksums = zip(*some, strict=True)
        try:
            intact = tuple(map(crc32, payloads)) == checksums
        except TypeError:  # a payload that is not even bytes
            intact = False
        if not intact:
            faulty = (at for at, row in enumerate(some) if not _is_intact(*row))
            raise Damaged(done + next(faulty))
        found.append(b"\n".join(payloads))
        done += len(some)
        size = max(1, SLICE_BYTES * len(some) // (len(found[-1]) or 1))
    return tuple(found)


def joined_entries(session_id: str, rows: Sequence[PayloadRow]) -> tuple[bytes, ...]:
    """Return the payloads of entries; `CorruptEntry` if one is not as written."""
    try:
        return joined((payload, checksum) for _, payload, checksum in rows)
    except Damaged as damaged:
        raise mismatch(session_id, rows[damaged.index][0]) from None


def check_payload(session_id: str, revision: int, payload: object, checksum: int) -> bytes:
    """Return the payload if it is the one that was written."""
    if not isinstance(payload, bytes):
        raise CorruptEntry(
            f"entry {revision} of session {session_id!r} has no payload",
            session_id=session_id,
            revision=revision,
        )
    if not _is_intact(payload, checksum):
        raise mismatch(session_id, revision)
    return payload


def mismatch(session_id: str, revision: int) -> CorruptEntry:
    """Return the error that says which entry is not as it was written."""
    return CorruptEntry(
        f"entry {revision} of session {session_id!r} does not match its checksum",
        session_id=session_id,
        revision=revision,
    )


def _is_intact(payload: object, checksum: int) -> bool:
    return isinstance(payload, bytes) and crc32(payload) == checksum


class _Fault(Exception):
    """A value that cannot be stored, and where in the message it stands."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.path = ""

    def under(self, step: str) -> _Fault:
        self.path = step + self.path
        return self


def _plain(value: object, depth: int) -> object:
    kind = type(value)
    if kind is str or value is None or kind is bool or kind is int:
        return value
    if kind is float:
        if math.isfinite(cast(float, value)):
            return value
        raise _Fault(f"{value!r} is not a number that JSON knows", "leave it out, or use null")
    if depth > MAX_DEPTH:
        raise _Fault(f"nested deeper than {MAX_DEPTH} levels", "flatten it, or store it as text")
    if kind is dict or isinstance(value, Mapping):
        return _plain_mapping(cast(Mapping[Any, Any], value), depth)
    if isinstance(value, list | tuple):
        return _plain_items(value, depth)
    if isinstance(value, str):  # a subclass, such as an enum's member
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _plain(float(value), depth)
    raise _Fault(
        f"{kind.__name__} is not a JSON value",
        "use text, numbers, true, false, null, lists and dicts with text keys",
    )


def _plain_mapping(value: Mapping[Any, Any], depth: int) -> dict[str, object]:
    plain: dict[str, object] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            raise _Fault(f"key {key!r} is not text", "JSON has text keys only")
        try:
            plain[str.__str__(key)] = _plain(item, depth + 1)
        except _Fault as fault:
            raise fault.under(f".{key}") from None
    return plain


def _plain_items(value: list[Any] | tuple[Any, ...], depth: int) -> list[object]:
    plain: list[object] = []
    for index, item in enumerate(value):
        try:
            plain.append(_plain(item, depth + 1))
        except _Fault as fault:
            raise fault.under(f"[{index}]") from None
    return plain


def _surrogate(value: object) -> str | None:
    """Return the path of the first text that cannot be encoded."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return ""
    elif isinstance(value, dict):
        for key, item in value.items():
            if (inner := _surrogate(item)) is not None:
                return f".{key}{inner}"
            if _surrogate(key) is not None:
                return f".{key!a}"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if (inner := _surrogate(item)) is not None:
                return f"[{index}]{inner}"
    return None


def _check_shape(message: Message, path: str) -> None:
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise InvalidMessage(
            f"{role!r} is not a role",
            path=f"{path}.role",
            hint="use one of " + ", ".join(sorted(ROLES)),
        )
    content = message.get("content")
    if not isinstance(content, str):
        _check_content(message, content, path)
    calls = message.get("tool_calls")
    if calls is not None:
        _check_tool_calls(calls, path)
    call_id = message.get("tool_call_id")
    if (role == "tool" and not call_id) or (call_id is not None and not isinstance(call_id, str)):
        raise InvalidMessage(
            f"{call_id!r} is not the id of a call",
            path=f"{path}.tool_call_id",
            hint="a tool's message names the call that it answers",
        )


def _check_content(message: Message, content: object, path: str) -> None:
    if content is None:
        if message.get("tool_calls"):
            return
        raise InvalidMessage(
            "content is missing",
            path=f"{path}.content",
            hint="only a message with tool_calls may go without",
        )
    if not isinstance(content, list):
        raise InvalidMessage(
            f"content must be text or a list of parts, not {type(content).__name__}",
            path=f"{path}.content",
        )
    for index, part in enumerate(content):
        if not isinstance(part, dict):
            raise InvalidMessage(
                f"a part must be an object, not {type(part).__name__}",
                path=f"{path}.content[{index}]",
                hint='write {"type": "text", "text": "..."}',
            )


def _require_parts(message: Message, path: str) -> None:
    """Refuse an empty list of parts, as providers do; beside calls it is as good as no content."""
    if message.get("content") == [] and not message.get("tool_calls"):
        raise InvalidMessage(
            "content has no parts",
            path=f"{path}.content",
            hint='use "" where nothing was said',
        )


def _check_tool_calls(calls: object, path: str) -> None:
    if not isinstance(calls, list):
        raise InvalidMessage("must be a list of calls", path=f"{path}.tool_calls")
    for index, call in enumerate(calls):
        if not isinstance(call, dict) or not isinstance(call.get("id"), str) or not call["id"]:
            raise InvalidMessage(
                "a call must be an object with a text id",
                path=f"{path}.tool_calls[{index}]",
                hint="its result refers to it by this id",
            )
