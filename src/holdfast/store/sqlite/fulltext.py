"""How a query is put to SQLite's full-text index, and whether there is one."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from holdfast.model.search import Phrase, Query
from holdfast.store.sqlite.queries import queries


class StaleSession(NamedTuple):
    """A session with entries that the index lacks: those after `indexed`, and after its base."""

    pk: int
    id: str
    base: int
    history_revision: int
    rank: int
    indexed: int

    @property
    def after(self) -> int:
        """The revision after which the index lacks it."""
        return max(self.base, self.indexed)


def has_fts5(connection: sqlite3.Connection) -> bool:
    """Say whether this SQLite can have a full-text index."""
    return bool(connection.execute(queries()["has_fts5"]).fetchone()[0])


def has_index(connection: sqlite3.Connection) -> bool:
    """Say whether the store has a full-text index that this SQLite can read."""
    return bool(connection.execute(queries()["has_index"]).fetchone()[0]) and has_fts5(connection)


def is_damaged(error: sqlite3.Error) -> bool:
    """Say whether an error is the index's own: it can be made anew, and nothing else is hurt."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    own = (sqlite3.SQLITE_CORRUPT_VTAB, sqlite3.SQLITE_CONSTRAINT)
    return code in own or "vtable constructor failed" in str(error)


def tenant_word(tenant: str) -> str:
    """Return the one word that stands for a tenant; no other tenant's is like it."""
    return f"t{tenant.encode().hex()}"


def expression(tenant: str, query: Query) -> str:
    """Return what the index is asked.

    Words are letters and digits, so nothing of a query can be anything else than a word here.
    """
    phrases = " AND ".join(map(phrase_expression, query))
    return f'tenant : "{tenant_word(tenant)}" AND text : ({phrases})'


def phrase_expression(phrase: Phrase) -> str:
    """Return what the index is asked for one phrase."""
    return f'"{" ".join(phrase.words)}"{" *" if phrase.prefix else ""}'
