"""Who holds a SQLite store's locks, as the system tells it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from holdfast.store.sqlite.turnstile import LOCK_SUFFIXES

_LINE = re.compile(
    r"\d+: (?P<waits>-> )?\S+ +\S+ +(?P<mode>READ|WRITE) +(?P<pid>-?\d+) "
    r"(?P<major>[0-9a-f]+):(?P<minor>[0-9a-f]+):(?P<inode>\d+) (?P<start>\d+) (?P<end>\d+|EOF)"
)
_EVERYTHING = 1 << 63

# SQLite's file format: the lock bytes of the database and of the shared-memory file.
_RESERVED = 0x40000001
_SHM_WRITE = 120
_SHM_READS = range(123, 128)

_WRITES, _READS, _WAITS, _HAS_OPEN = "writes", "reads", "waits to write", "has it open"
_WEIGHT = {_WRITES: 0, _READS: 1, _WAITS: 2, _HAS_OPEN: 3}


class Holder(Struct, frozen=True, order=True):
    """A process and the most that it does with the store."""

    weight: int
    pid: int
    name: str
    doing: str

    @property
    def writes(self) -> bool:
        """Whether others that want to write must wait for it."""
        return self.doing == _WRITES

    @property
    def reads(self) -> bool:
        """Whether it keeps the write-ahead log from being emptied."""
        return self.doing in (_READS, _WRITES)

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


def lock_holders(path: Path, system: Path) -> list[Holder] | None:
    """Return who else holds locks, writers first; `None` where the system does not tell."""
    try:
        lines = (system / "locks").read_text("utf-8").splitlines()
    except OSError:
        return None
    files = dict(_files(path))
    doing: dict[int, str] = {}
    for line in lines:
        found = _LINE.match(line)
        if found is None:
            continue
        device = (int(found["major"], 16), int(found["minor"], 16), int(found["inode"]))
        pid = int(found["pid"])
        if device not in files or pid == os.getpid():
            continue
        what = _doing(files[device], found)
        if pid not in doing or _WEIGHT[what] < _WEIGHT[doing[pid]]:
            doing[pid] = what
    return sorted(
        Holder(_WEIGHT[what], pid, _name(system, pid), what) for pid, what in doing.items()
    )


def _files(path: Path) -> Iterator[tuple[tuple[int, int, int], str]]:
    for suffix in ("", "-wal", "-shm", *LOCK_SUFFIXES):
        try:
            found = Path(f"{path}{suffix}").stat()
        except OSError:
            continue
        yield (os.major(found.st_dev), os.minor(found.st_dev), found.st_ino), suffix


def _doing(suffix: str, lock: re.Match[str]) -> str:
    queue, write = LOCK_SUFFIXES
    if lock["waits"] or suffix == queue:
        return _WAITS
    if suffix == write:
        return _WRITES
    start = int(lock["start"])
    end = _EVERYTHING if lock["end"] == "EOF" else int(lock["end"])
    if suffix == "-shm":
        if lock["mode"] == "WRITE" and start <= _SHM_WRITE <= end:
            return _WRITES
        if any(start <= byte <= end for byte in _SHM_READS):
            return _READS
    elif suffix == "" and lock["mode"] == "WRITE" and start <= _RESERVED <= end:
        return _WRITES
    return _HAS_OPEN


def _name(system: Path, pid: int) -> str:
    try:
        return (system / str(pid) / "comm").read_text("utf-8", "replace").strip() or "a program"
    except OSError:
        return "a program"  # gone meanwhile, or of a container that this one does not see into
