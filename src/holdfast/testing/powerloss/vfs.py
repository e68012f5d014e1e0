"""Records what SQLite does to its files: a VFS that stands before the system's own.

What can be seen at this place, and what must be known instead:

- `xWrite`, `xTruncate`, `xSync`, `xDelete` and the creation of a file in `xOpen` are seen.
- SQLite's `unix` VFS syncs the **folder** at two occasions. One is seen: `xDelete` with its
  `syncDir` flag. The other is not: the first `xSync` of every handle that was opened as a journal
  or a write-ahead log with leave to create it (`UNIXFILE_DIRSYNC` in SQLite's `os_unix.c`, set by
  `unixOpen`, obeyed and cleared by `unixSync`). It is recorded where that code does it. A database
  file never gets that flag: its name becomes durable with its journal's.
- `xSync`'s flags do not matter: outside of macOS they all lead to `fdatasync`.
- Shared memory and memory maps do not pass: write-ahead logging works here only with
  `locking_mode=EXCLUSIVE`. The index in shared memory is rebuilt after a crash in any case.
- Temporary files, and files that are deleted when they are closed, are nobody's after a crash and
  are not recorded.

Nothing is synced for real: what was recorded is what counts.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from holdfast.testing.powerloss.disk import (
    Create,
    Operation,
    Sync,
    SyncFolder,
    Truncate,
    Unlink,
    Write,
)

_SYSTEM = ""
"""The name of the system's own VFS, to apsw."""
_NAME = "holdfast-powerloss"
_LOGS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL


class Recorder(apsw.VFS):
    """The VFS: one folder's operations, in order."""

    def __init__(self, folder: Path) -> None:
        """Begin with what is in the folder, all of it durable."""
        self.name = _NAME
        self.operations: list[Operation] = []
        self._folder = folder
        names = sorted(path.name for path in folder.iterdir())
        self._numbers = {name: number for number, name in enumerate(names)}
        self._next = len(names)
        super().__init__(self.name, _SYSTEM, maxpathname=0)

    def xOpen(  # noqa: N802 - the name is SQLite's
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        """Open a file, and record it if it is new."""
        if name is None or flags[0] & apsw.SQLITE_OPEN_DELETEONCLOSE:
            return apsw.VFSFile(_SYSTEM, name, flags)
        path = Path(name if isinstance(name, str) else name.filename())
        return RecordedFile(self, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802 - SQLite's
        """Delete a file; with `syncdir` the folder is synced too."""
        super().xDelete(filename, False)  # noqa: FBT003 - the recorded sync is the one that counts
        name = Path(filename).name
        del self._numbers[name]
        self.operations.append(Unlink(name))
        if syncdir:
            self.operations.append(SyncFolder())

    def number(self, path: Path) -> int:
        """Return the number of the file that a name leads to; create the file if there is none."""
        if path.name not in self._numbers:
            self._numbers[path.name] = self._next
            self.operations.append(Create(path.name, self._next))
            self._next += 1
        return self._numbers[path.name]


class RecordedFile(apsw.VFSFile):
    """One open file."""

    def __init__(
        self,
        recorder: Recorder,
        path: Path,
        name: str | apsw.URIFilename,
        flags: list[int],
    ) -> None:
        """Open it below; `flags` says as what."""
        may_create = flags[0] & apsw.SQLITE_OPEN_CREATE
        self._folder_sync_due = bool(may_create and flags[0] & _LOGS)
        super().__init__(_SYSTEM, name, flags)
        self._operations = recorder.operations
        self._number = recorder.number(path)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - the name is SQLite's
        """Write, and record it."""
        super().xWrite(data, offset)
        self._operations.append(Write(self._number, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - the name is SQLite's
        """Change the size, and record it."""
        super().xTruncate(newsize)
        self._operations.append(Truncate(self._number, newsize))

    def xSync(self, flags: int) -> None:  # noqa: ARG002, N802 - SQLite's; see the module's text
        """Record that the file is durable, and the folder where SQLite syncs that as well."""
        self._operations.append(Sync(self._number))
        if self._folder_sync_due:
            self._folder_sync_due = False
            self._operations.append(SyncFolder())


@contextmanager
def recording(folder: Path, seed: int) -> Iterator[Recorder]:
    """Offer a VFS that records, and give SQLite the same random numbers each time.

    The salts of a write-ahead log are random, and a state that broke a promise must come again.
    """
    source = _Randomness(seed)
    apsw.randomness(0)  # forgets
    apsw.randomness(1)  # and asks anew
    source.unregister()
    recorder = Recorder(folder)
    try:
        yield recorder
    finally:
        recorder.unregister()


class _Randomness(apsw.VFS):
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        super().__init__(f"{_NAME}-seed", _SYSTEM, makedefault=True)

    def xRandomness(self, numbytes: int) -> bytes:  # noqa: N802 - the name is SQLite's
        return self._random.randbytes(numbytes)
