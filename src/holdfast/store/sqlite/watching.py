"""Waiting until some process commits to a SQLite file.

Every commit writes to the write-ahead log beside the database, and Linux tells whoever watches the
folder. But SQLite writes, then syncs, and only then lets readers see it, so after an event `PRAGMA
data_version`, which is read from shared memory, is looked at until it changes. Elsewhere that is
looked at often.
"""

from __future__ import annotations

import os
import select
import sqlite3
import struct
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from holdfast.store.sqlite.connections import Database

LOOK_S = 0.025
FIRST_PAUSE_S = 0.001
SETTLE_S = 1.0
"""So long after a file event its commit may become visible, and then there is no other event."""

_IN_MODIFY, _IN_CREATE, _IN_DELETE, _IN_MOVED_TO = 0x2, 0x100, 0x200, 0x80
_IN_NONBLOCK, _IN_CLOEXEC = 0o4000, 0o2000000
_EVENT = struct.Struct("iIII")
_BUFFER = 64 * 1024


class Watcher:
    """Waits for commits to one file, on one thread at a time."""

    def __init__(self, database: Database, *, events: bool = sys.platform == "linux") -> None:
        self._database = database
        self._events = events
        self._inotify = -1
        self._bell = (-1, -1)
        self._connection: sqlite3.Connection | None = None
        self._version = -1
        self._settled_at = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._woken = False
        self._lock = threading.Lock()

    @property
    def polls(self) -> bool:
        """Whether it has to look again and again, for want of file events."""
        return not self._events

    def wait(self, timeout_s: float) -> bool:
        """Return true when something may have been committed, or when woken; else, false."""
        if self._events and self._inotify < 0:
            self._open_events()
        return self._wait_for_event(timeout_s) if self._events else self._poll(timeout_s)

    def wake(self) -> None:
        """Let `wait` return now, from another thread."""
        self._woken = True
        with suppress(OSError):
            os.write(self._bell[1], b"!")

    def pause(self) -> None:
        """Close what a forked child must not inherit, and open nothing before `resume`."""
        self._lock.acquire()
        self._close_connection()

    def resume(self) -> None:
        """Go on."""
        self._lock.release()

    def close(self) -> None:
        """Let go of every file; nobody waits any more."""
        with self._lock:
            files = (self._inotify, *self._bell)
            self._inotify, self._bell = -1, (-1, -1)  # first: a number closed twice is another's
            for file in files:
                if file >= 0:
                    os.close(file)
            self._close_connection()

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        self._version = -1  # the next connection counts on its own
        if connection is not None:
            connection.close()

    def _open_events(self) -> None:
        import ctypes  # slow to import, and only followers and those who wait need it

        libc = ctypes.CDLL(None, use_errno=True)
        found = libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
        folder = os.fsencode(self._database.path.parent)
        mask = _IN_MODIFY | _IN_CREATE | _IN_DELETE | _IN_MOVED_TO
        if found < 0 or libc.inotify_add_watch(found, folder, mask) < 0:
            self._events = False  # too many watches, or a system without them
            if found >= 0:
                os.close(found)
            return
        self._inotify = found
        self._bell = os.pipe()
        os.set_blocking(self._bell[1], False)

    def _wait_for_event(self, timeout_s: float) -> bool:
        names = {os.fsencode(Path(f"{self._database.path}{end}").name) for end in ("", "-wal")}
        deadline = time.monotonic() + timeout_s
        while not self._is_changed():
            now = time.monotonic()
            if now >= deadline:
                return False
            rest_s = deadline - now
            if now < self._settled_at:
                rest_s = min(rest_s, self._pause_s)
                self._pause_s = min(2 * self._pause_s, LOOK_S)
            ready, _, _ = select.select([self._inotify, self._bell[0]], [], [], rest_s)
            if self._bell[0] in ready:
                os.read(self._bell[0], 1024)
                break
            if ready and self._is_ours(os.read(self._inotify, _BUFFER), names):
                self._settled_at = time.monotonic() + SETTLE_S
                self._pause_s = FIRST_PAUSE_S
        return True

    def _is_changed(self) -> bool:
        """Say whether there was a commit since this was asked last; yes, the first time."""
        with self._lock:
            version, before = self._data_version(), self._version
            self._version = version
        return version != before

    @staticmethod
    def _is_ours(events: bytes, names: set[bytes]) -> bool:
        place = 0
        found = False
        while place < len(events):
            *_, length = _EVENT.unpack_from(events, place)
            place += _EVENT.size + length
            found = found or events[place - length : place].rstrip(b"\0") in names
        return found

    def _poll(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not (self._is_changed() or self._woken):
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_S)
        self._woken = False
        return True

    def _data_version(self) -> int:
        """Return a number that changes with each commit of another connection."""
        if self._connection is None:
            self._connection = self._database.reader()
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)
