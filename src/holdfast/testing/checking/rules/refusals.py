"""Refusals: a conflict names a state that there was, and that the precondition does not fit."""

from __future__ import annotations

from holdfast.testing.checking.case import Case
from holdfast.testing.checking.operation import Add, Operation, Refused, Save
from holdfast.testing.checking.timeline import life_of
from holdfast.testing.checking.violation import Rule


def check_refusals(case: Case) -> None:
    """Check every conflict that says where the history stood."""
    for operation in case.operations:
        outcome = operation.outcome
        if isinstance(outcome, Refused) and outcome.code == "conflict" and outcome.actual:
            _check_conflict(case, operation, outcome.actual)


def _check_conflict(case: Case, operation: Operation, actual: int) -> None:
    call = operation.call
    timeline = case.lives.get(life_of(actual))
    if timeline is None or not case.knows(actual):
        case.beyond += 1
        return
    if not timeline.is_state(actual):
        case.report(Rule.REFUSAL, f"no history was ever at revision {actual}", operation)
    elif isinstance(call, Add) and call.expected == actual:
        case.report(Rule.REFUSAL, f"revision {actual} is what was expected", operation)
    elif (
        isinstance(call, Save)
        and call.base is not None
        and timeline.generation_at(actual).start <= call.base
    ):
        what = f"nothing was rewritten between {call.base} and {actual}"
        case.report(Rule.REFUSAL, what, operation)
