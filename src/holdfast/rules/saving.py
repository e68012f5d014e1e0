"""Saving a history: whether a list is an append to what it was read from, or a rewrite.

The list is compared with the history at its base, as its payloads were read, since the caller may
have changed the dicts in place. A dict that equals a stored message stands for that message: its
id, time and metadata survive.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from holdfast.errors import InvalidMessage
from holdfast.model.message import Message, SyntheticMessage
from holdfast.rules import codec
from holdfast.rules.repair import repair


@dataclass(frozen=True, slots=True)
class Saving:
    """A list as JSON lines: the whole new beginning, or, if `appends`, what follows the base."""

    lines: list[bytes]
    appends: bool


def plan_saving(
    given: Sequence[Message], base: Sequence[bytes], *, may_append: bool, stamp: codec.Stamp
) -> Saving:
    """Return how to save `given`, where `base` holds the payloads of the history at its base.

    With `may_append` a list that begins with the whole base is an append of the rest.
    """
    if not isinstance(given, list | tuple):
        raise InvalidMessage(f"a history must be a list of messages, not {type(given).__name__}")
    if may_append:
        for view in _views(base):
            tail = _rest(given, view)
            if tail is not None:
                start = len(given) - len(tail)
                return Saving(_encoded(tail, start, None, stamp), appends=True)
    return Saving(_encoded(given, 0, _Stored(base), stamp), appends=False)


def _views(base: Sequence[bytes]) -> Iterator[list[Message]]:
    """Yield each form in which callers may have got the base from us: what they give back to us."""
    if not base:
        yield []
        return
    plain = codec.decode_provider(base)
    repaired = repair(plain)
    yield repaired
    if repaired is not plain:
        yield [message for message in repaired if not isinstance(message, SyntheticMessage)]
        yield plain
    yield codec.decode_whole(base)


def _rest(given: Sequence[Message], view: list[Message]) -> Sequence[Message] | None:
    """Return what follows `view` in `given`, or `None` if `given` does not begin with it."""
    if len(given) < len(view):
        return None
    if all(map(_same, given, view)):
        return given[len(view) :]
    return None


def _same(one: object, other: Message) -> bool:
    if one != other:
        return False
    if all(type(value) is str for value in other.values()):
        return True
    return _canonical(one) == codec.canonical(other)  # 1 == 1.0 == True, but not in JSON


def _canonical(message: object) -> bytes:
    return codec.canonical(codec.encodable(message, ""))


class _Stored:
    """The base's messages, to be found by their provider-ready or their whole form, each once."""

    def __init__(self, base: Sequence[bytes]) -> None:
        self._lines: defaultdict[bytes, deque[bytes]] = defaultdict(deque)
        if base:
            lines = codec.split_lines(base)
            for line, message in zip(lines, codec.decode_provider(base), strict=True):
                self._lines[codec.canonical(message)].append(line)

    def take(self, message: Message) -> bytes | None:
        """Return the stored line that `message` stands for, the earliest not yet taken."""
        waiting = self._lines.get(_canonical(message))
        return waiting.popleft() if waiting else None


def _encoded(
    messages: Sequence[Message], start: int, stored: _Stored | None, stamp: codec.Stamp
) -> list[bytes]:
    lines: list[bytes] = []
    for index, message in enumerate(messages, start):
        if isinstance(message, SyntheticMessage):
            continue  # reading invented it, and will again
        path = f"messages[{index}]"
        line = codec.encode_message(message, path, stamp)
        if stored is not None and "id" not in message:
            line = stored.take(message) or line
        lines.append(line)
    return lines
