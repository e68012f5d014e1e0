"""One life of a session, from its creation to its deletion, as the states that its log passed."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from holdfast.model.session import REVISION_BITS
from holdfast.testing.checking.operation import LogEntry, Texts


def life_of(revision: int) -> int:
    """Return which life a revision belongs to; lives of one id come in rising order."""
    return revision >> REVISION_BITS


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit did: message entries, behind a reset or not."""

    first: int
    last: int
    reset: LogEntry | None
    messages: Texts
    before: int
    """How many messages the history had."""
    history_revision_before: int


@dataclass(slots=True)
class Generation:
    """The messages since a reset, and how many there were after each entry."""

    start: int
    visible_from: int
    messages: list[str] = field(default_factory=list)
    revisions: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def add(self, entry: LogEntry) -> None:
        """Append an entry's messages."""
        self.messages += entry.messages
        self.revisions.append(entry.revision)
        self.counts.append(len(self.messages))

    def count_at(self, revision: int) -> int:
        """Return how many messages there were at a revision."""
        index = bisect_right(self.revisions, revision)
        return self.counts[index - 1] if index else 0


class Timeline:
    """The committed states of one life. `faults` says what no log may look like."""

    def __init__(self, life: int, entries: Iterable[LogEntry] = ()) -> None:
        self.life = life
        self.start = life << REVISION_BITS
        self.last = self.start
        self.changes: list[Change] = []
        self.generations = [Generation(self.start, self.start)]
        self.faults: list[str] = []
        self._history_revisions = [self.start]
        self._lasts: list[int] = []
        self._group: list[LogEntry] = []
        for entry in entries:
            self._take(entry)
        self._close()
        self._index()

    def _take(self, entry: LogEntry) -> None:
        if entry.revision <= self.last:
            self.faults.append(f"entry {entry.revision} stands behind revision {self.last}")
            return
        group = self._group
        if group and not (group[0].kind == "reset" and entry.revision <= group[0].last):
            self._close()
        self.last = entry.revision
        self._group.append(entry)

    def _close(self) -> None:
        """Make a commit of the entries that were gathered."""
        group, self._group = self._group, []
        if not group:
            return
        reset = group[0] if group[0].kind == "reset" else None
        before = len(self.generations[-1].messages)
        if reset is not None:
            if reset.closed != before:
                self.faults.append(
                    f"reset {reset.revision} closes {reset.closed} messages, there were {before}"
                )
            if group[-1].revision != reset.last:
                self.faults.append(
                    f"reset {reset.revision} announces entries to {reset.last}, "
                    f"and they end at {group[-1].revision}"
                )
            self.generations.append(Generation(reset.revision, group[-1].revision))
        added = [entry for entry in group if entry.kind == "message"]
        for entry in added:
            self.generations[-1].add(entry)
        if reset is None and not added:
            return  # metadata, which is no part of the history
        messages = tuple(text for entry in added for text in entry.messages)
        history_revision = self._history_revisions[-1]
        last = group[-1].revision
        self._history_revisions.append(last)
        self.changes.append(
            Change(group[0].revision, last, reset, messages, before, history_revision)
        )

    def _index(self) -> None:
        self._lasts = [change.last for change in self.changes]
        self._visible = [generation.visible_from for generation in self.generations]

    def extend(self, entries: Sequence[LogEntry]) -> None:
        """Go on with entries that are known from elsewhere."""
        for entry in entries:
            self._take(entry)
        self._close()
        self._index()

    def is_state(self, revision: int) -> bool:
        """Say whether a history was ever at this revision."""
        index = bisect_left(self._history_revisions, revision)
        return index < len(self._history_revisions) and self._history_revisions[index] == revision

    def history_revision_at(self, revision: int) -> int:
        """Return the revision of the history as it was when the log stood at `revision`."""
        index = bisect_right(self._history_revisions, revision)
        return self._history_revisions[index - 1]

    def messages_at(self, revision: int) -> list[str]:
        """Return the history at a revision; within a rewrite's commit, the one before it."""
        generation = self.generation_at(revision)
        return generation.messages[: generation.count_at(revision)]

    def generation_at(self, revision: int) -> Generation:
        """Return the generation that readers saw at a revision."""
        return self.generations[max(0, bisect_right(self._visible, revision) - 1)]

    def change_at(self, last: int) -> Change | None:
        """Return the commit whose last revision this is."""
        index = bisect_left(self._lasts, last)
        if index < len(self._lasts) and self._lasts[index] == last:
            return self.changes[index]
        return None

    def added_between(self, after: int, before: int) -> list[str]:
        """Return the messages of the entries above `after` in the generation closed at `before`."""
        generation = self.generation_at(before - 1)
        if after <= generation.start:
            return generation.messages[: generation.count_at(before - 1)]
        return generation.messages[generation.count_at(after) : generation.count_at(before - 1)]
