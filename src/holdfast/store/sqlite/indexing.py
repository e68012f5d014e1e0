"""Fills the search index, a slice at a time, and takes out of it what goes.

The index holds words only, so taking some out needs the same words again: they are cut anew from
the entry, which never changed. Where that fails, because an entry or the index itself is damaged or
this SQLite has no FTS5, all of the index is forgotten, and whoever fills it next begins a new one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from holdfast.model.search import Indexed, Said
from holdfast.model.session import REVISION_BITS
from holdfast.rules.search import said_in
from holdfast.rules.words import words
from holdfast.store.sqlite import fulltext
from holdfast.store.sqlite.fulltext import StaleSession
from holdfast.store.sqlite.queries import queries, run_bulk

SLICE = 500
"""Entries of a slice; one with many messages counts as several."""

MESSAGES_OF_AN_ENTRY = 4
_LAST_ROW = (1 << REVISION_BITS) - 1
_ANY_REVISION = (1 << 63) - 1


class _Entry(NamedTuple):
    revision: int
    ordinal: int
    at: int
    payload: object
    checksum: int


class IndexUseless(Exception):
    """The index is damaged, or nobody can tell any more which words are to be taken out of it.

    SQLite may have undone the whole transaction. The index has to be forgotten in another one.
    """


class Index:
    """The search index, inside the transaction of the one who writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._queries = queries()
        self._left = 0

    def fill(self, tenant: str) -> Indexed:
        """Index the next slice of what a tenant's index lacks."""
        if not fulltext.has_fts5(self._connection):
            return Indexed(0, complete=True)
        with self._guarded():
            self._make()
            return self._fill(tenant)

    def take_out(self, tenant: str, pk: int, until: int = _ANY_REVISION) -> None:
        """Take out what the index has of a session: what goes from the log may not stay here.

        That is all, or what stands up to a revision. The bytes stay until the index is merged, so
        whoever takes something out has the file erased afterwards.
        """
        if self._value("indexed_until", pk) is None:
            return
        if not fulltext.has_index(self._connection):
            self.forget()
            return
        with self._guarded():
            self._left = SLICE
            while not self._take_out(tenant, pk, until):
                self._left = SLICE
            if until == _ANY_REVISION:
                self._connection.execute(self._queries["drop_indexed_until"], (pk,))
                self._connection.execute(self._queries["lower_search_mark"], (pk, tenant))

    def forget(self) -> None:
        """Forget that anything is in the index; whoever fills it next begins a new one."""
        for table in ("sessions", "tenants", "messages"):
            self._connection.execute(self._queries[f"forget_{table}"])

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Let errors of the index come up here, and not when the transaction is committed."""
        try:
            yield
            # A savepoint is where FTS5 writes down what it has gathered.
            self._connection.execute("SAVEPOINT indexed")
            self._connection.execute("RELEASE indexed")
        except sqlite3.DatabaseError as error:
            if not fulltext.is_damaged(error):
                raise
            raise IndexUseless("the search index is damaged") from error

    def _make(self) -> None:
        """Make the index if there is none, and a new one if the old one was forgotten."""
        if fulltext.has_index(self._connection):
            if self._value("is_indexed"):
                return
            _drop(self._connection)
        self.forget()
        self._connection.execute(self._queries["make_index"])

    def _fill(self, tenant: str) -> Indexed:
        self._left = SLICE
        found = self._connection.execute(
            self._queries["stale_sessions"], (tenant, None, None, SLICE + 1)
        )
        stale = [StaleSession._make(row) for row in found]
        unfinished = next((s for s in stale if not self._catch_up(tenant, s)), None)
        mark = self._value("last_rank", tenant) if unfinished is None else unfinished.rank
        self._connection.execute(self._queries["put_search_mark"], (tenant, mark))
        complete = unfinished is None and len(stale) <= SLICE
        return Indexed(SLICE - self._left, complete=complete)

    def _catch_up(self, tenant: str, session: StaleSession) -> bool:
        """Index what is new of a session, as far as the slice goes; say whether that was all."""
        behind = session.indexed < session.base
        if behind and not self._take_out(tenant, session.pk, session.base):
            return False
        until = session.after
        most = max(self._left, 0) + 1  # one more than fits: so none is found only if none is left
        for entry in self._entries("unindexed_entries", until, session.history_revision, most):
            if self._left <= 0:
                break
            self._put_in(tenant, entry)
            until = entry.revision
        else:
            until = session.history_revision
        self._connection.execute(self._queries["put_indexed_until"], (session.pk, until))
        return until == session.history_revision

    def _put_in(self, tenant: str, entry: _Entry) -> None:
        said = said_in(entry.payload, entry.checksum) or []  # a damaged one cannot be found
        rows = self._rows(tenant, entry, said)
        run_bulk(self._connection, "index_words", rows)
        places = [(row, entry.revision, entry.at, text.count(" ") + 1) for row, _, text in rows]
        run_bulk(self._connection, "index_messages", places)

    def _take_out(self, tenant: str, pk: int, until: int) -> bool:
        """Take out a session's entries up to a revision; say whether none is left."""
        first = pk << REVISION_BITS
        for entry in self._entries(
            "indexed_entries", first, first + _LAST_ROW, until, max(self._left, 0) + 1
        ):
            if self._left <= 0:
                return False
            said = said_in(entry.payload, entry.checksum)
            if said is None:
                raise IndexUseless(f"entry {entry.revision} is damaged")
            rows = self._rows(tenant, entry, said)
            run_bulk(self._connection, "unindex_words", rows)
            place = first + entry.ordinal
            self._connection.execute(
                self._queries["unindex_messages"], (place, place + len(said) - 1)
            )
        return True

    def _entries(self, name: str, *values: int) -> list[_Entry]:
        return [_Entry._make(row) for row in self._connection.execute(self._queries[name], values)]

    def _rows(self, tenant: str, entry: _Entry, said: Sequence[Said]) -> list[tuple[int, str, str]]:
        """Return an entry's rows of the index: of its messages those that have words."""
        self._left -= max(1, len(said) // MESSAGES_OF_AN_ENTRY)
        first = (entry.revision >> REVISION_BITS << REVISION_BITS) + entry.ordinal
        whose = fulltext.tenant_word(tenant)
        texts = [" ".join(words(each.text)) for each in said]
        return [(first + n, whose, text) for n, text in enumerate(texts) if text]

    def _value(self, name: str, *values: object) -> Any:
        row = self._connection.execute(self._queries[name], values).fetchone()
        return row[0] if row else None


def tidy(connection: sqlite3.Connection) -> None:
    """Leave nothing in the index of what was taken out of it; one that was forgotten, goes."""
    if not connection.execute(queries()["has_index"]).fetchone()[0]:
        return
    if connection.execute(queries()["is_indexed"]).fetchone()[0] and fulltext.has_fts5(connection):
        try:
            connection.execute(queries()["optimise_index"])
        except sqlite3.DatabaseError as error:
            if not fulltext.is_damaged(error):
                raise
        else:
            return
    Index(connection).forget()
    _drop(connection)


def _drop(connection: sqlite3.Connection) -> None:
    """Drop the index. One that FTS5 cannot open is emptied by hand first, or only that without it.

    FTS5 keeps its words in plain tables, and what is left in them then is an index of nothing.
    """
    has_fts5 = fulltext.has_fts5(connection)
    if has_fts5:
        try:
            connection.execute(queries()["drop_index"])
        except sqlite3.DatabaseError as error:
            if not fulltext.is_damaged(error):
                raise
        else:
            return
    for part in ("words", "terms", "sizes"):
        connection.execute(queries()[f"empty_index_{part}"])
    connection.execute(queries()["put_empty_index"])
    if has_fts5:
        connection.execute(queries()["drop_index"])
