"""Who writes next, among processes: fair, and without SQLite's polling.

SQLite's busy handler sleeps and retries, so some processes wait long while others pass. Before a
batch each process goes through two file locks instead: it takes the first (its place in the queue),
then the second (the right to write), and then lets the next one into the first. The kernel wakes
the one that waits, at once. The turnstile is for fairness only: what is safe is decided by SQLite's
own locks, so where file locks are missing its busy timeout takes over.
"""

from __future__ import annotations

import os
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


class Turnstile:
    """The two locks of one database, as one process holds them."""

    def __init__(self, database: Path) -> None:
        self._paths = tuple(f"{database}{suffix}" for suffix in LOCK_SUFFIXES)
        self._files: list[int] = []
        self._missing = not _HAS_LOCKS
        weakref.finalize(self, _close_all, self._files)

    def enter(self, *, wait: bool) -> bool:
        """Get the right to write; without `wait`, only if nobody has it or waits for it."""
        if not self._is_open():
            self._open()
        if self._missing:
            return True
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
        return True

    def leave(self) -> None:
        """Let the next one in."""
        if self._is_open() and not self._missing:
            fcntl.flock(self._files[1], fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the lock files, which lets go of the locks.

        In a forked child this leaves the parent's locks alone, and is needed all the same: a child
        that kept the files open would go on holding the locks of a parent that died.
        """
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
