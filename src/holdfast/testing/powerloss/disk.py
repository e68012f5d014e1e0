"""A disk as a program sees it: what was done to it, and what it must still hold after a power loss.

The model, and where each rule of it comes from:

- **A write is durable once a sync of the same file has returned** (POSIX `fsync`; Linux
  `fsync(2)`: `fdatasync` too brings along whatever is needed to read the data back, a changed size
  included). Until then the disk may hold any sector of the file as it was at the last sync, as it
  is now, or as it was at any time in between: the operating system writes pages back in whatever
  order it likes.
- **Sectors are 512 or 4,096 bytes.** A sector may be torn: it holds a piece of the newer bytes
  beside the older ones (SQLite, "Atomic Commit In SQLite", section 2, takes no sector write to be
  atomic), or nothing sensible in the range that was being written. Bytes outside of the written
  range stay as they were: SQLite's *powersafe overwrite*, which its `unix` VFS takes for granted
  unless told otherwise ("Powersafe Overwrite", sqlite.org/psow.html).
- **A file's size** is one more thing that only a sync makes durable. A file that grew may be long
  before its bytes have arrived; the hole reads as zeros or as anything ("Atomic Commit", 2). A file
  that was cut may be long again, old bytes included.
- **A name is durable once its folder was synced**; syncing the file does not do it (`fsync(2)`).
  Until then a new file may be missing, though its bytes were synced, and a deleted one may be back,
  though others were written since. Each name is on its own.
- **What was never synced may be there all the same.**

SQLite renames nothing, so there is no renaming here. Disks that lie about a sync are outside of the
model, as they are outside of the promise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, assert_never


@dataclass(frozen=True, slots=True)
class Create:
    """A name now leads to a new, empty file. Files have numbers, since names come back."""

    name: str
    file: int


@dataclass(frozen=True, slots=True)
class Unlink:
    """A name leads nowhere any more."""

    name: str


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes were written into a file."""

    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """A file was given a size."""

    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    """A sync of a file returned."""

    file: int


@dataclass(frozen=True, slots=True)
class SyncFolder:
    """A sync of the folder returned."""


Operation: TypeAlias = Create | Unlink | Write | Truncate | Sync | SyncFolder


@dataclass(frozen=True, slots=True)
class Pending:
    """A change of a file that no sync has confirmed: the bytes, where, and the size afterwards.

    One that `cuts` shortened the file; its bytes are the zeros that stand there should it grow.
    """

    offset: int
    data: bytes
    size: int
    cuts: bool = False


@dataclass(slots=True)
class File:
    """A file as the last sync left it, and what came since."""

    durable: bytes = b""
    size: int = 0
    pending: list[Pending] | None = None

    def write(self, offset: int, data: bytes) -> None:
        """Take a write; it waits for a sync."""
        self.size = max(self.size, offset + len(data))
        self._wait(Pending(offset, data, self.size))

    def truncate(self, size: int) -> None:
        """Take a change of size; what is cut off reads as zeros should the file grow again."""
        cut = bytes(max(0, self.size - size))
        self.size = size
        self._wait(Pending(size, cut, size, cuts=True))

    def sync(self) -> None:
        """Make everything durable."""
        if self.pending:
            self.durable = self.latest()
        self.pending = None

    def latest(self) -> bytes:
        """Return the file as programs see it."""
        content = bytearray(self.durable)
        for change in self.pending or ():
            put(content, change.offset, change.data)
            del content[change.size :]
            content.extend(bytes(change.size - len(content)))
        return bytes(content)

    def _wait(self, change: Pending) -> None:
        if self.pending is None:
            self.pending = []
        self.pending.append(change)


class Disk:
    """One folder and its files, operation by operation."""

    def __init__(self, start: dict[str, bytes] | None = None) -> None:
        """Begin with files that are durable: what an earlier power loss left."""
        self.files: dict[int, File] = {}
        self.names: dict[str, int] = {}
        """The names that are durable."""
        self.pending_names: dict[str, list[int | None]] = {}
        """What a name led to since the folder's last sync, one after the other."""
        for number, (name, content) in enumerate(sorted((start or {}).items())):
            self.files[number] = File(content, len(content))
            self.names[name] = number

    def apply(self, operation: Operation) -> None:
        """Take the next operation."""
        match operation:
            case Write():
                self.files[operation.file].write(operation.offset, operation.data)
            case Truncate():
                self.files[operation.file].truncate(operation.size)
            case Sync():
                self.files[operation.file].sync()
            case Create():
                self.files[operation.file] = File()
                self.pending_names.setdefault(operation.name, []).append(operation.file)
            case Unlink():
                self.pending_names.setdefault(operation.name, []).append(None)
            case SyncFolder():
                self._sync_folder()
            case _:
                assert_never(operation)

    def latest(self) -> dict[str, bytes]:
        """Return the folder as programs see it."""
        names: dict[str, int | None] = dict(self.names)
        names.update({name: leads_to[-1] for name, leads_to in self.pending_names.items()})
        return {
            name: self.files[number].latest()
            for name, number in names.items()
            if number is not None
        }

    def _sync_folder(self) -> None:
        for name, leads_to in self.pending_names.items():
            last = leads_to[-1]
            if last is None:
                self.names.pop(name, None)
            else:
                self.names[name] = last
        self.pending_names.clear()


def put(content: bytearray, offset: int, data: bytes) -> None:
    """Write into bytes as into a file: what lies between the end and `offset` becomes zeros."""
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data
