"""Reading a session's log as it grows, from any revision."""

from __future__ import annotations

from holdfast.errors import SessionNotFound
from holdfast.model.entry import Entry
from holdfast.rules.arguments import check_count, check_id
from holdfast.store.reading import Reading

PAGE = 500


class Follower:
    """Where one follower stands; each read gives what came since, and goes on from there."""

    def __init__(self, reading: Reading, session_id: str, after: int) -> None:
        self._reading = reading
        self._session_id = check_id(session_id)
        self._after = check_count(after, "after")
        self._session: int | None = None

    def read(self) -> list[Entry]:
        """Return the next entries; `SessionNotFound` once the session is deleted."""
        pk = self._reading.row(self._session_id).pk
        if self._session not in (None, pk):
            raise SessionNotFound(
                f"session {self._session_id!r} was deleted; another one has its id now"
            )
        self._session = pk
        entries = self._reading.entries(self._session_id, self._after, PAGE)
        if entries:
            last = entries[-1]
            self._after = last.revision
        return entries
