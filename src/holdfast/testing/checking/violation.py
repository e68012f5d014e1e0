"""What a judge finds: a broken promise, in which session, and the operations that show it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from holdfast.testing.checking.operation import Place


class Rule(StrEnum):
    """The promises, each with the name by which a violation is reported."""

    LOG = "the log never changes"
    LOST = "an acknowledged write is never lost"
    APPEND_ORDER = "a client's messages stand in the client's order"
    ONCE = "a message stands once"
    WHOLE = "a write is whole and is what was sent"
    PHANTOM = "nothing is there that nobody wrote"
    LEAK = "no message shows in another session"
    REFUSED = "a write that failed had no effect"
    UNKNOWN = "a write with an unknown outcome happened once or not at all"
    KEY = "a key takes effect once, and its first outcome is the one that is told"
    PRECONDITION = "an acknowledged precondition held"
    SAVE = "a save does what its base says"
    CLEAR = "an acknowledged clear began an empty history"
    READ = "a read is exactly one committed state"
    MONOTONIC = "a client never reads backwards"
    OWN_WRITES = "a client reads its own writes"
    REAL_TIME = "what completed before another began is ordered before it"
    DELETION = "what was deleted never comes back, and nothing goes otherwise"
    REFUSAL = "a refusal has a reason"


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise; `operations` names those of the recording that show it."""

    rule: Rule
    place: Place
    what: str
    operations: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = f" [{', '.join(self.operations)}]" if self.operations else ""
        return f"{self.place}: {self.what}; but {self.rule.value}{names}"
