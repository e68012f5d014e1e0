"""PraisonAI's session files as values: bytes in, sessions out; nothing is read or written here.

A session is a JSON object with its true id inside; the file's name is only what is left of the id
once everything but letters, digits, `-` and `_` has become `_`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from msgspec import Struct

from holdfast.errors import InvalidMessage
from holdfast.integrations.praisonai.messages import as_message
from holdfast.model.message import Message
from holdfast.rules.codec import MAX_DEPTH

ENCRYPTED = "praisonai:enc:v1:"
_MESSAGE = re.compile(r'\{\s*"role"\s*:')
_FACT = re.compile(
    r'"(session_id|created_at|updated_at|agent_name|user_id|gateway_session_id|agent_id|metadata|'
    r'runtime_state|last_compaction|title)"\s*:\s*'
)
_ARCHIVE = re.compile(r'"archived_messages"\s*:')
_LIVE = re.compile(r'"messages"\s*:')
_MESSAGES_DEPTH = 2
"""A session's messages stand in a list of the session."""


class Saved(Struct, frozen=True):
    """What one file or row holds of a session, as Holdfast stores it.

    `messages` are those that PraisonAI shows, `archived` the ones that its summary stands for;
    `facts` is everything else. `id_known` is false if the id was lost with the file's beginning.
    """

    session_id: str
    messages: list[Message]
    archived: list[Message]
    facts: dict[str, Any]
    id_known: bool = True

    @property
    def raw(self) -> list[Message]:
        """Everything that was said, without summaries."""
        return [*self.archived, *(one for one in self.messages if not is_summary(one))]

    @property
    def encrypted(self) -> bool:
        """Whether PraisonAI's `EncryptedSessionStore` wrote a message of it."""
        return any(str(one.get("content")).startswith(ENCRYPTED) for one in self.raw)


def decode(data: bytes) -> object:
    """Return the JSON value of a file.

    `InvalidMessage` if it is nested deeper than anything is stored, another `ValueError` if it is
    damaged. A number beyond JSON's own is text.
    """
    text = data.decode()
    try:
        value = _decoder.decode(text)
    except RecursionError as error:
        raise _too_deep() from error
    return _clean(value)


def has_messages(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Say whether a JSON value can be a session of PraisonAI's, whose id may stand elsewhere."""
    return isinstance(value, Mapping) and isinstance(value.get("messages"), list)


def is_session(value: object) -> bool:
    """Say whether a JSON value is a session of PraisonAI's with its id, or what is left of one."""
    return has_messages(value) and isinstance(value.get("session_id"), str)


def is_spill(value: object) -> bool:
    """Say whether a session's value holds only messages that could not be saved."""
    return isinstance(value, Mapping) and "spilled_at" in value


def saved(value: Mapping[str, Any], *, otherwise: str = "") -> Saved:
    """Return the session that a JSON object holds; without an id it is called `otherwise`."""
    facts = dict(value)
    messages, archived = facts.pop("messages", None), facts.pop("archived_messages", None)
    session_id = facts.pop("session_id", None)
    known = isinstance(session_id, str) and session_id != ""
    return Saved(
        session_id if known and isinstance(session_id, str) else otherwise,
        list(_stored(messages)),
        list(_stored(archived)),
        facts,
        known,
    )


def salvaged(data: bytes, *, otherwise: str = "") -> Saved | None:
    """Return what can be read of a damaged session: every message that is whole, in order.

    `None` if there is none. Bytes that are no text become U+FFFD.
    """
    text = data.decode("utf-8", "replace")
    archive, live = _ARCHIVE.search(text), _LIVE.search(text)
    # Each list of messages follows its name, whichever comes first.
    starts = sorted((found.start(), kind) for kind, found in enumerate((live, archive)) if found)
    turns: tuple[list[object], list[object]] = [], []
    gaps, end = [], 0
    for start, after, message in _messages_in(text):
        kind = max((one for one in starts if one[0] < start), default=(0, 0))[1]
        turns[kind].append(message)
        gaps.append(text[end:start])
        end = after
    if not any(turns):
        return None
    facts: dict[str, Any] = {}
    for gap in [*gaps, text[end:]]:
        outside = _MESSAGE.split(gap)[0]  # the rest is a message that is not whole
        for fact in _FACT.finditer(outside):
            facts.setdefault(fact[1], _decoded_at(outside, fact.end())[0])
    lists = {"messages": turns[0], "archived_messages": turns[1]}
    return saved({key: value for key, value in facts.items() if value} | lists, otherwise=otherwise)


def file_stem(session_id: str) -> str:
    """Return the name that PraisonAI gives to a session's file."""
    return "".join(one if one.isalnum() or one in "-_" else "_" for one in session_id)


def is_summary(message: Message) -> bool:
    """Say whether a message is the summary by which PraisonAI replaced archived ones."""
    metadata = message.get("metadata")
    return isinstance(metadata, Mapping) and bool(metadata.get("compaction"))


def said(message: Message) -> str:
    """Return what makes two messages the same thing said, whenever it was saved."""
    kept = {key: message.get(key) for key in ("role", "content", "tool_calls", "tool_call_id")}
    return json.dumps(kept, sort_keys=True, ensure_ascii=False)


def joined(earlier: Sequence[Message], later: Sequence[Message]) -> list[Message]:
    """Return two records of one conversation as one, what both hold once.

    PraisonAI's bots save everything anew, with new times: so an exchange that the later record has
    too is known by its words, and a single message if the later record begins with it. Otherwise
    what is the same has the same time.
    """
    before, after = [*map(said, earlier)], [*map(said, later)]
    if _holds(after, before) and (len(before) > 1 or after[:1] == before):
        return list(later)
    one, two = [_mark(message) for message in earlier], [_mark(message) for message in later]
    if _holds(one, two):
        return list(earlier)
    shared = range(min(len(one), len(two)), -1, -1)
    common = next(n for n in shared if one[len(one) - n :] == two[:n])
    return [*earlier, *later[common:]]


def _holds(whole: list[Any], part: list[Any]) -> bool:
    """Say whether a list holds another one in one piece."""
    return any(whole[n : n + len(part)] == part for n in range(len(whole) - len(part) + 1))


def unsaved(known: Iterable[Message], spilled: Iterable[Message]) -> list[Message]:
    """Return the spilled messages that are not among those known, each once."""
    seen = {_mark(one) for one in known}
    found = {_mark(one): one for one in spilled}
    return [one for mark, one in found.items() if mark not in seen]


def _mark(message: Message) -> tuple[str, object]:
    return said(message), message.get("created_at")


def _stored(messages: object) -> Iterator[Message]:
    for one in messages if isinstance(messages, list) else []:
        message = as_message(one)
        if isinstance(message, dict):  # PraisonAI skips what is no object, too
            yield message


def _messages_in(text: str) -> Iterator[tuple[int, int, object]]:
    """Yield each whole message, and where it begins and ends."""
    position = 0
    while (found := _MESSAGE.search(text, position)) is not None:
        message, end = _decoded_at(text, found.start())
        if message is not None:
            yield found.start(), end, message
        position = max(end, found.end())


def _decoded_at(text: str, start: int) -> tuple[Any, int]:
    try:
        value, end = _decoder.raw_decode(text, start)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError:
        return None, start
    return _clean(value), end


def _clean(value: Any, depth: int = 0) -> Any:
    """Return a JSON value with whatever is no character replaced."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if not isinstance(value, dict | list):
        return value
    if depth > MAX_DEPTH + _MESSAGES_DEPTH:
        raise _too_deep()
    if isinstance(value, list):
        return [_clean(item, depth + 1) for item in value]
    return {_clean(key): _clean(item, depth + 1) for key, item in value.items()}


def _too_deep() -> InvalidMessage:
    return InvalidMessage(f"it is nested deeper than {MAX_DEPTH} levels")


def _real(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _whole(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:  # more digits than Python reads
        return text


_decoder = json.JSONDecoder(parse_constant=str, parse_float=_real, parse_int=_whole)
