"""What a look at a store from outside found: how it stands, and what to do about each thing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct

_GIGABYTE = 10**9
_NETWORK = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs", "fuse.rclone", "fuse.s3fs")
)

Level: TypeAlias = Literal["ok", "warning", "problem"]


class Finding(Struct, frozen=True):
    """One thing that was looked at.

    `code` names the check and is stable between releases, `what` says how things are, `hint` what
    to do (empty where all is well). A warning leaves the promises whole; a problem breaks one, or
    keeps programs from using the store.
    """

    code: str
    level: Level
    what: str
    hint: str = ""


class Limits(Struct, frozen=True):
    """From where on something deserves a word.

    Less free space than `free_bytes`, or than `free_share` of the database's size; a write-ahead
    log of more than `wal_bytes`; a write lock held for `held_s` seconds without a commit.
    """

    free_bytes: int = 100_000_000
    free_share: float = 0.1
    wal_bytes: int = 64_000_000
    held_s: float = 1.0


def diagnose_memory(source: str) -> list[Finding]:
    """Say that a store in memory has nothing to look at."""
    return [
        Finding(
            "store",
            "warning",
            f"memory, from {source}: it ends with its program, so nothing of it can be checked",
            "name a file to keep conversations: --store chats.db, or HOLDFAST_URL",
        )
    ]


def surroundings(path: Path, limits: Limits, system: Path) -> Iterator[Finding]:
    """Yield what is to be said of a file's disk, whether the file is there or not."""
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    yield _file_system(folder, system)
    try:
        free = shutil.disk_usage(folder).free
        stored = path.stat().st_size if path.is_file() else 0
    except OSError as error:
        what = f"the free space cannot be told: {error.strerror}"
        yield Finding("free_space", "warning", what, "check who may enter the store's folder")
        return
    needed = max(limits.free_bytes, int(stored * limits.free_share))
    if free < needed:
        what = f"{megabytes(free)} are free on the file's disk; on a full one, writes fail"
        hint = f"free some space, so that it has {megabytes(needed)} or more"
        yield Finding("free_space", "problem", what, hint)
    else:
        yield Finding("free_space", "ok", f"{megabytes(free)} are free on the file's disk")


def megabytes(count: int) -> str:
    """Return an amount of bytes for people."""
    if count < _GIGABYTE:
        return f"{count / 1e6:,.1f} MB"
    return f"{count / _GIGABYTE:,.1f} GB"


def _file_system(folder: Path, system: Path) -> Finding:
    try:
        lines = (system / "mounts").read_text("utf-8", "replace").splitlines()
    except OSError:
        return Finding("file_system", "ok", "this system does not tell the file system's kind")
    place = folder.resolve()
    kind, depth = "unknown", -1
    for line in lines:
        _, point, found, *_ = [*line.split(" "), "", "", ""]
        mounted = Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), point))
        if place.is_relative_to(mounted) and len(mounted.parts) >= depth:
            kind, depth = found, len(mounted.parts)
    if kind in _NETWORK:
        what = f"the file is on a network file system ({kind}), where file locks may not hold"
        hint = "move the store to a disk of this machine, and let one machine use it"
        return Finding("file_system", "warning", what, hint)
    return Finding("file_system", "ok", f"the file is on {kind}")
