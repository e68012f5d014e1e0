"""What a storm came to: what was done, what was found afterwards, and whether the promise held."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from holdfast.testing.torture.checker import Findings
from holdfast.testing.torture.plan import Plan
from holdfast.testing.torture.progress import Progress


@dataclass(frozen=True, slots=True)
class Report:
    """A storm's plan, what happened in it, and what the store held afterwards."""

    plan: Plan
    progress: Progress
    findings: Findings

    @property
    def broken(self) -> list[str]:
        """Every promise that was broken, in words; none if all were kept."""
        progress = self.progress
        broken = list(self.findings.broken)
        if progress.empty_reads:
            broken.append(f"{progress.empty_reads:,} reads saw an empty history")
        if progress.partial_reads:
            broken.append(f"{progress.partial_reads:,} reads lacked messages seen before")
        broken += progress.failures
        if not self.findings.acknowledged or not progress.reads:
            broken.append("nothing was written or nothing was read, so nothing is proven")
        if self.plan.streamers and not self.findings.turns.acknowledged:
            broken.append("no turn came to its end, so nothing is proven of turns")
        return broken

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        findings = asdict(self.findings)
        turns = {f"turns_{name}": value for name, value in findings.pop("turns").items()}
        progress = asdict(self.progress)
        del (
            progress["acknowledged"],
            progress["checking"],
            progress["turns_done"],
        )  # the findings count from whole logs
        return {
            "kept": not self.broken,
            "broken": self.broken,
            "seed": self.plan.seed,
            "naive": self.plan.naive,
            "store": self.plan.url,
            "logs": self.plan.folder,
            "writers": self.plan.writers,
            "savers": self.plan.savers,
            "readers": self.plan.readers,
            "streamers": self.plan.streamers,
            **findings,
            **turns,
            **progress,
        }

    def in_words(self) -> str:
        """Return all of it for people, a value a line."""
        values = self.to_dict()
        broken = values.pop("broken")
        lines = [f"{name:<21} {_plain(value)}" for name, value in values.items()]
        lines += [f"BROKEN: {what}" for what in broken] or ["every promise was kept"]
        return "\n".join(lines) + "\n"


def _plain(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
