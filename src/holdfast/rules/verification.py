"""Recomputing what a session's row and its log say about each other."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from holdfast.errors import CorruptEntry
from holdfast.model.entry import (
    EntryKind,
    LogRow,
    MessageEntry,
    MetaEntry,
    ResetEntry,
    TurnEntry,
)
from holdfast.model.session import Details, SessionRow
from holdfast.model.usage import TurnStatus
from holdfast.rules import projection
from holdfast.rules.details import NO_DETAILS, changed_details

_HISTORY = (EntryKind.MESSAGE, EntryKind.RESET)


class Problem(Struct, frozen=True):
    """One thing that is not as it was written: which session, which entry, and what."""

    session_id: str
    revision: int | None
    what: str


class Verification(Struct, frozen=True):
    """What was checked, and every problem found; true if there is none."""

    sessions: int = 0
    entries: int = 0
    messages: int = 0
    problems: list[Problem] = []

    def __bool__(self) -> bool:
        return not self.problems


class SessionCheck:
    """Walks one session's log in order and collects what contradicts its row."""

    def __init__(self, session: SessionRow) -> None:
        self.session = session
        self.problems: list[Problem] = []
        self.entries = 0
        self.messages = 0
        self._revision = session.start
        self._history_revision = session.start
        self._base = session.start
        self._in_generation = 0
        self._reset_ends = 0
        self._floor = session.start
        self._details: Details = NO_DETAILS
        self._open_turn: tuple[str | None, str | None] = (None, None)

    def walk(self, rows: Iterable[LogRow]) -> None:
        """Check the next rows."""
        for row in rows:
            self.entries += 1
            if row.revision <= self._revision:
                self._problem(row.revision, "revisions do not rise")
            self._revision = row.revision
            if row.kind in _HISTORY and row.revision < self.session.floor:
                self._problem(row.revision, f"it lies below the floor {self.session.floor}")
            try:
                entry = projection.entry(self.session.id, row)
            except CorruptEntry as error:
                self._problem(row.revision, error.message)
                self._follow_damaged(row)
                continue
            if isinstance(entry, MessageEntry):
                self._message_row(row, len(entry.messages))
            elif isinstance(entry, MetaEntry):
                self._details = changed_details(self._details, entry.changes)
            elif isinstance(entry, TurnEntry):
                self._turn_row(entry)
            elif isinstance(entry, ResetEntry):
                closes_purged = row.revision == self.session.floor
                if entry.closed_messages != self._in_generation and not closes_purged:
                    self._problem(
                        row.revision,
                        f"it closed {entry.closed_messages} messages, of which "
                        f"{self._in_generation} are there",
                    )
                self._reset_row(row)

    def finish(self) -> list[Problem]:
        """Compare the row with the log once the log has been walked; return all problems."""
        row = self.session
        for name, stated, found in (
            ("history revision", row.history_revision, self._history_revision),
            ("base", row.base, self._base),
            ("floor", row.floor, self._floor),
            ("message count", row.message_count, self._in_generation),
            ("open turn", (row.open_turn, row.turn_status), self._open_turn),
            ("title, user, agent, metadata and labels", row.details, self._details),
        ):
            if stated != found:
                self._problem(None, f"the row's {name}: {stated}; the log's: {found}")
        if row.revision < self._revision:
            self._problem(None, f"the row's revision {row.revision} is below {self._revision}")
        if self._reset_ends > self._revision:
            self._problem(self._base, "the rewrite's last entries are missing")
        return self.problems

    def require_sound(self) -> None:
        """Raise `CorruptEntry` for the first problem, if there is one, once all was walked."""
        for problem in self.finish():
            raise CorruptEntry(
                f"session {self.session.id!r} is damaged"
                + ("" if problem.revision is None else f" at entry {problem.revision}")
                + f": {problem.what}",
                session_id=self.session.id,
                revision=problem.revision or 0,
            )

    def _message_row(self, row: LogRow, count: int) -> None:
        if row.ordinal != self._in_generation:
            self._problem(
                row.revision, f"{self._in_generation} messages stand before it, not {row.ordinal}"
            )
        self.messages += count
        self._in_generation = row.ordinal + count
        self._history_revision = row.revision

    def _turn_row(self, entry: TurnEntry) -> None:
        is_open = entry.status in (TurnStatus.RUNNING, TurnStatus.WAITING)
        self._open_turn = (entry.turn, entry.status.value) if is_open else (None, None)

    def _reset_row(self, row: LogRow) -> None:
        self._base = self._history_revision = row.revision
        if row.revision == self.session.floor:
            self._floor = row.revision
        self._in_generation = 0
        self._reset_ends = row.ordinal

    def _follow_damaged(self, row: LogRow) -> None:
        """Go on behind an entry whose payload is lost: its columns still place it."""
        if row.kind == EntryKind.RESET:
            self._reset_row(row)
        elif row.kind == EntryKind.MESSAGE:
            self._message_row(row, row.message_count if row.payload else 1)

    def _problem(self, revision: int | None, what: str) -> None:
        self.problems.append(Problem(self.session.id, revision, what))
