"""The messages that are written and read: always the same, of about 400 bytes each."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import cycle, islice
from pathlib import Path

import msgspec

import holdfast
from holdfast.model.message import Message

SEED = 20_261_124
MESSAGE_BYTES = 400
DIFFERENT_TURNS = 256

Turn = list[Message]


def turns() -> Iterator[Turn]:
    """Yield turns without end: a question and an answer of about 400 bytes of JSON each."""
    return cycle(_different_turns())


def messages(count: int) -> list[Message]:
    """Return `count` messages, questions and answers by turns."""
    return [message for turn in islice(turns(), (count + 1) // 2) for message in turn][:count]


def encoded(turn: Sequence[Message]) -> bytes:
    """Return a turn's bytes as a caller has them: a JSON object a line."""
    return b"".join(msgspec.json.encode(message) + b"\n" for message in turn)


def write_turns(path: Path, session_id: str, count: int) -> int:
    """Make a store whose session holds `count` messages, an entry a turn; return their bytes."""
    size = 0
    with holdfast.connect(str(path), durability="relaxed") as store:
        for turn in islice(turns(), count // 2):
            store.add_messages(session_id, turn)
            size += len(encoded(turn))
    return size


@cache
def _different_turns() -> list[Turn]:
    chance = random.Random(SEED)
    return [
        [_message("user", chance), _message("assistant", chance)] for _ in range(DIFFERENT_TURNS)
    ]


def _message(role: str, chance: random.Random) -> Message:
    message = {"role": role, "content": ""}
    room = MESSAGE_BYTES - len(msgspec.json.encode(message))
    words: list[str] = []
    while sum(map(len, words)) + len(words) < room:
        words.append("".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9))))
    message["content"] = " ".join(words)[:room]
    return message
