"""A store that can be closed and opened again, with its backend at hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from holdfast.model.write import Write
from holdfast.store.backend import Outcome
from holdfast.store.engine import Engine
from holdfast.store.reading import Reading
from holdfast.store.sources import Sources
from holdfast.store.sqlite.backend import SqliteBackend
from holdfast.store.sqlite.connections import Database
from holdfast.store.sync_store import SessionStore
from holdfast.store.writing import Writing
from holdfast.testing.powerloss.picture import (
    TENANT,
    TIMEOUT_S,
    Picture,
    Said,
    read_picture,
    read_said,
)


class LiveStore:
    """The public store on the SQLite backend; `batch` lists the writes since it was cleared."""

    def __init__(self, database: Database, sources: Sources) -> None:
        self.batch: list[tuple[Write, Outcome]] = []
        self.is_open = False
        self._database = database
        self._sources = sources

    def open(self) -> None:
        """Open it, as `connect` does: the file is checked, or made."""
        self.resume()
        self._backend.open()

    def resume(self) -> None:
        """Open it without looking at the file first, as a process does that connected before."""
        self._backend = _Witness(self._database, self._sources, self.batch)
        engine = Engine(self._backend, self._sources)
        self.store = SessionStore(engine, TENANT, self._sources, TIMEOUT_S)
        self._writing = Writing(Reading(self._backend, TENANT), TENANT, self._sources)
        self.is_open = True

    def close(self) -> None:
        """Close it; closing twice is harmless."""
        if self.is_open:
            self.is_open = False
            self.store.close()

    @property
    def identity(self) -> str:
        """Which store this is."""
        return self._backend.identity

    def picture(self) -> Picture:
        """Read everything."""
        return read_picture(self._backend)

    def said(self, sessions: Iterable[str]) -> Said:
        """Read the histories of these sessions."""
        return read_said(self.store, sessions)

    def addition(
        self,
        session_id: str,
        text: str,
        *,
        key: str | None = None,
        expected_revision: int | None = None,
    ) -> Write:
        """Return the write that adds a message."""
        return self._writing.add(
            session_id,
            [{"role": "user", "content": text}],
            path="messages[{}]",
            key=key,
            expected_revision=expected_revision,
        )

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Commit writes as one batch: one durable point, as the engine makes them of a crowd."""
        assert self._backend.admit(wait=True)
        try:
            return self._backend.commit(writes)
        finally:
            self._backend.leave()


class _Witness(SqliteBackend):
    """The SQLite backend, which tells what it was given and answered."""

    def __init__(
        self, database: Database, sources: Sources, batch: list[tuple[Write, Outcome]]
    ) -> None:
        super().__init__(database, sources)
        self._batch = batch

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Commit, and tell."""
        outcomes = super().commit(writes)
        self._batch.extend(zip(writes, outcomes, strict=True))
        return outcomes
