"""A run from its first operation to the verdict, and what it came to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from holdfast.testing.checking.faults import Planted, plant
from holdfast.testing.checking.judging import Judgement, judge
from holdfast.testing.checking.operation import FINAL, NEVER, Committed, Operation, Read, Refused
from holdfast.testing.checking.plan import Plan
from holdfast.testing.checking.recording import Recording
from holdfast.testing.checking.running import run

SHOWN = 20


@dataclass(slots=True)
class Report:
    """What was done, which planted faults the judge caught, and which promises were broken.

    `unanswered` operations are those of clients that were killed. Without `judged` nobody knows:
    the judge missed a fault that was planted in this very run.
    """

    plan: Plan
    planted: Planted
    operations: int = 0
    sessions: int = 0
    kills: int = 0
    unanswered: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    judgement: Judgement = field(default_factory=Judgement)
    recording_s: float = 0.0
    planting_s: float = 0.0
    judging_s: float = 0.0

    @property
    def judged(self) -> bool:
        """Whether the judge has shown in this run that it can be believed."""
        return self.planted.sufficient

    @property
    def broken(self) -> list[str]:
        """Every broken promise, in words; none if all were kept."""
        if not self.judged:
            missed = ", ".join(self.planted.missed) or "too little to plant faults in"
            return [
                f"not judged: {len(self.planted.caught)} planted faults were caught; {missed}",
                *map(str, self.judgement.violations),
            ]
        return [str(violation) for violation in self.judgement.violations]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        return {
            "kept": not self.broken,
            "judged": self.judged,
            "violations": len(self.judgement.violations),
            "broken": self.broken[:SHOWN],
            "seed": self.plan.seed,
            "store": self.plan.url,
            "recording": self.plan.folder,
            "durability": self.plan.durability,
            "operations": self.operations,
            "sessions": self.sessions,
            "kills": self.kills,
            "unanswered": self.unanswered,
            "outcomes": self.outcomes,
            "faults_caught": self.planted.caught,
            "faults_missed": self.planted.missed,
            "faults_without_room": self.planted.no_room,
            "only_order_checked": self.judgement.beyond,
            "recording_s": round(self.recording_s, 2),
            "planting_s": round(self.planting_s, 2),
            "judging_s": round(self.judging_s, 2),
        }


def check(plan: Plan, on_step: Callable[[str], None] = lambda _: None) -> Report:
    """Record a run, show that the judge catches planted faults in it, then judge it."""
    on_step(f"recording {plan.operations:,} operations on {plan.url}")
    began = time.monotonic()
    recording, kills = run(plan)
    recorded = time.monotonic()
    on_step("planting faults")
    report = Report(plan, plant(recording, plan.seed))
    planted = time.monotonic()
    on_step("judging")
    report.judgement = judge(recording)
    report.kills = kills
    report.recording_s = recorded - began
    report.planting_s = planted - recorded
    report.judging_s = time.monotonic() - planted
    _count(report, recording)
    return report


def _count(report: Report, recording: Recording) -> None:
    operations = [one for session in recording.values() for one in session if one.client != FINAL]
    report.operations = len(operations)
    report.sessions = len(recording)
    report.unanswered = sum(one.answered == NEVER for one in operations)
    report.outcomes = dict(sorted(Counter(map(_outcome_of, operations)).items()))


def _outcome_of(operation: Operation) -> str:
    outcome = operation.outcome
    if isinstance(outcome, Committed):
        if outcome.replayed:
            return "replayed"
        return "rewritten" if outcome.removed or outcome.kept else "written"
    if isinstance(outcome, Refused):
        return f"refused: {outcome.code}"
    name = type(outcome).__name__.lower()
    if name == "unknown":
        return "unknown read" if isinstance(operation.call, Read) else "unknown write"
    return {
        "seen": "history read",
        "logseen": "log read",
        "existed": "cleared, deleted or renamed",
    }[name]
