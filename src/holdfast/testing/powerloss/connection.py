"""Puts the recorded disk beneath Holdfast's own backend: apsw behind the face of `sqlite3`.

The backend opens a connection for writing and others for reading. On the recorded disk a file in
write-ahead mode has one connection (see `vfs`), so all that the backend opens share it. It is
closed when the last of them is, as the file would be.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import apsw

from holdfast.testing.powerloss.vfs import Recorder

_WAL_VERSION = b"\2\2"
_AT_VERSION = slice(18, 20)  # of a database file's header: 2 says write-ahead log


class Setting(StrEnum):
    """How SQLite is made to work: as Holdfast asks it to, or with a planted fault.

    `WAL` is what Holdfast asks for, `JOURNAL` what it falls back to where there can be no
    write-ahead log. The others say that they obey, and do less.
    """

    WAL = "wal"
    JOURNAL = "journal"
    WAL_NORMAL = "wal-normal"
    WAL_OFF = "wal-off"
    JOURNAL_FULL = "journal-full"

    @property
    def has_wal(self) -> bool:
        """Whether a write-ahead log can be had."""
        return self.value.startswith("wal")

    @property
    def lies(self) -> str | None:
        """The synchronous level that is taken in secret, if any."""
        return {"wal-normal": "NORMAL", "wal-off": "OFF", "journal-full": "FULL"}.get(self.value)


class Connections:
    """Makes the connections of one store on a recorded disk: a factory for `Database`."""

    def __init__(self, recorder: Recorder, setting: Setting, checkpoint_pages: int) -> None:
        """Checkpoint after so few pages that the log is begun anew many times."""
        self._recorder = recorder
        self._setting = setting
        self._checkpoint_pages = checkpoint_pages
        self._shared: apsw.Connection | None = None
        self._users = 0

    def __call__(self, path: str) -> sqlite3.Connection:
        """Return one more connection."""
        if self._shared is None:
            self._shared = self._open(path)
        self._users += 1
        connection = RecordedConnection(self, self._shared, self._setting)
        # It has the part of the interface that the backend uses, and the tests use the backend.
        return cast(sqlite3.Connection, connection)

    def release(self) -> None:
        """Take one back."""
        self._users -= 1
        if self._users == 0 and self._shared is not None:
            shared, self._shared = self._shared, None
            shared.close()

    def _open(self, path: str) -> apsw.Connection:
        connection = apsw.Connection(path, vfs=self._recorder.name)
        if _is_wal(Path(path)):
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute(f"PRAGMA wal_autocheckpoint = {self._checkpoint_pages}")
        return connection


class RecordedConnection:
    """The part of `sqlite3.Connection` that the backend uses."""

    def __init__(self, owner: Connections, connection: apsw.Connection, setting: Setting) -> None:
        """Share a connection."""
        self._owner = owner
        self._connection = connection
        self._setting = setting
        self._asked: str | None = None
        self._closed = False

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._connection.in_transaction

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Rows:
        """Run a statement; pragmas are where a setting has its way."""
        try:
            if sql.startswith("PRAGMA"):
                return Rows(self._pragma(sql))
            before = self._connection.total_changes()
            rows = list(self._connection.execute(sql, tuple(parameters)))
            return Rows(rows, self._connection.total_changes() - before)
        except apsw.Error as error:
            raise _translated(error) from error

    def close(self) -> None:
        """Give the connection back."""
        if not self._closed:
            self._closed = True
            self._owner.release()

    def _pragma(self, sql: str) -> list[tuple[Any, ...]]:
        name, _, value = sql.removeprefix("PRAGMA ").partition(" = ")
        if name == "query_only":
            return []  # it would bind the writer too
        if name == "journal_mode" and value == "WAL":
            if not self._setting.has_wal:
                return [("delete",)]
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        if name == "synchronous" and self._setting.lies:
            if value:
                self._asked = value
                sql = f"PRAGMA synchronous = {self._setting.lies}"
            elif self._asked:
                return [({"NORMAL": 1, "FULL": 2, "EXTRA": 3}[self._asked],)]
        return list(self._connection.execute(sql))


class Rows:
    """The part of `sqlite3.Cursor` that the backend uses."""

    def __init__(self, rows: list[tuple[Any, ...]], rowcount: int = 0) -> None:
        self.rowcount = rowcount
        self._rows = iter(rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row."""
        return next(self._rows, None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows that are left."""
        return list(self._rows)


def _is_wal(path: Path) -> bool:
    return path.exists() and path.read_bytes()[_AT_VERSION] == _WAL_VERSION


def _translated(error: apsw.Error) -> sqlite3.Error:
    translated = sqlite3.OperationalError(str(error))
    # apsw's own misuse errors carry no code of SQLite's; its type stubs know of none at all.
    translated.sqlite_errorcode = getattr(error, "extendedresult", sqlite3.SQLITE_ERROR)
    return translated
