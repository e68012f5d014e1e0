"""Stores that really misbehave, now and then, under threads and tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.testing.checking import Plan, Rule, judge, record
from tests.checking import faulty
from tests.checking.faulty import Faulty, wrapping


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (faulty.Losing, Rule.LOST),
        (faulty.Doubling, Rule.ONCE),
        (faulty.Halving, Rule.WHOLE),
        (faulty.Lying, Rule.REFUSED),
        (faulty.Forgetting, Rule.KEY),
        (faulty.Overwriting, Rule.SAVE),
        (faulty.Careless, Rule.PRECONDITION),
        (faulty.Inventing, Rule.PHANTOM),
        (faulty.Lagging, Rule.REAL_TIME),
        (faulty.Lagging, Rule.OWN_WRITES),
        (faulty.Tearing, Rule.READ),
        (faulty.Mixing, Rule.LEAK),
        (faulty.Keeping, Rule.DELETION),
        (faulty.Dropping, Rule.DELETION),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else value.name.lower(),
)
def test_a_faulty_store_is_found_out(kind: type[Faulty], rule: Rule, tmp_path: Path) -> None:
    """A store that breaks one promise now and then is caught breaking that one."""
    made: list[Faulty] = []
    plan = Plan(url="memory://", folder=str(tmp_path), seed=11, operations=4_000)
    judgement = judge(record(plan, wrapping(kind, made)))
    assert made[0].done > 0, "it never misbehaved: nothing was tried"
    found = {violation.rule for violation in judgement.violations}
    assert rule in found, sorted(one.name for one in found)


def test_a_wrapper_that_does_nothing_is_no_fault(tmp_path: Path) -> None:
    """What the faulty stores are built on breaks no promise by itself."""
    plan = Plan(url="memory://", folder=str(tmp_path), seed=11, operations=4_000)
    assert judge(record(plan, wrapping(Faulty, []))).violations == []
