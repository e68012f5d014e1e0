"""Clearing: its answer names no revision, so each clear is matched with a reset of the log."""

from __future__ import annotations

from holdfast.testing.checking.case import Case, Observation, observations
from holdfast.testing.checking.matching import Matching, Windows
from holdfast.testing.checking.operation import THERE, Clear, Existed, Operation, Unknown
from holdfast.testing.checking.timeline import Change
from holdfast.testing.checking.violation import Rule


def check_clears(case: Case) -> None:
    """Give every reset of a clear its author; an acknowledged clear needs one."""
    clears = [one for one in case.operations if isinstance(one.call, Clear) and _may(one)]
    changes = [
        change
        for timeline in case.lives.values()
        for change in timeline.changes
        if change.reset is not None and change.reset.reason == "clear"
    ]
    if not clears and not changes:
        return
    matching = _match(changes, clears, seen := observations(case))
    if len(matching.chosen) < len(changes):  # a read that is wrong may have narrowed a window
        matching = _match(changes, clears, [one for one in seen if one.changes])
    for index, change in enumerate(changes):
        author = matching.operation_of(index)
        if author is None:
            case.report(Rule.PHANTOM, f"revision {change.last} is a clear that nobody asked for")
        else:
            case.authors[change.last] = author
        if change.messages:
            case.report(Rule.CLEAR, f"revision {change.last} cleared and has messages")
    if all(life == case.alive for life in case.lives):  # else its reset may have gone with its life
        for operation in matching.idle():
            if operation.outcome == THERE:
                case.report(Rule.CLEAR, "no reset of the log is this clear's", operation)


def _match(changes: list[Change], clears: list[Operation], seen: list[Observation]) -> Matching:
    windows = Windows(seen)

    def fits(index: int, operation: Operation) -> bool:
        change = changes[index]
        return _says(change, operation) and windows.of(change.last).meets(operation)

    matching = Matching(fits, clears)
    matching.match(len(changes))
    return matching


def _may(operation: Operation) -> bool:
    return isinstance(operation.outcome, Existed | Unknown)


def _says(change: Change, operation: Operation) -> bool:
    """Say whether the answer fits what the reset found."""
    outcome = operation.outcome
    return not isinstance(outcome, Existed) or outcome.existed == (change.before > 0)
