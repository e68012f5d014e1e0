"""What the crash states came to, and whether the promise held in all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from holdfast.testing.powerloss.connection import Setting

MAX_FAILURES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A crash state that broke a promise, and how to come to it again."""

    seed: int
    setting: Setting
    life: int
    point: int
    operations: int
    call: str
    problem: str

    def __str__(self) -> str:
        return (
            f"seed {self.seed}, {self.setting.value}, life {self.life}, power lost after operation "
            f"{self.point} of {self.operations} ({self.call}): {self.problem}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts that add up.

    So many `operations` were recorded, and so many calls `acknowledged`. `boundaries` counts the
    points right before and after a sync or right after an answer, in each of which the power
    failed; `in_flight` the states in which a call had not been answered.
    """

    recordings: int = 0
    operations: int = 0
    boundaries: int = 0
    acknowledged: int = 0
    states: int = 0
    in_flight: int = 0
    broken: int = 0
    failures: tuple[Failure, ...] = ()

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            recordings=self.recordings + other.recordings,
            operations=self.operations + other.operations,
            boundaries=self.boundaries + other.boundaries,
            acknowledged=self.acknowledged + other.acknowledged,
            states=self.states + other.states,
            in_flight=self.in_flight + other.in_flight,
            broken=self.broken + other.broken,
            failures=(*self.failures, *other.failures)[:MAX_FAILURES],
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What was tried, what came of it, and how long it took."""

    seed: int
    settings: tuple[Setting, ...]
    tally: Tally
    seconds: float

    @property
    def broken(self) -> list[str]:
        """Every promise that was broken, in words; the first few at length."""
        tally = self.tally
        if not tally.states or not tally.acknowledged:
            return ["no state was tried, so nothing is proven"]
        more = tally.broken - len(tally.failures)
        return [str(failure) for failure in tally.failures] + (
            [f"{more:,} more states broke a promise"] if more else []
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        tally = self.tally
        return {
            "kept": not self.broken,
            "broken": self.broken,
            "seed": self.seed,
            "settings": sorted({setting.value for setting in self.settings}),
            "states": tally.states,
            "lost": tally.broken,
            "in_flight": tally.in_flight,
            "recordings": tally.recordings,
            "acknowledged": tally.acknowledged,
            "operations": tally.operations,
            "boundaries": tally.boundaries,
            "seconds": round(self.seconds, 1),
            "states_per_second": round(tally.states / self.seconds),
        }
