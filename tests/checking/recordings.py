"""Small recordings, written by hand."""

from __future__ import annotations

from holdfast.testing.checking import Rule, judge
from holdfast.testing.checking.operation import (
    FINAL,
    NEVER,
    Call,
    LogEntry,
    LogSeen,
    Operation,
    Outcome,
    Place,
    Read,
    ReadLog,
    Seen,
    Unknown,
)
from holdfast.testing.checking.recording import by_session

PLACE = Place("north", "one")
START = 5 << 32
LATE = 10**6


class Script:
    """A session's operations as a test tells them: who, when from and to, what, and the answer."""

    def __init__(self, place: Place = PLACE) -> None:
        self.place = place
        self.operations: list[Operation] = []
        self._log: list[LogEntry] = []

    def did(self, client: str, when: tuple[int, int], call: Call, outcome: Outcome) -> None:
        """Add an operation."""
        number = len(self.operations) + 1
        answered = when[1] if not isinstance(outcome, Unknown) else NEVER
        self.operations.append(
            Operation(client, number, self.place, call, when[0], answered, outcome)
        )

    def entry(self, number: int, *messages: str) -> None:
        """Put messages into the log."""
        self._log.append(LogEntry(START + number, "message", messages))

    def reset(self, number: int, last: int, reason: str, base: int | None, closed: int) -> None:
        """Put a reset into the log."""
        base = None if base is None else START + base
        self._log.append(LogEntry(START + number, "reset", (), reason, base, START + last, closed))

    def finished(self, history: tuple[str, ...] | None = None) -> list[Operation]:
        """Return the operations and the final reads, which show this log."""
        if history is None:
            history = tuple(text for entry in self._log for text in entry.messages)
        last = self._log[-1].revision
        self.did(FINAL, (LATE, LATE + 1), ReadLog(), LogSeen(tuple(self._log)))
        self.did(FINAL, (LATE + 2, LATE + 3), Read(), Seen(last, history))
        return self.operations


def broken(*scripts: list[Operation]) -> set[Rule]:
    """Return the rules that the judge finds broken in these operations."""
    recording = by_session(one for script in scripts for one in script)
    return {violation.rule for violation in judge(recording).violations}
