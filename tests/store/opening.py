"""Stores with parts exchanged: a scripted backend under the engine, a strange disk under SQLite."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from holdfast import SessionStore
from holdfast.model.write import Write
from holdfast.store.backend import Capabilities, Outcome
from holdfast.store.engine import Engine
from holdfast.store.memory import MemoryBackend
from holdfast.store.sources import Sources
from holdfast.store.sqlite.backend import SqliteBackend
from holdfast.store.sqlite.connections import ConnectionFactory, Database, plain_connection


def sqlite_store(
    path: Path,
    factory: ConnectionFactory = plain_connection,
    timeout_s: float = 5.0,
    sources: Sources | None = None,
) -> SessionStore:
    """Open a SQLite store whose connections a test makes."""
    sources = sources or Sources()
    backend = SqliteBackend(Database(path, "full", timeout_s, factory), sources)
    backend.open()
    return SessionStore(Engine(backend, sources), "default", sources, timeout_s)


class GatedBackend(MemoryBackend):
    """A memory backend that records its batches and commits only while its gate is open."""

    def __init__(self) -> None:
        super().__init__(Sources())
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.admits = True
        self.batches: list[list[str]] = []
        self.threads: list[int] = []
        self.failure: Exception | None = None

    def admit(self, *, wait: bool) -> bool:
        """Let nobody in while another process is said to write."""
        if not self.admits and wait:
            self.gate.wait()
        return self.admits

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Wait at the gate, then commit, or fail as the test says."""
        self.batches.append([write.session_id for write in writes])
        self.threads.append(threading.get_ident())
        self.entered.set()
        self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return super().commit(writes)


class Sluice(GatedBackend):
    """Lets one commit through each time its gate is opened."""

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Wait at the gate, commit, and shut it."""
        outcomes = super().commit(writes)
        self.gate.clear()
        return outcomes


class OverlappingBackend(GatedBackend):
    """One whose commits are done elsewhere, and which notes what happens, and in which order."""

    capabilities = Capabilities(durable=False, cross_process=False, overlaps=True)

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []
        self.waits = True
        self._work: Callable[[], object] = self.gate.is_set

    def meanwhile(self, work: Callable[[], None]) -> None:
        """Keep it for the next commit."""
        self._work = work

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Send the writes, do what there is to do, and wait at the gate."""
        self.events.append(f"sent {' '.join(write.session_id for write in writes)}")
        if self.waits:
            self._work()
        return super().commit(writes)


class FailingConnection(sqlite3.Connection):
    """A connection on which a chosen statement fails once with a chosen error."""

    fail_on: str | None = None
    error_code = sqlite3.SQLITE_IOERR
    opened: int = 0

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Run a statement, unless it is the one that is to fail."""
        if sql == FailingConnection.fail_on:
            FailingConnection.fail_on = None
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = FailingConnection.error_code
            raise error
        return super().execute(sql, parameters)


def failing_connection(path: str) -> sqlite3.Connection:
    """Open a `FailingConnection`, as the backend opens its own."""
    FailingConnection.opened += 1
    return sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, factory=FailingConnection
    )
