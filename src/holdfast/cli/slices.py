"""A session's log, however long, without holding all of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.model.entry import Entry
    from holdfast.store.sync_store import SessionStore

SLICE = 500


def log(store: SessionStore, session_id: str, until: int | None = None) -> Iterator[Entry]:
    """Yield a session's entries up to a revision, or up to now, reading a slice at a time."""
    after = 0
    while entries := store.read_entries(session_id, after, SLICE):
        for entry in entries:
            if until is not None and entry.revision > until:
                return
            yield entry
        after = entries[-1].revision
