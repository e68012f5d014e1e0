"""Whose is each change of the log, and is it what its author sent?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from holdfast.testing.checking.case import Case, key_of
from holdfast.testing.checking.operation import (
    Add,
    Call,
    Committed,
    Operation,
    Refused,
    Save,
    Texts,
    Unknown,
)
from holdfast.testing.checking.timeline import Change, Timeline, life_of
from holdfast.testing.checking.violation import Rule

Mismatch: TypeAlias = tuple[Rule, str]


def check_effects(case: Case) -> None:
    """Give every change its author: by what was acknowledged, else by what it holds."""
    for operation in case.operations:
        outcome = operation.outcome
        if isinstance(outcome, Committed) and not outcome.replayed:
            _check_acknowledged(case, operation, outcome)
    for timeline in case.lives.values():
        taken = {
            key_of(author) or author.name
            for revision, author in case.authors.items()
            if life_of(revision) == timeline.life
        }
        for change in timeline.changes:
            if change.last in case.authors or _is_clear(change):
                continue
            author = _unknown_author(case, timeline, change, taken)
            if author is None:
                _blame(case, timeline, change)
            else:
                case.authors[change.last] = author
                taken.add(key_of(author) or author.name)


def _is_clear(change: Change) -> bool:
    return change.reset is not None and change.reset.reason == "clear"


def _check_acknowledged(case: Case, operation: Operation, outcome: Committed) -> None:
    revision = outcome.revision
    timeline = case.lives[life_of(revision)]
    if not case.knows(revision):
        case.beyond += 1
        return
    if _writes_nothing(timeline, operation):
        if not timeline.is_state(outcome.history_revision):
            what = f"it wrote nothing, at revision {outcome.history_revision}, which never was"
            case.report(Rule.SAVE, what, operation)
        return
    change = timeline.change_at(revision)
    if change is None:
        case.report(Rule.LOST, f"revision {revision} was acknowledged and is not there", operation)
        return
    other = case.authors.setdefault(revision, operation)
    if other is not operation:
        case.report(Rule.LOST, f"revision {revision} was told to two writes", other, operation)
        return
    mismatch = _mismatch(timeline, operation, change)
    if mismatch is not None:
        case.report(*mismatch, operation)
    _check_answer(case, operation, outcome, change)


def _writes_nothing(timeline: Timeline, operation: Operation) -> bool:
    call = operation.call
    if isinstance(call, Add):
        return not call.messages
    return isinstance(call, Save) and _appended(timeline, call) == ()


def _appended(timeline: Timeline, call: Save) -> Texts | None:
    """Return what a save appends, `None` if it is a rewrite."""
    if call.base is None:
        return None
    base = [] if call.base == 0 else timeline.messages_at(call.base)
    if list(call.given[: len(base)]) != base:
        return None
    return call.given[len(base) :]


def _mismatch(timeline: Timeline, operation: Operation, change: Change) -> Mismatch | None:
    """Say why a change cannot be this operation's."""
    call = operation.call
    foreign = _foreign(timeline, call)
    if foreign:
        return Rule.DELETION, f"revision {foreign} of an earlier life was taken for the base"
    if isinstance(call, Add):
        if change.reset is not None:
            return Rule.WHOLE, f"an add stands at revision {change.last} as a rewrite"
        if change.messages != call.messages:
            return Rule.WHOLE, f"revision {change.last} holds {_difference(change, call.messages)}"
        return _unmet(timeline, call.expected, change)
    if isinstance(call, Save):
        return _save_mismatch(timeline, call, change)
    return Rule.WHOLE, f"revision {change.last} cannot be this operation's"


def _foreign(timeline: Timeline, call: Call) -> int:
    """Return the revision that a write was based on, if it is of another life; else 0."""
    named = call.expected if isinstance(call, Add) else None
    if isinstance(call, Save):
        named = call.base
    return named if named and life_of(named) != timeline.life else 0


def _unmet(timeline: Timeline, expected: int | None, change: Change) -> Mismatch | None:
    if expected is None:
        return None
    if expected == 0 and change.history_revision_before == timeline.start:
        return None
    if change.history_revision_before <= expected < change.first:
        return None
    return (
        Rule.PRECONDITION,
        f"{expected} was expected, and the history was at {change.history_revision_before}",
    )


def _save_mismatch(timeline: Timeline, call: Save, change: Change) -> Mismatch | None:
    appended = _appended(timeline, call)
    reset = change.reset
    if appended is not None:
        if reset is not None:
            return Rule.SAVE, f"the list begins with its base, and {change.last} is a rewrite"
        if change.messages != appended:
            return Rule.WHOLE, f"revision {change.last} holds {_difference(change, appended)}"
        return None
    if reset is None:
        return Rule.SAVE, f"the list leaves out some of its base, and {change.last} is an append"
    if reset.base != call.base or reset.reason != ("replace" if call.base is None else "rewrite"):
        return Rule.SAVE, f"reset {reset.revision} is a {reset.reason} of {reset.base}"
    if call.base is not None and timeline.generation_at(change.first - 1).start > call.base:
        return Rule.SAVE, f"the history was rewritten between {call.base} and {change.first}"
    wanted = call.given + _later(timeline, call, change)
    if change.messages != wanted:
        return Rule.SAVE, f"the rewrite {change.last} holds {_difference(change, wanted)}"
    return None


def _later(timeline: Timeline, call: Save, change: Change) -> Texts:
    """Return what others had added since the base of a rewrite."""
    if call.base is None:
        return ()
    return tuple(timeline.added_between(call.base, change.first))


def _difference(change: Change, wanted: Sequence[str]) -> str:
    there = set(change.messages)
    missing = [text for text in wanted if text not in there]
    if missing:
        return f"{len(change.messages)} messages without {missing[0]!r}"
    return f"{list(change.messages)} instead of {list(wanted)}"


def _check_answer(case: Case, operation: Operation, outcome: Committed, change: Change) -> None:
    """Check what else the acknowledgement said."""
    timeline = case.lives[life_of(change.last)]
    kept = removed = 0
    if change.reset is not None and isinstance(operation.call, Save):
        kept = len(_later(timeline, operation.call, change))
        removed = change.before - kept
    if (outcome.kept, outcome.removed) != (kept, removed):
        what = f"kept {outcome.kept} and removed {outcome.removed}, it was {kept} and {removed}"
        case.report(Rule.SAVE, what, operation)
    if outcome.history_revision != change.last:
        what = f"history revision {outcome.history_revision} was told for {change.last}"
        case.report(Rule.SAVE, what, operation)


def _unknown_author(
    case: Case, timeline: Timeline, change: Change, taken: set[str]
) -> Operation | None:
    """Return a write with an unknown outcome that this change may be, if its turn has not come."""
    for operation in case.unknown:
        name = key_of(operation) or operation.name
        if any(author is operation for author in case.authors.values()):
            continue  # it happened in an earlier life
        if name not in taken and _mismatch(timeline, operation, change) is None:
            return operation
    return None


def _blame(case: Case, timeline: Timeline, change: Change) -> None:
    """Say what is wrong with a change that nobody can have made."""
    for operation in case.unknown:
        if _mismatch(timeline, operation, change) is None:
            rule = Rule.UNKNOWN if key_of(operation) is None else Rule.KEY
            case.report(rule, f"it happened again at revision {change.last}", operation)
            return
    for text in change.messages:
        place, name = case.births.get(text, (None, ""))
        if place is None:
            case.report(Rule.PHANTOM, f"revision {change.last} holds {text!r}")
            return
        if place != case.place:
            what = f"revision {change.last} holds {text!r} of {name} in session {place}"
            case.report(Rule.LEAK, what)
            return
    _blame_sender(case, timeline, change)


def _blame_sender(case: Case, timeline: Timeline, change: Change) -> None:
    """All its messages were sent in this session, but no write explains the change."""
    fresh = [text for text in change.messages if change.reset is None or _is_new(timeline, text)]
    if not fresh:
        case.report(Rule.PHANTOM, f"revision {change.last} is a rewrite that nobody made")
        return
    operation = case.named[case.births[fresh[0]][1]]
    attempts = case.attempts(operation)
    done = [author for author in case.authors.values() if any(author is one for one in attempts)]
    unknown = [one for one in attempts if isinstance(one.outcome, Unknown)]
    if done:
        rule = Rule.UNKNOWN if unknown else Rule.ONCE
        rule = rule if key_of(operation) is None else Rule.KEY
        case.report(rule, f"it happened again at revision {change.last}", *done[:1])
    elif unknown:
        mismatch = _mismatch(timeline, unknown[0], change)
        case.report(*(mismatch or (Rule.UNKNOWN, f"revision {change.last}")), unknown[0])
    elif all(isinstance(one.outcome, Refused) for one in attempts):
        case.report(Rule.REFUSED, f"it happened at revision {change.last}", operation)
    else:
        what = f"it was acknowledged, and stands at revision {change.last} as well"
        case.report(Rule.ONCE if key_of(operation) is None else Rule.KEY, what, operation)


def _is_new(timeline: Timeline, text: str) -> bool:
    return sum(text in change.messages for change in timeline.changes) == 1
