"""Reader connections: one for each read under way, and a few kept for the next."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from holdfast.store.sqlite import faults
from holdfast.store.sqlite.connections import Database

MAX_IDLE = 8


class Readers:
    """Lends connections. A read is one transaction, and never spans a caller's code."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._start_fresh()

    def _start_fresh(self) -> None:
        self._lock = threading.RLock()
        self._change = threading.Condition(self._lock)
        self._idle: list[sqlite3.Connection] = []
        self._lent = 0
        self._paused = False

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection inside a read transaction."""
        connection: sqlite3.Connection | None = None
        self._begin()
        try:
            connection = self._take_idle() or self._database.reader()
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()
                connection = None
            if isinstance(error, sqlite3.Error):
                raise faults.translated(error, self._database.location) from error
            raise
        finally:
            self._end(connection)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def pause(self, timeout_s: float) -> None:
        """Let no new read begin, wait for those under way, and close every connection."""
        with self._lock:
            self._paused = True
            self._change.wait_for(lambda: self._lent == 0, timeout_s)
        self.close()

    def resume(self) -> None:
        """Let reads begin again."""
        with self._lock:
            self._paused = False
            self._change.notify_all()

    def abandon(self) -> list[sqlite3.Connection]:
        """Start anew, and return the connections that were open, unclosed."""
        idle = self._idle
        self._start_fresh()
        return idle

    def _begin(self) -> None:
        with self._lock:
            while self._paused:
                self._change.wait()
            self._lent += 1

    def _take_idle(self) -> sqlite3.Connection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _end(self, connection: sqlite3.Connection | None) -> None:
        if connection is not None and (self._paused or len(self._idle) >= MAX_IDLE):
            connection.close()  # before this read counts as done: a fork may wait for that
            connection = None
        with self._lock:
            if connection is not None:
                self._idle.append(connection)
            self._lent -= 1
            if self._paused:
                self._change.notify_all()
