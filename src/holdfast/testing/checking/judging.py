"""The judge: whether a recording is explained by what Holdfast promises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from holdfast.testing.checking.case import Births, Case, births_in, lay_out, observations
from holdfast.testing.checking.operation import Operation, Place
from holdfast.testing.checking.recording import Recording
from holdfast.testing.checking.rules.clears import check_clears
from holdfast.testing.checking.rules.effects import check_effects
from holdfast.testing.checking.rules.keys import check_keys
from holdfast.testing.checking.rules.lives import check_lives
from holdfast.testing.checking.rules.order import check_order
from holdfast.testing.checking.rules.reads import check_reads
from holdfast.testing.checking.rules.refusals import check_refusals
from holdfast.testing.checking.violation import Violation


@dataclass(slots=True)
class Judgement:
    """What was found: every violation, and how many answers only their order was checked of."""

    violations: list[Violation] = field(default_factory=list)
    beyond: int = 0


def judge(recording: Recording) -> Judgement:
    """Judge every session of a recording."""
    births = births_in(recording)
    found = Judgement()
    for place, operations in recording.items():
        case = judge_session(place, operations, births)
        found.violations += case.violations
        found.beyond += case.beyond
    return found


def judge_session(place: Place, operations: Sequence[Operation], births: Births) -> Case:
    """Judge one session; its case has the violations."""
    case = lay_out(place, operations, births)
    check_effects(case)
    check_clears(case)
    seen = observations(case)
    check_order(case, seen)
    check_reads(case)
    check_keys(case)
    check_refusals(case)
    check_lives(case, seen)
    return case
