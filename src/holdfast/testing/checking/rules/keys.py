"""Idempotency keys: the first outcome is the only one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from holdfast.testing.checking.case import Case
from holdfast.testing.checking.operation import Committed, Operation, Unknown
from holdfast.testing.checking.timeline import life_of
from holdfast.testing.checking.violation import Rule


def check_keys(case: Case) -> None:
    """Compare what was told of each key, in each life of the session."""
    for key, attempts in case.keyed.items():
        lives: defaultdict[int, list[Operation]] = defaultdict(list)
        for one in attempts:
            if isinstance(one.outcome, Committed):
                lives[life_of(one.outcome.revision)].append(one)
        for acknowledged in lives.values():
            _check_life(case, key, attempts, acknowledged)


def _check_life(
    case: Case, key: str, attempts: Sequence[Operation], acknowledged: Sequence[Operation]
) -> None:
    first = [one for one in acknowledged if not _outcome(one).replayed]
    replays = [one for one in acknowledged if _outcome(one).replayed]
    if len(first) > 1:
        case.report(Rule.KEY, f"key {key!r} was new twice", *first)
        return
    told = _outcome((first or replays)[0])
    for one in replays:
        again = _outcome(one)
        if (again.revision, again.kept) != (told.revision, told.kept) or again.removed:
            what = f"key {key!r} was at revision {told.revision}, then at {again.revision}"
            case.report(Rule.KEY, what, (first or replays)[0], one)
    if first:
        early = [one for one in replays if one.answered < first[0].invoked]
        if early:
            case.report(Rule.KEY, f"key {key!r} was replayed before it was new", early[0], first[0])
        return
    if not any(isinstance(one.outcome, Unknown) for one in attempts):
        case.report(Rule.KEY, f"key {key!r} was replayed, and nobody was first", *replays[:1])
    author = case.authors.get(told.revision)
    if author is not None and all(author is not one for one in attempts):
        what = f"key {key!r} was told revision {told.revision}, which is another's"
        case.report(Rule.KEY, what, author, replays[0])


def _outcome(operation: Operation) -> Committed:
    assert isinstance(operation.outcome, Committed)
    return operation.outcome
