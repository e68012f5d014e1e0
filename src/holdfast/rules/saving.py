"""Saving a history: whether a list is an append to what it was read from, or a rewrite.

The list is compared with the history at its base, as its payloads were read, since the caller may
have changed the dicts in place. A dict that equals a stored message stands for that message: its
id, time and metadata survive.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

from msgspec import Struct

from holdfast.errors import InvalidMessage
from holdfast.model.message import Message, SyntheticMessage
from holdfast.rules import codec
from holdfast.rules.repair import repair


class Saving(Struct, frozen=True):
    """A list as JSON lines: the whole new beginning, or, if `appends`, what follows the base."""

    lines: list[bytes]
    appends: bool


def plan_saving(
    given: Sequence[Message],
    base: Sequence[bytes],
    *,
    may_append: bool,
    stamp: codec.Stamp,
    repaired: bool | None = None,
) -> Saving:
    """Return how to save `given`, where `base` holds the payloads of the history at its base.

    With `may_append` a list that begins with the whole base is an append of the rest. `repaired`
    says in which view the base was read, if that is known.
    """
    if not isinstance(given, list | tuple):
        raise InvalidMessage(f"a history must be a list of messages, not {type(given).__name__}")
    if may_append:
        for view in _views(base, repaired=repaired):
            tail = _rest(given, view)
            if tail is not None:
                start = len(given) - len(tail)
                return Saving(_encoded(tail, start, None, stamp), appends=True)
    return Saving(_encoded(given, 0, _Stored(base), stamp), appends=False)


def _views(base: Sequence[bytes], *, repaired: bool | None) -> list[list[Message]]:
    """Return each form in which the caller may have got the base, the longest first.

    A shorter one may be the beginning of a longer: its rest would be taken for new messages.
    """
    if not base:
        return [[]]
    plain = codec.decode_provider(base)
    views = [codec.decode_whole(base)]
    if repaired is not True:
        views.append(plain)
    if repaired is not False:
        closed = repair(plain)
        views.append(closed)
        views.append([one for one in closed if not isinstance(one, SyntheticMessage)])
    return sorted(views, key=len, reverse=True)


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
