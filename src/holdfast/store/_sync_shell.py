"""How the synchronous face reaches the engine: all that differs from `_async_shell`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, ParamSpec, TypeVar

from holdfast.errors import HoldfastError
from holdfast.model.commit import Commit, Deletion, Purge
from holdfast.model.search import Indexed
from holdfast.model.turn import Busy, Held, Opened
from holdfast.model.write import Write
from holdfast.rules.history import History
from holdfast.store.engine import Engine
from holdfast.store.streaming import RunningTurn

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

LOOK_S = 0.1
"""Whoever waits for a lease to run out looks so often: time alone gives no sign."""


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

    def answer(self, write: Write, kind: type[T]) -> T:
        """Return what a durable write answers, which is of this kind."""
        outcome = self._engine.commit(write, self._timeout_s)
        assert isinstance(outcome, kind)
        return outcome

    def open_turn(self, write: Write) -> Opened | Busy:
        """Return the turn that was opened, or who is in the way."""
        outcome = self._engine.commit(write, self._timeout_s)
        assert isinstance(outcome, Opened | Busy)
        return outcome

    def close_turn(self, live: RunningTurn, closing: Callable[[], Write]) -> None:
        """Return once a turn is closed, and the engine has let go of it; Ctrl-C waits for that too.

        What it met is either undone or durable. If it is durable, closing once more is refused.
        """
        try:
            self._close_turn(live, closing)
        except Exception:
            raise
        except BaseException:
            with contextlib.suppress(HoldfastError):
                self._close_turn(live, closing)
            raise

    def _close_turn(self, live: RunningTurn, closing: Callable[[], Write]) -> None:
        try:
            self.answer(closing(), Held)
        finally:
            self.detach(live)

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

    # Turns and followers

    @property
    def mark(self) -> int:
        """How much news there was so far."""
        return self._engine.news.mark

    def wait_for_news(self, mark: int, timeout_s: float) -> bool:
        """Wait until there may be something newer than `mark`."""
        self._engine.require_open()
        return self._engine.news.wait(mark, timeout_s)

    def pause_until(self, look: Callable[[], bool], timeout_s: float) -> None:
        """Wait until `look` finds what it looks for, or time is up."""
        ends = self._engine.monotonic_s() + timeout_s
        while (left := ends - self._engine.monotonic_s()) > 0:
            mark = self.mark
            if self.read(look):
                return
            self.wait_for_news(mark, min(left, LOOK_S))

    def attach(self, live: RunningTurn, turn: Callable[[], object]) -> None:
        """Let the engine write what the turn streams, and keep its lease, while there is `turn()`.

        Ctrl-C may come so early in `__exit__` that nothing of it is done.
        """
        live.stranded = lambda: turn() is None
        self._engine.attach(live)
        self._engine.news.hear_stops(live.look)

    def detach(self, live: RunningTurn) -> None:
        """Stop that."""
        self._engine.detach(live)
        self._engine.news.hear_no_stops(live.look)

    def wait_for_room(self, live: RunningTurn) -> None:
        """Wait until the disk has caught up with a turn's text; `Unavailable` if it does not."""
        if not live.wait_for_room(self._timeout_s):
            raise live.no_room(self._timeout_s)

    def wait_interrupted(self, live: RunningTurn, timeout_s: float | None) -> bool:
        """Wait until a turn is asked to stop."""
        return live.wait_interrupted(timeout_s)

    def pieces(self, ask: Callable[[History], Any], history: History) -> Iterator[str]:
        """Yield what `ask` yields."""
        with contextlib.closing(piece for piece in ask(history)) as source:
            yield from source

    def close_pieces(self, source: Iterator[str]) -> None:
        """End what `pieces` began, wherever it is."""
        if isinstance(source, Generator):
            source.close()

    def close(self) -> None:
        """Commit what is queued, then let go."""
        self._engine.close()


def _purged(outcome: object) -> Purge | HoldfastError:
    assert isinstance(outcome, Purge | HoldfastError)
    return outcome
