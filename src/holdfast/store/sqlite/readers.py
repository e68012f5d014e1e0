"""Reader connections: one for each read under way, kept for the next."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from holdfast.store.sqlite import faults
from holdfast.store.sqlite.connections import Database


class Readers:
    """Lends connections. A read is one transaction, and never spans a caller's code."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._idle: deque[sqlite3.Connection] = deque()

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection inside a read transaction."""
        try:
            connection = self._borrow()
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise faults.translated(error, self._database.location) from error
        self._idle.append(connection)

    def _borrow(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._database.reader()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    def abandon(self) -> list[sqlite3.Connection]:
        """Give up the connections without closing them."""
        idle, self._idle = list(self._idle), deque()
        return idle
