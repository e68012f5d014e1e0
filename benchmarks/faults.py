"""What several writers did to the turns of one session, counted from what is there afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

ROLES = ("user", "assistant")


@dataclass(frozen=True, slots=True)
class Faults:
    """Counts of one storm.

    `lost` are messages of acknowledged turns that are not there, `doubled` messages that are there
    again, `apart` acknowledged turns whose answer does not follow its question, `refused` turns
    that raised, `halves` refused turns of which one message is there all the same.
    """

    lost: int
    doubled: int
    apart: int
    refused: int
    halves: int

    @property
    def together(self) -> int:
        """Everything that should not have happened."""
        return self.lost + self.doubled + self.apart + self.refused + self.halves


def faults(
    acknowledged: Sequence[str], refused: Sequence[str], found: Sequence[tuple[str, str]]
) -> Faults:
    """Compare turns, known by their marks, with the marks and roles of what is there, in order."""
    times = Counter(found)
    adjacent = {
        mark
        for (mark, role), (next_mark, next_role) in pairwise(found)
        if mark == next_mark and (role, next_role) == ROLES
    }
    whole = [mark for mark in acknowledged if all(times[mark, role] for role in ROLES)]
    return Faults(
        lost=sum(not times[mark, role] for mark in acknowledged for role in ROLES),
        doubled=sum(count - 1 for count in times.values()),
        apart=sum(mark not in adjacent for mark in whole),
        refused=len(refused),
        halves=sum(sum(bool(times[mark, role]) for role in ROLES) == 1 for mark in refused),
    )
