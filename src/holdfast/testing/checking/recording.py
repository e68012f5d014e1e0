"""A run's recording: one file of JSON lines for each client, appended to as the client goes.

Every line is one `write` to a file opened for appending, so what was said before a SIGKILL is in
the kernel's hands.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec

from holdfast.testing.checking.operation import (
    NEVER,
    Answered,
    Call,
    Invoked,
    Operation,
    Outcome,
    Place,
    Unknown,
    now,
)

SUFFIX = ".operations.jsonl"

Recording: TypeAlias = dict[Place, list[Operation]]
"""Every session's operations, in the order in which they were invoked."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Invoked | Answered).decode


class ClientLog:
    """One client's part of the recording, as the client writes it."""

    def __init__(self, folder: Path, client: str) -> None:
        self.client = client
        self._path = folder / f"{client}{SUFFIX}"
        self._count = 0
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)

    def resume(self) -> list[Operation]:
        """Return what an earlier life recorded, and go on behind it."""
        text = self._path.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):  # killed in the middle of a line
            os.ftruncate(self._file, whole)
        earlier = read_operations(self._path)
        self._count = len(earlier)
        return earlier

    @property
    def count(self) -> int:
        """How many operations were invoked."""
        return self._count

    def invoke(self, place: Place, call: Call, at: int | None = None) -> int:
        """Record that an operation is about to be asked for; return its number."""
        self._count += 1
        invoked = Invoked(self._count, now() if at is None else at, place, call)
        os.write(self._file, _encode(invoked) + b"\n")
        return self._count

    def answer(self, number: int, outcome: Outcome, at: int) -> None:
        """Record what was answered; the time was taken when the answer came."""
        os.write(self._file, _encode(Answered(number, at, outcome)) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read_operations(path: Path) -> list[Operation]:
    """Return one client's operations; an unanswered one's outcome is unknown."""
    client = path.name.removesuffix(SUFFIX)
    invoked: dict[int, Invoked] = {}
    answers: dict[int, Answered] = {}
    for line in _lines(path):
        if isinstance(line, Invoked):
            invoked[line.number] = line
        else:
            answers[line.number] = line
    found = []
    for number, one in invoked.items():
        answer = answers.get(number)
        at, outcome = (answer.at, answer.outcome) if answer else (NEVER, Unknown())
        found.append(Operation(client, number, one.place, one.call, one.at, at, outcome))
    return found


def read_recording(folder: Path) -> Recording:
    """Return what all clients recorded in `folder`."""
    files = sorted(folder.glob(f"*{SUFFIX}"))
    return by_session(one for path in files for one in read_operations(path))


def by_session(operations: Iterable[Operation]) -> Recording:
    """Sort operations into their sessions, by the time of their invocation."""
    sessions: defaultdict[Place, list[Operation]] = defaultdict(list)
    for operation in operations:
        sessions[operation.place].append(operation)
    for found in sessions.values():
        found.sort(key=lambda operation: operation.invoked)
    return dict(sessions)


def _lines(path: Path) -> Iterator[Invoked | Answered]:
    text = path.read_bytes()
    for line in text[: text.rfind(b"\n") + 1].splitlines():
        yield _decode(line)
