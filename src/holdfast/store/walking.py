"""Reads that walk a session's whole log: checking it, exporting it, finding what can be purged."""

from __future__ import annotations

from holdfast.model.entry import EntryKind
from holdfast.model.session import SessionRow
from holdfast.rules.arguments import check_id
from holdfast.rules.purging import floor_after
from holdfast.rules.verification import Problem, SessionCheck, Verification
from holdfast.store.backend import Backend
from holdfast.store.reading import Reading, no_session

_PAGE = 1_000


class Walking:
    """Walks the logs of one tenant's sessions."""

    def __init__(self, backend: Backend, reading: Reading, tenant: str) -> None:
        self._backend = backend
        self._reading = reading
        self._tenant = tenant

    def verify(self, session_id: str | None = None) -> Verification:
        """Recompute every checksum and count of a tenant's sessions, or of one."""
        problems = [Problem("", None, what) for what in self._backend.check()]
        sessions = entries = messages = 0
        for row in self._rows(session_id):
            check = self._checked(row)
            if check is None:
                continue  # deleted while we were looking
            sessions += 1
            entries += check.entries
            messages += check.messages
            problems += check.problems
        return Verification(sessions, entries, messages, problems)

    def export(self, session_id: str) -> str:
        """Return a session's whole log as text."""
        from holdfast.rules.exporting import export  # few programs need it

        read = self._backend.read_log(self._tenant, check_id(session_id))
        if read is None:
            raise no_session(session_id)
        keys = self._backend.read_keys(self._tenant, session_id)  # none of the log's is missing
        return export(read.session, read.rows, keys)

    def floors(self, session_id: str | None, ended_by: int | None) -> list[tuple[str, int]]:
        """Return the sessions that have something to purge, and the floor of what is left.

        That is what ended at `ended_by` (in milliseconds) or before, or all but the current
        generation.
        """
        found: list[tuple[str, int]] = []
        for row in self._rows(session_id):
            if row.base <= row.floor:
                continue
            floor = row.base if ended_by is None else self._floor(row, ended_by)
            if floor > row.floor:
                found.append((row.id, floor))
        return found

    def _floor(self, listed: SessionRow, ended_by: int) -> int:
        read = self._backend.read_log(self._tenant, listed.id, after=listed.floor)
        if read is None or read.session.pk != listed.pk:
            return listed.floor  # deleted while we were looking
        resets = [row for row in read.rows if row.kind == EntryKind.RESET]
        return floor_after(listed, resets, ended_by)

    def _checked(self, listed: SessionRow) -> SessionCheck | None:
        """Walk a session's log from one snapshot; writers go on meanwhile."""
        read = self._backend.read_log(self._tenant, listed.id)
        if read is None or read.session.pk != listed.pk:
            return None
        check = SessionCheck(read.session)
        check.walk(read.rows)
        check.finish()
        return check

    def _rows(self, session_id: str | None) -> list[SessionRow]:
        """Return a session's row, or every one's by key: the order by time changes meanwhile."""
        if session_id is not None:
            return [self._reading.row(session_id)]
        rows: list[SessionRow] = []
        while page := self._backend.sessions_after(self._tenant, rows[-1].pk if rows else 0, _PAGE):
            rows += page
        return rows
