"""How the synchronous face reaches the engine: all that differs from `_async_shell`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from holdfast.errors import HoldfastError
from holdfast.model.commit import Commit, Deletion, Purge
from holdfast.model.search import Indexed
from holdfast.model.write import Write
from holdfast.store.engine import Engine

P = ParamSpec("P")
R = TypeVar("R")


class SyncShell:
    """Commits and reads on the caller's thread."""

    def __init__(self, engine: Engine, timeout_s: float) -> None:
        self._engine = engine
        self._timeout_s = timeout_s

    def commit(self, write: Write) -> Commit:
        """Return once the write is durable."""
        outcome = self._engine.commit(write, self._timeout_s)
        assert isinstance(outcome, Commit)
        return outcome

    def delete(self, write: Write) -> Deletion:
        """Return once the session is gone."""
        outcome = self._engine.commit(write, self._timeout_s)
        assert isinstance(outcome, Deletion)
        return outcome

    def purge(self, writes: Sequence[Write]) -> list[Purge | HoldfastError]:
        """Return once everything is purged, or was refused."""
        outcomes = self._engine.commit_together(writes, self._timeout_s)
        return [_purged(outcome) for outcome in outcomes]

    def index(self, write: Write, timeout_s: float) -> Indexed:
        """Return once a slice is in the search index."""
        outcome = self._engine.commit(write, timeout_s)
        assert isinstance(outcome, Indexed)
        return outcome

    def read(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a read."""
        self._engine.require_open()
        return function(*args, **kwargs)

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a caller's function."""
        return function(*args, **kwargs)

    def close(self) -> None:
        """Commit what is queued, then let go."""
        self._engine.close()


def _purged(outcome: object) -> Purge | HoldfastError:
    assert isinstance(outcome, Purge | HoldfastError)
    return outcome
