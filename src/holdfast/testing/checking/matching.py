"""Which operation made which change, where the answer named no revision.

The changes have windows of time and the operations have durations: each change needs an operation
that overlaps its window, and each acknowledged operation needs a change. There are few of them in a
session, so augmenting paths are quick enough.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from holdfast.testing.checking.case import Observation
from holdfast.testing.checking.operation import NEVER, Operation, Unknown


@dataclass(frozen=True, slots=True)
class Window:
    """Between which two instants something became true."""

    after: int
    before: int

    def meets(self, operation: Operation) -> bool:
        """Say whether an operation can have done it: an unknown one may take effect late."""
        late = isinstance(operation.outcome, Unknown)
        return operation.invoked < self.before and (late or operation.answered > self.after)


class Windows:
    """The window of every revision, from what was found before and after it."""

    def __init__(self, observations: Sequence[Observation]) -> None:
        ordered = sorted(observations, key=lambda one: one.revision)
        self._revisions = [one.revision for one in ordered]
        self._after = [0]
        for one in ordered:
            self._after.append(max(self._after[-1], one.invoked))
        self._before = [NEVER]
        for one in reversed(ordered):
            self._before.append(min(self._before[-1], one.answered))
        self._before.reverse()

    def of(self, revision: int) -> Window:
        """Return when a revision can have come to be."""
        index = bisect_left(self._revisions, revision)
        return Window(self._after[index], self._before[index])


@dataclass(slots=True)
class Matching:
    """Operations for changes: `chosen` has one for each that could get one."""

    fits: Callable[[int, Operation], bool]
    operations: Sequence[Operation]
    chosen: dict[int, int] = field(default_factory=dict)

    def match(self, changes: int) -> None:
        """Find an operation for every change, and a change for every acknowledged operation."""
        for change in range(changes):
            self._serve(change, set())
        for index, operation in enumerate(self.operations):
            if index not in self.chosen.values() and not isinstance(operation.outcome, Unknown):
                self._place(index, changes, set())
        self._uncross()

    def operation_of(self, change: int) -> Operation | None:
        """Return the operation that a change was given."""
        index = self.chosen.get(change)
        return None if index is None else self.operations[index]

    def idle(self) -> list[Operation]:
        """Return the operations that got no change."""
        used = set(self.chosen.values())
        return [one for index, one in enumerate(self.operations) if index not in used]

    def _serve(self, change: int, tried: set[int]) -> bool:
        for index, operation in enumerate(self.operations):
            if index in tried or not self.fits(change, operation):
                continue
            tried.add(index)
            holder = next((c for c, i in self.chosen.items() if i == index), None)
            if holder is None or self._serve(holder, tried):
                self.chosen[change] = index
                return True
        return False

    def _place(self, index: int, changes: int, tried: set[int]) -> bool:
        """Give an operation a change, from one of unknown outcome if need be."""
        for change in range(changes):
            if change in tried or not self.fits(change, self.operations[index]):
                continue
            tried.add(change)
            other = self.chosen.get(change)
            if (
                other is None
                or isinstance(self.operations[other].outcome, Unknown)
                or self._place(other, changes, tried)
            ):
                self.chosen[change] = index
                return True
        return False

    def _uncross(self) -> None:
        """Let operations that came one after the other have their changes in that order."""
        for earlier in sorted(self.chosen):
            for later in sorted(self.chosen):
                first, second = self.chosen[earlier], self.chosen[later]
                crossed = self.operations[first].answered > self.operations[second].answered
                if (
                    earlier < later
                    and crossed
                    and self.fits(earlier, self.operations[second])
                    and self.fits(later, self.operations[first])
                ):
                    self.chosen[earlier], self.chosen[later] = second, first
