"""A turn whose beats the test gives: nothing happens to it by itself."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from holdfast.errors import SessionNotFound
from holdfast.store.streaming import RunningTurn
from holdfast.store.sync_store import SessionStore
from holdfast.store.sync_turn import Turn


@dataclass
class Driven:
    """An open turn, and what the engine would ask at each beat."""

    turn: Turn
    live: RunningTurn
    store: SessionStore
    now: float = 0.0

    def flush(self) -> None:
        """Write the text that waits, and come back once its outcome is known."""
        self.now += 1.0
        self.live.beat(self.now)
        self.settle()

    def settle(self) -> None:
        """Come back once everything that was posted has its outcome: writes keep their order."""
        with contextlib.suppress(SessionNotFound):
            self.store.interrupt("nobody's session")


def drive(turn: Turn, store: SessionStore) -> Driven:
    """Open a turn and take its beats into our own hands."""
    turn.__enter__()
    live = turn._live
    turn._shell.detach(live)
    return Driven(turn, live, store)
