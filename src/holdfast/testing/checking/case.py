"""One session's operations, laid out for the rules that judge them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from holdfast.testing.checking.operation import (
    FINAL,
    NEVER,
    Add,
    Committed,
    LogEntry,
    LogSeen,
    Operation,
    Place,
    Read,
    ReadLog,
    Refused,
    Save,
    Seen,
    Texts,
    Unknown,
)
from holdfast.testing.checking.recording import Recording
from holdfast.testing.checking.timeline import Timeline, life_of
from holdfast.testing.checking.violation import Rule, Violation

Births: TypeAlias = Mapping[str, tuple[Place, str]]
"""Where each message was first sent, and the name of the operation that sent it."""


def births_in(recording: Recording) -> Births:
    """Return who sent each message of a recording first.

    What a client had been shown before it sent it is not born by that.
    """
    clients: defaultdict[str, list[Operation]] = defaultdict(list)
    for operations in recording.values():
        for operation in operations:
            clients[operation.client].append(operation)
    births: dict[str, tuple[Place, str]] = {}
    times: dict[str, int] = {}
    for operations in clients.values():
        shown: set[str] = set()
        for operation in sorted(operations, key=lambda one: one.number):
            for text in sent(operation):
                if operation.invoked < times.get(text, NEVER) and text not in shown:
                    times[text] = operation.invoked
                    births[text] = (operation.place, operation.name)
            shown.update(_shown(operation))
    return births


def _shown(operation: Operation) -> Iterable[str]:
    outcome = operation.outcome
    if isinstance(outcome, Seen):
        return outcome.messages
    if isinstance(outcome, Committed) and outcome.settled is not None:
        return outcome.settled.messages
    if isinstance(outcome, LogSeen):
        return (text for entry in outcome.entries for text in entry.messages)
    return ()


def sent(operation: Operation) -> Texts:
    """Return the messages that an operation hands over."""
    call = operation.call
    if isinstance(call, Add):
        return call.messages
    return call.given if isinstance(call, Save) else ()


@dataclass(frozen=True, slots=True)
class Observation:
    """An operation that shows where the session stood at some instant of its duration.

    A write that `changes` made the state at `revision` itself; anything else found it there.
    """

    operation: Operation
    revision: int
    invoked: int
    answered: int
    changes: bool = False


@dataclass(slots=True)
class Case:
    """A session as the recording shows it; the rules add what they find."""

    place: Place
    operations: Sequence[Operation]
    births: Births
    violations: list[Violation] = field(default_factory=list)
    lives: dict[int, Timeline] = field(default_factory=dict)
    alive: int | None = None
    """The life that the final read found."""
    authors: dict[int, Operation] = field(default_factory=dict)
    """Who made the change that ends at each revision."""
    unknown: list[Operation] = field(default_factory=list)
    keyed: dict[str, list[Operation]] = field(default_factory=dict)
    named: dict[str, Operation] = field(default_factory=dict)
    beyond: int = 0
    """Answers about a deleted life that no read of its log reached, so only their order counts."""

    def report(self, rule: Rule, what: str, *operations: Operation) -> None:
        """Add a violation."""
        names = tuple(operation.name for operation in operations)
        self.violations.append(Violation(rule, self.place, what, names))

    def knows(self, revision: int) -> bool:
        """Say whether the log is known at a revision; that of a living session always is."""
        life = life_of(revision)
        return life == self.alive or revision <= self.lives[life].last

    def attempts(self, operation: Operation) -> Sequence[Operation]:
        """Return all operations that sent this write: those with its key."""
        key = key_of(operation)
        return (operation,) if key is None else self.keyed[key]


def key_of(operation: Operation) -> str | None:
    """Return the idempotency key that an operation was sent with."""
    return operation.call.key if isinstance(operation.call, Add | Save) else None


def lay_out(place: Place, operations: Sequence[Operation], births: Births) -> Case:
    """Return a session's case, with each of its lives as its log tells it."""
    case = Case(place, operations, births)
    logs: dict[int, tuple[LogEntry, ...]] = {}
    acknowledged: defaultdict[int, list[Operation]] = defaultdict(list)
    for operation in operations:
        _sort_in(case, operation)
        outcome = operation.outcome
        if isinstance(outcome, LogSeen) and outcome.entries:
            life = life_of(outcome.entries[0].revision)
            if operation.client == FINAL:
                case.alive = life
            if life == case.alive or len(outcome.entries) > len(logs.get(life, ())):
                logs[life] = outcome.entries  # the final read is the last, and counts
        elif isinstance(outcome, Committed):
            acknowledged[life_of(outcome.revision)].append(operation)
        if isinstance(outcome, Seen) and outcome.revision:
            logs.setdefault(life_of(outcome.revision), ())
    for life in sorted({*logs, *acknowledged}):
        timeline = case.lives[life] = Timeline(life, logs.get(life, ()))
        if life != case.alive:
            _extend(timeline, acknowledged[life])
    _check_logs(case)
    return case


def _sort_in(case: Case, operation: Operation) -> None:
    case.named[operation.name] = operation
    if isinstance(operation.call, Add | Save):
        if isinstance(operation.outcome, Unknown):
            case.unknown.append(operation)
        if operation.call.key is not None:
            case.keyed.setdefault(operation.call.key, []).append(operation)


def _extend(timeline: Timeline, acknowledged: Sequence[Operation]) -> None:
    """Go on behind the last read of a deleted life's log, while acknowledged adds follow it."""
    adds = {
        operation.outcome.revision: operation.call.messages
        for operation in acknowledged
        if isinstance(operation.call, Add)
        and isinstance(operation.outcome, Committed)
        and not operation.outcome.replayed
        and operation.call.messages
    }
    found = []
    revision = timeline.last + 1
    while revision in adds:
        found.append(LogEntry(revision, "message", adds[revision]))
        revision += 1
    timeline.extend(found)


def _check_logs(case: Case) -> None:
    """Compare every reading of the log with the longest one of the same life."""
    longest: dict[int, Operation] = {}
    readings = [one for one in case.operations if isinstance(one.outcome, LogSeen)]
    for operation in sorted(readings, key=_length, reverse=True):
        assert isinstance(operation.outcome, LogSeen)
        entries = operation.outcome.entries
        if not entries:
            continue
        whole = longest.setdefault(life_of(entries[0].revision), operation)
        assert isinstance(whole.outcome, LogSeen)
        if entries != whole.outcome.entries[: len(entries)]:
            case.report(Rule.LOG, "two reads of the log disagree", whole, operation)
        elif operation is not whole and _splits_commit(entries):
            case.report(Rule.LOG, "a read of the log ends within a rewrite's commit", operation)
    for timeline in case.lives.values():
        for fault in timeline.faults:
            case.report(Rule.LOG, fault)


def _length(operation: Operation) -> int:
    return len(operation.outcome.entries) if isinstance(operation.outcome, LogSeen) else 0


def _splits_commit(entries: Sequence[LogEntry]) -> bool:
    last = max((entry.last for entry in entries if entry.kind == "reset"), default=0)
    return entries[-1].revision < last


def observations(case: Case) -> list[Observation]:
    """Return where each operation found or put the session, as far as it says."""
    found = []
    authors = {operation.name: revision for revision, operation in case.authors.items()}
    replays = _first_answers(case)
    for operation in case.operations:
        revision = authors.get(operation.name)
        if revision is not None:
            answered = NEVER if isinstance(operation.outcome, Unknown) else operation.answered
            answered = min(answered, replays.get(revision, NEVER))
            found.append(
                Observation(operation, revision, operation.invoked, answered, changes=True)
            )
            continue
        revision = _found_at(operation)
        if revision:
            changes = _certainly_changed(case, operation)
            found.append(
                Observation(operation, revision, operation.invoked, operation.answered, changes)
            )
    return found


def _first_answers(case: Case) -> dict[int, int]:
    answers: dict[int, int] = {}
    for operations in case.keyed.values():
        for one in operations:
            if isinstance(one.outcome, Committed):
                revision = one.outcome.revision
                answers[revision] = min(answers.get(revision, NEVER), one.answered)
    return answers


def _found_at(operation: Operation) -> int:
    """Return the revision that an operation found current; 0 if it says nothing of that."""
    call, outcome = operation.call, operation.outcome
    if isinstance(outcome, Seen) and isinstance(call, Read) and call.at is None:
        return outcome.revision
    if isinstance(outcome, LogSeen) and isinstance(call, ReadLog):
        kinds = ("message", "reset")
        return max((one.revision for one in outcome.entries if one.kind in kinds), default=0)
    if isinstance(outcome, Refused) and outcome.actual is not None:
        return outcome.actual
    if isinstance(outcome, Committed) and not outcome.replayed:
        return outcome.history_revision  # it had nothing to write, or its change is not known
    return 0


def _certainly_changed(case: Case, operation: Operation) -> bool:
    """Say so of an add beyond what is known of a deleted life's log."""
    call, outcome = operation.call, operation.outcome
    return (
        isinstance(call, Add)
        and isinstance(outcome, Committed)
        and bool(call.messages)
        and not case.knows(outcome.revision)
    )
