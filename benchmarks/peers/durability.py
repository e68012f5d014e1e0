"""What a store's write waits for, as it is seen and not as it is documented."""

from __future__ import annotations

import os
from collections.abc import Awaitable
from unittest import mock

SETTINGS = ("fsync", "synchronous_commit")
"""What decides whether PostgreSQL keeps what it acknowledged."""

LEVELS = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}


def in_words(journal_mode: object, synchronous: object) -> str:
    """Return SQLite's answers to `PRAGMA journal_mode` and `PRAGMA synchronous` for a table."""
    journal = str(journal_mode).upper()
    kind = journal if journal == "WAL" else f"{journal} journal"
    return f"{kind}, synchronous {LEVELS[int(str(synchronous))]}"


def of_a_server(*values: object) -> str:
    """Return PostgreSQL's answers to `SHOW` for each of the settings."""
    return ", ".join(f"{name} {value}" for name, value in zip(SETTINGS, values, strict=True))


async def of_files(turn: Awaitable[None]) -> str:
    """Add a turn to a store of plain files, and count how often that waits for the disk."""
    with (
        mock.patch.object(os, "fsync", wraps=os.fsync) as fsync,
        mock.patch.object(os, "fdatasync", wraps=os.fdatasync) as fdatasync,
    ):
        await turn
    syncs = fsync.call_count + fdatasync.call_count
    return f"files, {syncs} fsync a turn" if syncs else "files, no fsync"
