"""Who writes next, among processes: fair, and without SQLite's polling.

SQLite's busy handler sleeps and retries, so some processes wait long while others pass. Before a
batch each process goes through two file locks instead: it takes the first (its place in the queue),
then the second (the right to write), and then lets the next one into the first. The kernel wakes
the one that waits, at once. The turnstile is for fairness only: what is safe is decided by SQLite's
own locks, so where file locks are missing its busy timeout takes over.

For the same reason a lone caller whose process saw nobody else write for a second goes through it
only every two milliseconds: four system calls each time would be a thirtieth of its turn. Whoever
comes anew waits that much longer at most.
"""

from __future__ import annotations

import os
import time
import weakref
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # Windows has no flock
    _HAS_LOCKS = False
else:
    _HAS_LOCKS = True

LOCK_SUFFIXES: Final = ("-queue", "-write")
"""The lock files stand beside the database: its name and one of these."""

ALONE_S = 1.0
"""Who saw nobody else write for so long is alone, until it sees somebody."""

PASS_S = 0.002
"""Who is alone and went through the turnstile need not do so again for that long."""


class Turnstile:
    """The two locks of one database, as one process holds them."""

    def __init__(self, database: Path) -> None:
        self._paths = tuple(f"{database}{suffix}" for suffix in LOCK_SUFFIXES)
        self._files: list[int] = []
        self._missing = not _HAS_LOCKS
        self._inside = False
        self._alone_from = time.monotonic() + ALONE_S
        self._passes_until = 0.0
        weakref.finalize(self, _close_all, self._files)

    def enter(self, *, wait: bool) -> bool:
        """Get the right to write; without `wait`, only if nobody has it or waits for it."""
        now = time.monotonic()
        if now < self._passes_until and not wait:
            return True
        if not self._is_open():
            self._open()
        if self._missing:
            return True
        self._inside = True  # before it is true: an interrupt may come between
        queue, write = self._files
        mode = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
        try:
            fcntl.flock(queue, mode)
            try:
                fcntl.flock(write, mode)
            finally:
                fcntl.flock(queue, fcntl.LOCK_UN)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: NFS without its lock service
            self._missing = True
        except BaseException:  # Ctrl-C, wherever it came
            self.close()
            raise
        alone = not wait and now >= self._alone_from
        self._passes_until = now + PASS_S if alone else 0.0
        return True

    def leave(self) -> None:
        """Let the next one in."""
        if self._inside and self._is_open() and not self._missing:
            fcntl.flock(self._files[1], fcntl.LOCK_UN)
        self._inside = False

    def note_others(self) -> None:
        """Know that another process writes too."""
        self._alone_from = time.monotonic() + ALONE_S
        self._passes_until = 0.0

    def close(self) -> None:
        """Close the lock files, which lets go of the locks.

        In a forked child this leaves the parent's locks alone, and is needed all the same: a child
        that kept the files open would go on holding the locks of a parent that died.
        """
        self._passes_until = 0.0
        _close_all(self._files)

    def _is_open(self) -> bool:
        return len(self._files) == len(self._paths)  # an interrupt may have left one

    def _open(self) -> None:
        if self._missing:
            return
        self.close()
        try:
            for path in self._paths:
                self._files.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
        except OSError:  # a folder that may not be written
            self.close()
            self._missing = True


def _close_all(files: list[int]) -> None:
    while files:
        os.close(files.pop())
