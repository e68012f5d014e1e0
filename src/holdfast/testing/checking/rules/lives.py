"""Deletion and recreation: lives of one id come one after the other, and only deleting ends one."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.testing.checking.case import Case, Observation
from holdfast.testing.checking.matching import Matching, Window
from holdfast.testing.checking.operation import (
    FINAL,
    NEVER,
    NOT_THERE,
    THERE,
    Committed,
    Delete,
    Existed,
    Operation,
    Read,
    Refused,
    Seen,
    Unknown,
)
from holdfast.testing.checking.timeline import life_of
from holdfast.testing.checking.violation import Rule


@dataclass(slots=True)
class _Life:
    """Between which instants a life certainly lasted, and may have."""

    first_told: int = NEVER
    last_asked: int = 0

    def outlasts(self, operation: Operation) -> bool:
        """Say whether the session was certainly there as long as an operation took."""
        return self.first_told < operation.invoked and operation.answered < self.last_asked


def check_lives(case: Case, observations: list[Observation]) -> None:
    """Compare what operations say of the session's lives with the deletions that there were."""
    shown = [*observations, *_further(case)]
    deletions = [
        one
        for one in case.operations
        if isinstance(one.call, Delete) and isinstance(one.outcome, Existed | Unknown)
    ]
    lives: dict[int, _Life] = {}
    for one in shown:
        life = lives.setdefault(life_of(one.revision), _Life())
        life.first_told = min(life.first_told, one.answered)
        life.last_asked = max(life.last_asked, one.invoked)
    _check_dead(case, shown, deletions)
    _check_ends(case, lives, deletions)
    _check_absence(case, lives, deletions)


def _further(case: Case) -> list[Observation]:
    """Return what shows that a life lasts, though not where it stood."""
    found = []
    for operation in case.operations:
        outcome = operation.outcome
        call = operation.call
        pinned = isinstance(call, Read) and call.at is not None and isinstance(outcome, Seen)
        replayed = isinstance(outcome, Committed) and outcome.replayed
        if pinned or replayed:
            assert isinstance(outcome, Seen | Committed)
            found.append(
                Observation(operation, outcome.revision, operation.invoked, operation.answered)
            )
    return found


def _check_dead(case: Case, shown: list[Observation], deletions: list[Operation]) -> None:
    """After an acknowledged deletion nobody sees what was there before it."""
    steps: list[tuple[int, int, int, Observation | Operation]] = []
    for index, one in enumerate(shown):
        steps += [(one.invoked, 1, index, one), (one.answered, 2, index, one)]
    for index, deletion in enumerate(deletions):
        if isinstance(deletion.outcome, Existed):
            steps += [
                (deletion.invoked, 0, index, deletion),
                (deletion.answered, 3, index, deletion),
            ]
    told = dead = 0
    killer: Operation | None = None
    before: dict[str, int] = {}
    for _, kind, _, step in sorted(steps, key=lambda step: step[:3]):
        if isinstance(step, Observation):
            life = life_of(step.revision)
            if kind == 2:
                told = max(told, life)
            elif life <= dead and killer is not None:
                what = f"revision {step.revision} was found after it was deleted"
                case.report(Rule.DELETION, what, killer, step.operation)
        elif kind == 0:
            before[step.name] = told
        elif before[step.name] > dead:
            dead, killer = before[step.name], step


def _check_ends(case: Case, lives: dict[int, _Life], deletions: list[Operation]) -> None:
    """Every life that is over needs a deletion that may have ended it."""
    order = sorted(lives)
    over = [life for life in order if life != case.alive] if _was_read(case) else order[:-1]
    possible = [one for one in deletions if one.outcome != NOT_THERE]
    windows = [
        Window(
            max(lives[one].last_asked for one in order if one <= life),
            min((lives[one].first_told for one in order if one > life), default=NEVER),
        )
        for life in over
    ]
    matching = Matching(lambda index, one: windows[index].meets(one), possible)
    matching.match(len(over))
    for index, life in enumerate(over):
        if matching.operation_of(index) is None:
            case.report(Rule.DELETION, f"life {life} of the session ended, and nobody deleted it")
    surplus = [one for one in matching.idle() if one.outcome == THERE]
    may_create = len(case.unknown) + (not _was_read(case))
    if len(surplus) > may_create:
        case.report(Rule.DELETION, "more was deleted than there had been", *surplus[:1])


def _was_read(case: Case) -> bool:
    return any(one.client == FINAL for one in case.operations)


def _check_absence(case: Case, lives: dict[int, _Life], deletions: list[Operation]) -> None:
    """Whoever found no session must have come before the first write or after a deletion."""
    possible = [one for one in deletions if one.outcome != NOT_THERE]
    for operation in case.operations:
        if not _found_nothing(operation):
            continue
        for life in lives.values():
            if life.outlasts(operation):
                case.report(Rule.DELETION, "the session was there, and was not found", operation)
                break
            if life.first_told < operation.invoked and not any(
                one.invoked < operation.answered
                and (isinstance(one.outcome, Unknown) or one.answered > life.first_told)
                for one in possible
            ):
                what = "the session was not found, and nobody had deleted it"
                case.report(Rule.DELETION, what, operation)
                break


def _found_nothing(operation: Operation) -> bool:
    call, outcome = operation.call, operation.outcome
    if isinstance(call, Read) and isinstance(outcome, Seen):
        return outcome.revision == 0
    if isinstance(call, Delete):
        return outcome == NOT_THERE
    if isinstance(outcome, Refused) and outcome.code == "session_not_found":
        bases = (getattr(call, name, None) for name in ("at", "base", "expected"))
        return not any(bases)  # a revision of an earlier life is not found in a later one
    return False
