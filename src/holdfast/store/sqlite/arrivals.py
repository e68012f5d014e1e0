"""Where the messages of many sessions are written down at once, until each is put in its place.

A session's messages are one range of the table `messages`. One more belongs in the middle of the
table, and a page that is full there is shared out anew among its neighbours: a batch of 64 sessions
changed 200 pages and more. So such a batch is appended to the table `arrivals`, where it takes a
few pages, and what has gathered there is put in its place in bulk, several messages of a session at
once.

What stands here of a session is newer than all its messages in their place. So whoever adds to
those, or reads or removes some inside the transaction, puts the arrivals in their place first; and
whoever reads from a snapshot takes them after the others.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from holdfast.model.entry import EntryKind, LogRow
from holdfast.store.sqlite.queries import queries, run_bulk

FEWEST_SESSIONS = 3
MOST_ENTRIES = 512
"""More are put in their place by the batch that brings them, which takes some milliseconds."""

LARGE_BYTES = 4096
"""Entries that fill a page each are as well put in their place at once."""

SINCE_VERSION = 5
"""Of the schema. The code of earlier ones knows no arrivals, and may still be at work before."""


class Arrivals:
    """The arrivals as a batch finds and leaves them, inside its transaction."""

    def __init__(self, connection: sqlite3.Connection, count: int, *, known: bool) -> None:
        self.count = count
        self._connection = connection
        self._known = known

    def add(self, rows: Sequence[LogRow], sessions: int) -> None:
        """Write message entries and resets of so many sessions, here or in their place."""
        if self._known and sessions >= FEWEST_SESSIONS and _small_messages(rows):
            run_bulk(self._connection, "insert_arrivals", rows)
            self.count += len(rows)
            if self.count > MOST_ENTRIES:
                self.settle()
        else:
            self.settle()
            run_bulk(self._connection, "insert_messages", rows)

    def settle(self) -> None:
        """Put all of them in their place."""
        if self.count:
            self._connection.execute(queries()["settle_arrivals"])
            # Their pages need not be overwritten: what is erased is erased by rewriting the file.
            self._connection.execute("PRAGMA secure_delete = FAST")
            try:
                self._connection.execute(queries()["empty_arrivals"])
            finally:
                self._connection.execute("PRAGMA secure_delete = ON")
            self.count = 0


def may_be_used(connection: sqlite3.Connection) -> bool:
    """Say whether everybody who reads this file knows of arrivals."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return bool(version >= SINCE_VERSION)


def count(connection: sqlite3.Connection) -> int:
    """Return how many there are."""
    (found,) = connection.execute(queries()["count_arrivals"]).fetchone()
    return int(found)


def _small_messages(rows: Sequence[LogRow]) -> bool:
    return (
        all(row.kind == EntryKind.MESSAGE for row in rows)
        and sum(len(row.payload) for row in rows) < len(rows) * LARGE_BYTES
    )
