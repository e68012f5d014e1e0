"""A session as one write changes it: the rows that it adds, numbered one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.model.entry import EntryKind, LogRow, NewEntry
from holdfast.model.session import LEASE, SessionRow
from holdfast.model.write import Reset
from holdfast.rules import codec
from holdfast.rules.decision import Log
from holdfast.rules.details import changed_details


class Change:
    """Begins at a session's row, takes entries, and gives the rows and the session's new row."""

    def __init__(self, session: SessionRow, now: int, log: Log) -> None:
        self.old = session
        self.now = now
        self.revision = session.revision
        self.history_revision = session.history_revision
        self.base = session.base
        self.message_count = session.message_count
        self.rows: list[LogRow] = []
        self._details = session.details
        self._log = log

    def add(self, new: NewEntry) -> None:
        """Add an entry."""
        self.revision += 1
        ordinal = 0
        if new.kind is EntryKind.MESSAGE:
            ordinal = self.message_count
            self.message_count += new.count
            self.history_revision = self.revision
        elif new.kind is EntryKind.META:
            self._details = changed_details(self._details, codec.decode_object(new.payload))
        self._row(new, ordinal)

    def reset(self, reset: Reset, entries: Sequence[NewEntry], later: Sequence[LogRow]) -> None:
        """Begin a generation with entries; the rows of `later` follow them, with their turns."""
        self.revision += 1
        self.base = self.history_revision = self.revision
        self.message_count = 0
        last = self.revision + len(entries) + len(later)
        detail = {
            "reason": reset.reason,
            "base": reset.base_revision,
            "closed": self.old.message_count,
        }
        self._row(codec.new_entry(EntryKind.RESET, [codec.encode(detail)]), last)
        for new in entries:
            self.add(new)
        for row in later:
            held = row.message_count
            self.add(
                NewEntry(EntryKind.MESSAGE, row.payload, row.checksum, held, row.turn, row.attempt)
            )

    def session(self) -> SessionRow:
        """Return the session's row after all this."""
        old, changed = self.old, self.revision > self.old.revision
        return SessionRow._make(
            (
                old.pk,
                old.tenant,
                old.id,
                self.revision,
                self.history_revision,
                self.base,
                old.floor,
                self.message_count,
                old.created,
                max(self.now, old.updated) if changed else old.updated,
                self._log.next_rank(old, self.now) if changed or not old.rank else old.rank,
                *self._details,
                *old[LEASE:],
            )
        )

    def _row(self, new: NewEntry, ordinal: int) -> None:
        self.rows.append(
            LogRow(
                self.revision,
                new.kind.value,
                ordinal,
                new.turn,
                new.attempt,
                self.now,
                new.payload,
                new.checksum,
            )
        )
