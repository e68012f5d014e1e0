"""Where the messages of many sessions are written down at once, until each is put in its place.

A session's messages are one range of the table `messages`. One more belongs in the middle of the
table, and a page that is full there is shared out anew among its neighbours: a batch of 64 sessions
changed 200 pages and more. So such a batch is appended to the table `arrivals`, where it takes a
few pages. That table is a queue. When it is long enough the first leave it, and each takes along
what else has arrived of its session: so several messages of a session are put in its place at once,
and no batch has to do that for all sessions.

Those that were taken along stay where they stand, as copies, until it is their turn to leave. What
is no copy is newer than all of its session's messages in their place. So whoever adds to those, or
looks at them inside the transaction, settles that session first; and whoever reads from a snapshot
takes `unsettled` after the others.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import takewhile

from holdfast.model.entry import EntryKind, LogRow
from holdfast.model.session import REVISION_BITS
from holdfast.store.sqlite.queries import queries, run_bulk

FEWEST_SESSIONS = 3
MOST_ENTRIES = 512
"""How many stay: the more, the more messages of a session are put in their place at once."""

LEAVING = 128
"""How many leave together at least. To put so many in their place takes two milliseconds."""

TOGETHER = 16
"""Of how many sessions that is done at once."""

LARGE_BYTES = 4096
"""Entries that fill a page each are as well put in their place at once."""

SINCE_VERSION = 6
"""Of the schema. The code of earlier ones knows no copies, and may still be at work before."""


class Arrivals:
    """The arrivals as a batch finds and leaves them, inside its transaction."""

    def __init__(self, connection: sqlite3.Connection, count: int, *, known: bool) -> None:
        self.count = count  # about; 0 only if there are none
        self._connection = connection
        self._known = known

    def add(self, rows: Sequence[LogRow], sessions: int) -> None:
        """Write message entries and resets of so many sessions, here or in their place."""
        if self._known and sessions >= FEWEST_SESSIONS and _small_messages(rows):
            run_bulk(self._connection, "insert_arrivals", rows)
            self.count += len(rows)
            if self.count >= MOST_ENTRIES + LEAVING:
                self._let_go(max(LEAVING, len(rows)))
            return
        self.settle({row.revision >> REVISION_BITS for row in rows})
        run_bulk(self._connection, "insert_messages", rows)

    def settle(self, sessions: Iterable[int]) -> int:
        """Put those of some sessions in their place, or all; return how many that were."""
        if not self.count:
            return 0
        if not self._known:  # old code may be at work, which would take a copy for a message
            return self.settle_all()
        return run_bulk(self._connection, "settle", [(pk,) for pk in sorted(sessions)])

    def settle_all(self) -> int:
        """Put all of them in their place, leave no copies, and return how many that were."""
        if not self.count:
            return 0
        settled = self._connection.execute(queries()["settle_all"]).rowcount
        self._connection.execute(queries()["empty_arrivals"])
        self.count = 0
        return settled

    def _let_go(self, enough: int) -> None:
        """Let the first go, until the queue is short enough or enough were put in their place."""
        most = min(self.count - MOST_ENTRIES, 4 * enough)
        first = self._connection.execute(queries()["first_arrivals"], (most,)).fetchall()
        waiting = list(dict.fromkeys(session for _, session, waits in first if waits))
        settled: set[int] = set()
        done = 0
        while waiting and done < enough:
            together, waiting = waiting[:TOGETHER], waiting[TOGETHER:]
            done += self.settle(together)
            settled.update(together)
        leaving = list(takewhile(lambda row: not row[2] or row[1] in settled, first))
        self._connection.execute(queries()["drop_arrivals"], leaving[-1][:1])
        self.count -= len(leaving)


def may_be_used(connection: sqlite3.Connection) -> bool:
    """Say whether everybody who reads this file knows of arrivals."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return bool(version >= SINCE_VERSION)


def count(connection: sqlite3.Connection) -> int:
    """Return about how many there are, and 0 only if there are none."""
    (found,) = connection.execute(queries()["count_arrivals"]).fetchone()
    return int(found)


def _small_messages(rows: Sequence[LogRow]) -> bool:
    return (
        all(row.kind == EntryKind.MESSAGE for row in rows)
        and sum(len(row.payload) for row in rows) < len(rows) * LARGE_BYTES
    )
