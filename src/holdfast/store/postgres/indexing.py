"""Fills the search index, a slice at a time.

Each session is a transaction of its own that does not wait for the disk: what is in the index is
derived from the log, and a session's row says up to where, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from psycopg import Pipeline

from holdfast.model.search import Indexed, Phrase
from holdfast.rules.search import said_in
from holdfast.rules.words import words
from holdfast.store.postgres.arrays import integers, texts
from holdfast.store.postgres.connections import Connection
from holdfast.store.postgres.queries import FOR_EVER, queries

SLICE = 500
"""Entries of a slice."""

MAX_TERM_BYTES = 1000
MAX_TERMS_BYTES = 500_000
"""What PostgreSQL's index takes of a word and of all words of a message, with room to spare."""


class _Stale(NamedTuple):
    shard: int
    pk: int
    base: int
    history_revision: int
    indexed: int
    messages: int
    words: int


def fill(connection: Connection, schema: str, tenant: str) -> Indexed:
    """Index the next slice of what a tenant's index lacks."""
    index = _Index(connection, schema, tenant)
    left, last = SLICE, 0
    while left > 0:
        stale = index.next_stale(last, SLICE)
        for shard, pk in stale:
            if left <= 0:
                break
            left -= index.catch_up(shard, pk, left)
            last = pk
        if len(stale) < SLICE:
            break
    return Indexed(SLICE - left, complete=left > 0)


class _Index:
    """One tenant's part of the index."""

    def __init__(self, connection: Connection, schema: str, tenant: str) -> None:
        self._connection = connection
        self._queries = queries(schema)
        self._tenant = tenant

    def next_stale(self, after: int, limit: int) -> list[tuple[int, int]]:
        """Return the next sessions of which the index lacks something."""
        with self._connection.transaction(), self._connection.pipeline():
            self._execute("set_tenant", self._tenant, FOR_EVER)
            return list(self._execute("next_stale", self._tenant, after, limit).fetchall())

    def catch_up(self, shard: int, pk: int, limit: int) -> int:
        """Index what is new of a session, at most so many entries; return how many they were."""
        with self._connection.transaction(), self._connection.pipeline() as pipeline:
            self._execute("set_tenant", self._tenant, FOR_EVER)
            self._execute("loose_commit")
            locked = self._execute("lock_stale", shard, self._tenant, pk)
            pipeline.sync()  # from here on the server notices if we stand still
            row = locked.fetchone()
            return self._catch_up(pipeline, _Stale._make(row), limit) if row else 0

    def _catch_up(self, pipeline: Pipeline, session: _Stale, limit: int) -> int:
        after, messages, length = session.indexed, session.messages, session.words
        if after < session.base:  # the history was rewritten: what the index has is not current
            self._execute("delete_searched", session.shard, session.pk << 32, session.base)
            after, messages, length = session.base, 0, 0
        asked = self._execute(
            "unindexed_entries", session.shard, after, session.history_revision, limit
        )
        pipeline.sync()
        entries = asked.fetchall()
        rows = [row for entry in entries for row in _rows(*entry)]
        self._put(session.shard, rows)
        messages += len(rows)
        length += sum(row[3] for row in rows)
        until = entries[-1][0] if len(entries) == limit else session.history_revision
        place = (session.shard, self._tenant, session.pk)
        self._execute("set_indexed", until, messages, length, until, *place)
        return max(1, len(entries))

    def _put(self, shard: int, rows: Sequence[tuple[int, int, int, int, str | None]]) -> None:
        if not rows:
            return
        numbers = list(zip(*rows, strict=True))
        terms = [
            None if text is None else " ".join((tenant_term(self._tenant), text))
            for text in numbers[4]
        ]
        columns = [integers(column) for column in numbers[:4]]
        self._execute("put_searched", shard, self._tenant, *columns, texts(terms))

    def _execute(self, name: str, *values: object) -> Any:
        return self._connection.execute(self._queries[name], values, binary=True)


def tenant_term(tenant: str) -> str:
    """Return what stands for a tenant in the index; no word of a message looks like it."""
    return f"={tenant.encode().hex()}"


def query_terms(tenant: str, phrases: Sequence[Phrase]) -> str:
    """Return what PostgreSQL is to look for: messages with all words of all phrases."""
    found = [_quoted(tenant_term(tenant))]
    for phrase in phrases:
        *whole, last = phrase.words
        found += [_quoted(_term(word)) for word in whole]
        found.append(_quoted(_term(last)) + (":*" if phrase.prefix else ""))
    return " & ".join(found)


def _rows(
    revision: int, at: int, payload: bytes, checksum: int
) -> list[tuple[int, int, int, int, str | None]]:
    """Return an entry's rows: of its messages those that have words; none if it is damaged."""
    said = said_in(payload, checksum) or []
    rows: list[tuple[int, int, int, int, str | None]] = []
    for place, each in enumerate(said):
        found = words(each.text)
        if found:
            rows.append((revision, place, at, len(found), _terms(found)))
    return rows


def _terms(found: Sequence[str]) -> str | None:
    terms = " ".join(sorted({_term(word) for word in found}))
    return terms if len(terms.encode()) <= MAX_TERMS_BYTES else None


def _term(word: str) -> str:
    """Return what the index has of a word: of a very long one the beginning."""
    encoded = word.encode()
    if len(encoded) <= MAX_TERM_BYTES:
        return word
    return encoded[:MAX_TERM_BYTES].decode(errors="ignore")


def _quoted(term: str) -> str:
    escaped = term.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
