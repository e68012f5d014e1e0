"""A session of a real recording, and ways to falsify a copy of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from msgspec import structs

from holdfast.testing.checking.case import Births, Case, Observation, observations
from holdfast.testing.checking.operation import (
    FINAL,
    Add,
    Committed,
    LogEntry,
    LogSeen,
    Operation,
    Outcome,
    Place,
    Read,
    Save,
    Seen,
    Texts,
)
from holdfast.testing.checking.timeline import Change, Timeline
from holdfast.testing.checking.violation import Rule

T = TypeVar("T")
Operations: TypeAlias = list[Operation]
Falsify: TypeAlias = Callable[["Plot"], Operations | None]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that no store may do, how to make a recording say so, and the rule it breaks."""

    name: str
    rule: Rule
    falsify: Falsify


class Plot:
    """One session as it was judged, for faults to be planted in; `None` means no room for one."""

    def __init__(self, case: Case, births: Births, seed: int) -> None:
        self.case = case
        self.births = births
        self.random = random.Random(f"{seed}/{case.place}")
        self.operations: Operations = list(case.operations)

    @property
    def timeline(self) -> Timeline | None:
        """The log of the session that is there in the end."""
        return None if self.case.alive is None else self.case.lives[self.case.alive]

    @property
    def single(self) -> bool:
        """Whether the session was never deleted."""
        return self.case.alive is not None and len(self.case.lives) == 1

    def one_of(self, candidates: Iterable[T]) -> T | None:
        """Return any of these, by the seed."""
        found = list(candidates)
        return self.random.choice(found) if found else None

    # What there is

    def changes(self) -> Iterator[tuple[Change, Operation]]:
        """Yield the changes of the living session with their authors."""
        timeline = self.timeline
        for change in timeline.changes if timeline else ():
            author = self.case.authors.get(change.last)
            if author is not None:
                yield change, author

    def adds(self, *, keyed: bool | None = None, least: int = 1) -> list[tuple[Change, Operation]]:
        """Return the acknowledged adds, with a key or without."""
        return [
            (change, author)
            for change, author in self.changes()
            if isinstance(author.call, Add)
            and isinstance(author.outcome, Committed)
            and len(change.messages) >= least
            and keyed in (None, author.call.key is not None)
        ]

    def rewrites(self) -> list[tuple[Change, Operation]]:
        """Return the acknowledged rewrites that had a base."""
        return [
            (change, author)
            for change, author in self.changes()
            if isinstance(author.call, Save)
            and author.call.base is not None
            and change.reset is not None
            and isinstance(author.outcome, Committed)
        ]

    def reads(self, *, least: int = 0) -> list[tuple[Operation, Seen]]:
        """Return the reads of the whole history of the living session."""
        timeline = self.timeline
        return [
            (one, one.outcome)
            for one in self.operations
            if one.call == Read()
            and one.client != FINAL
            and isinstance(one.outcome, Seen)
            and len(one.outcome.messages) >= least
            and timeline is not None
            and timeline.start < one.outcome.revision
        ]

    def told_before(self, operation: Operation) -> list[Observation]:
        """Return what anybody had been told when an operation began."""
        seen = observations(self.case)
        return [one for one in seen if one.answered < operation.invoked]

    def state(self, revision: int) -> Seen:
        """Return the read that would be right at a revision."""
        assert self.timeline is not None
        return Seen(revision, tuple(self.timeline.messages_at(revision)))

    # What can be made of it

    def told(self, operation: Operation, outcome: Outcome) -> Operations:
        """Return the recording with another outcome of an operation."""
        return self.with_(structs.replace(operation, outcome=outcome))

    def with_(self, *changed: Operation) -> Operations:
        """Return the recording with these operations in the place of their namesakes."""
        by_name = {one.name: one for one in changed}
        return [by_name.get(one.name, one) for one in self.operations]

    def entries(self) -> list[LogEntry]:
        """Return the log as the final read found it."""
        outcome = self.final_log().outcome
        assert isinstance(outcome, LogSeen)
        return list(outcome.entries)

    def final_log(self) -> Operation:
        """Return the final read of the log."""
        return next(
            one
            for one in self.operations
            if one.client == FINAL and isinstance(one.outcome, LogSeen)
        )

    def log(self, entries: Iterable[LogEntry], *changed: Operation) -> Operations:
        """Return the recording with another log in the end."""
        final = structs.replace(self.final_log(), outcome=LogSeen(tuple(entries)))
        return self.with_(final, *changed)

    def log_with(self, messages: Texts, *changed: Operation) -> Operations:
        """Return the recording with one more entry at the log's end."""
        entries = self.entries()
        extra = LogEntry(entries[-1].revision + 1, "message", messages)
        return self.log([*entries, extra], *changed)

    def log_holding(self, messages: dict[int, Texts], *changed: Operation) -> Operations:
        """Return the recording with other messages at some revisions of the log."""
        return self.log(
            (
                structs.replace(entry, messages=messages.get(entry.revision, entry.messages))
                for entry in self.entries()
            ),
            *changed,
        )

    def stranger(self) -> tuple[Place, str] | None:
        """Return a message of another session."""
        return next(
            ((place, text) for text, (place, _) in self.births.items() if place != self.case.place),
            None,
        )
