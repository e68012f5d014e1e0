"""What a worker that runs turns has seen of them, in a file that survives the worker's death.

Every line is one `write` to a file opened for appending, as in an acknowledgement log. `sent` is
said before a turn is opened, `began` when it runs, `done` when the store has acknowledged its end.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

SUFFIX = ".turns"


@dataclass(frozen=True, slots=True)
class Done:
    """A turn whose end was acknowledged: its id, and which attempt ended it."""

    turn: str
    attempt: int


@dataclass(slots=True)
class TurnsSeen:
    """One worker's whole log: which session each number went to, and what is done.

    `open` is the number that was sent and is not done, `began` whether it runs already.
    """

    worker: str
    sessions: dict[int, str] = field(default_factory=dict)
    done: dict[int, Done] = field(default_factory=dict)
    began: bool = False

    @property
    def open(self) -> int | None:
        """The number that was sent last and is not done."""
        last = max(self.sessions, default=None)
        return None if last in self.done else last


class TurnLog:
    """The log as its worker appends to it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def __enter__(self) -> TurnLog:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def sent(self, number: int, session: str) -> None:
        """Say that a turn is about to be opened."""
        self._say(f"sent {number} {session}\n")

    def began(self, number: int, attempt: int) -> None:
        """Say that it runs."""
        self._say(f"began {number} {attempt}\n")

    def done(self, number: int, turn: str, attempt: int) -> None:
        """Say that the store acknowledged its end."""
        self._say(f"done {number} {turn} {attempt}\n")

    def _say(self, line: str) -> None:
        os.write(self._file, line.encode())


def read_turns(path: Path) -> TurnsSeen:
    """Read a worker's whole log; the file's name is the worker's."""
    seen = TurnsSeen(path.name.removesuffix(SUFFIX))
    for line in path.read_text("utf-8").splitlines():
        match line.split(" "):
            case ["sent", number, session]:
                seen.sessions[int(number)] = session
                seen.began = False
            case ["began", _, _]:
                seen.began = True
            case ["done", number, turn, attempt]:
                seen.done[int(number)] = Done(turn, int(attempt))
                seen.began = False
            case _:
                raise ValueError(f"{line!r} is not a line of a log of turns")
    return seen
