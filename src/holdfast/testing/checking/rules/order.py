"""Order: what completed before something else began stands before it, for one client and for all.

One sweep over the session's invocations and answers: at each invocation the highest revision that
somebody had been told by then is a floor for what the new operation may find or make.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from holdfast.testing.checking.case import Case, Observation
from holdfast.testing.checking.operation import NEVER, Clear
from holdfast.testing.checking.violation import Rule


@dataclass(slots=True)
class _Told:
    """The highest revisions that were told so far: of writes and of reads, to each client."""

    by_client: dict[tuple[str, bool], Observation] = field(default_factory=dict)
    by_anyone: dict[bool, Observation] = field(default_factory=dict)

    def add(self, one: Observation) -> None:
        client = (one.operation.client, one.changes)
        known = self.by_client.get(client)
        if known is None or known.revision < one.revision:
            self.by_client[client] = one
        known = self.by_anyone.get(one.changes)
        if known is None or known.revision < one.revision:
            self.by_anyone[one.changes] = one

    def floors(self, client: str) -> list[Observation]:
        """Return what bounds an operation that begins now, the most telling first."""
        found = [
            self.by_client.get((client, True)),
            self.by_client.get((client, False)),
            self.by_anyone.get(True),
            self.by_anyone.get(False),
        ]
        return [one for one in found if one is not None]


def check_order(case: Case, observations: list[Observation]) -> None:
    """Hold every operation against what was known when it began."""
    events = [(one.invoked, 0, index) for index, one in enumerate(observations)]
    events += [
        (one.answered, 1, index) for index, one in enumerate(observations) if one.answered != NEVER
    ]
    events.sort()
    told = _Told()
    for _, is_answer, index in events:
        one = observations[index]
        if is_answer:
            told.add(one)
            continue
        rules = set()
        for floor in told.floors(one.operation.client):
            if one.revision < floor.revision or (one.changes and one.revision == floor.revision):
                rule, what = _broken(floor, one)
                if rule not in rules:
                    case.report(rule, what, floor.operation, one.operation)
                rules.add(rule)


def _broken(earlier: Observation, later: Observation) -> tuple[Rule, str]:
    same = earlier.operation.client == later.operation.client
    if later.changes:
        cleared = isinstance(later.operation.call, Clear)
        rule = Rule.APPEND_ORDER if same and earlier.changes and not cleared else Rule.REAL_TIME
        return rule, (
            f"revision {later.revision} was written by a write that began "
            f"after revision {earlier.revision} was told"
        )
    if same:
        rule = Rule.OWN_WRITES if earlier.changes else Rule.MONOTONIC
        return rule, f"revision {later.revision} was found after {earlier.revision}"
    return Rule.REAL_TIME, (
        f"revision {later.revision} was found when {earlier.revision} had been told"
    )
