"""Finds messages: through the index as far as it has got, and one by one beyond that.

All of it is one snapshot. So a search finds every message of the current histories, wherever others
are just then with writing and indexing; and a store whose index cannot be filled finds the same.
"""

from __future__ import annotations

import sqlite3
from itertools import chain

from holdfast.model.search import Found, Phrase, Said, Search
from holdfast.model.session import REVISION_BITS
from holdfast.rules.search import Match, Scan, matched, said_in
from holdfast.store.sqlite import fulltext
from holdfast.store.sqlite.fulltext import StaleSession
from holdfast.store.sqlite.queries import queries

_UNLIMITED = -1


def lacking(connection: sqlite3.Connection, tenant: str) -> int:
    """Return about how many entries the index lacks; 0 if this SQLite can have none.

    A session that was cleared counts too: what it was is still in the index.
    """
    if not fulltext.has_fts5(connection):
        return 0
    stale = _stale(connection, "stale_sessions", tenant, None)
    return sum(max(1, session.history_revision - session.after) for session in stale)


def search(connection: sqlite3.Connection, wanted: Search) -> list[Found]:
    """Return the messages that fit best, from the snapshot that the connection is in."""
    if fulltext.has_index(connection):
        try:
            return _search(connection, wanted)
        except sqlite3.DatabaseError as error:
            if not fulltext.is_damaged(error):
                raise
    return _scan(connection, "all_sessions", wanted).best(wanted.limit)


def _search(connection: sqlite3.Connection, wanted: Search) -> list[Found]:
    scan = _scan(connection, "stale_sessions", wanted)
    indexed = _indexed(connection, wanted)
    if not scan.matches:
        return [match.found for match in indexed]  # in the index's own order
    messages, words = connection.execute(queries()["count_indexed"]).fetchone()
    scan.count_in(messages, words, [_holding(connection, phrase) for phrase in wanted.query])
    scan.matches += indexed
    return scan.best(wanted.limit)


def _stale(
    connection: sqlite3.Connection, name: str, tenant: str, user_id: str | None
) -> list[StaleSession]:
    values = (tenant, user_id, user_id, _UNLIMITED)
    return [StaleSession._make(row) for row in connection.execute(queries()[name], values)]


def _scan(connection: sqlite3.Connection, name: str, wanted: Search) -> Scan:
    """Look at every message that the index lacks, or at all."""
    scan = Scan(wanted.query)
    for session in _stale(connection, name, wanted.tenant, wanted.user_id):
        bounds = (session.after, session.history_revision, _UNLIMITED)
        for revision, _, at, payload, checksum in chain(
            connection.execute(queries()["unindexed_entries"], bounds),
            connection.execute(queries()["arrived_entries"], bounds),
        ):
            for index, said in enumerate(said_in(payload, checksum) or ()):
                scan.look(Found(session.id, revision, index, at, said))
    return scan


def _indexed(connection: sqlite3.Connection, wanted: Search) -> list[Match]:
    """Return the best of what the index finds, leaving out what cannot be read any more."""
    what = fulltext.expression(wanted.tenant, wanted.query)
    entries = _Entries(connection)
    limit = wanted.limit
    while True:
        values = (what, wanted.tenant, wanted.user_id, wanted.user_id, limit)
        rows = connection.execute(queries()["search"], values).fetchall()
        found = [entries.message(*row) for row in rows]
        matches = [matched(each, wanted.query) for each in found if each is not None]
        matches = [match for match in matches if all(match.counts)]  # what the index says is so
        if len(rows) < limit or len(matches) >= wanted.limit:
            return matches[: wanted.limit]
        limit *= 2


class _Entries:
    """The entries that hits stand in: each is read once, however many hits it has."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._read: dict[int, tuple[int, list[Said]]] = {}

    def message(self, session_id: str, pk: int, place: int, revision: int, at: int) -> Found | None:
        """Return the message of a row of the index; `None` if it cannot be read."""
        ordinal, said = self._read.get(revision) or self._entry(revision)
        index = place - (pk << REVISION_BITS) - ordinal
        return Found(session_id, revision, index, at, said[index]) if index < len(said) else None

    def _entry(self, revision: int) -> tuple[int, list[Said]]:
        row = self._connection.execute(queries()["found_entry"], (revision,)).fetchone()
        ordinal, payload, checksum = row or (0, None, 0)
        entry = self._read[revision] = (ordinal, said_in(payload, checksum) or [])
        return entry


def _holding(connection: sqlite3.Connection, phrase: Phrase) -> int:
    expression = f"text : {fulltext.phrase_expression(phrase)}"
    (count,) = connection.execute(queries()["count_holding"], (expression,)).fetchone()
    return int(count)
