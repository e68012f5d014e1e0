"""What a worker sent and what the store acknowledged, in a file that survives the worker's death.

Every line is one `write` to a file opened for appending, so what was said before a SIGKILL is in
the kernel's hands. `sent` is said before the call and `acked` after it: a log that ends with `sent`
belongs to a worker that does not know what became of its write.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SUFFIX = ".acks"
_TAIL = 4096  # far more than the longest line


@dataclass(frozen=True, slots=True)
class Sent:
    """A write that was sent: the worker's number for it, and the session."""

    number: int
    session: str


@dataclass(frozen=True, slots=True)
class Acked:
    """A write that the store acknowledged, and the revision that it named."""

    number: int
    revision: int
    replayed: bool


@dataclass(slots=True)
class Acknowledgements:
    """One worker's whole log: what was sent where, and the revision of what was acknowledged."""

    worker: str
    sessions: dict[int, str] = field(default_factory=dict)
    revisions: dict[int, int] = field(default_factory=dict)


class AcknowledgementLog:
    """The log as its worker appends to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def __enter__(self) -> AcknowledgementLog:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def last(self) -> Sent | Acked | None:
        """Return the last line of an earlier life."""
        return last_line(self._path)

    def sent(self, number: int, session: str) -> None:
        """Say that a write is about to be sent."""
        self._say(f"sent {number} {session}\n")

    def acked(self, number: int, revision: int, *, replayed: bool) -> None:
        """Say that the store acknowledged a write."""
        self._say(f"acked {number} {revision} {'replayed' if replayed else 'new'}\n")

    def _say(self, line: str) -> None:
        os.write(self._file, line.encode())


def last_line(path: Path) -> Sent | Acked | None:
    """Return the last line of a log, `None` if it has none."""
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _TAIL))
        lines = file.read().splitlines()
    return _parsed(lines[-1].decode()) if lines else None


def read_acknowledgements(path: Path) -> Acknowledgements:
    """Read a worker's whole log; the file's name is the worker's."""
    log = Acknowledgements(path.name.removesuffix(SUFFIX))
    for line in _lines(path):
        if isinstance(line, Sent):
            log.sessions[line.number] = line.session
        else:
            log.revisions[line.number] = line.revision
    return log


def _lines(path: Path) -> Iterator[Sent | Acked]:
    for line in path.read_text("utf-8").splitlines():
        yield _parsed(line)


def _parsed(line: str) -> Sent | Acked:
    match line.split(" "):
        case ["sent", number, session]:
            return Sent(int(number), session)
        case ["acked", number, revision, ("new" | "replayed") as how]:
            return Acked(int(number), int(revision), how == "replayed")
    raise ValueError(f"{line!r} is not a line of an acknowledgement log")
