"""The parent of processes that run turns: starts them, talks to them, stops and kills them."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import holdfast
from holdfast.model.entry import Entry
from holdfast.store.sources import Sources
from tests.forking import Forked
from tests.stores import is_postgres, slow_down
from tests.turns.worker import LATER_MS, SESSION, SLOW_S, main

PATIENCE_S = 60.0


def wait_for(condition: Callable[[], bool], what: str = "it") -> None:
    """Wait until something has come true; a test that never sees it fails."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(0.002)


def report(what: str, figures_ms: list[float]) -> None:
    """Print what was measured; `pytest -rP` shows it."""
    middle, worst = statistics.median(figures_ms), max(figures_ms)
    sys.stdout.write(f"{what}: median {middle:.1f} ms, worst {worst:.1f} ms\n")


def later_ms() -> int:
    """Return a time at which every lease of now has run out, and streamed text may go."""
    return time.time_ns() // 1_000_000 + LATER_MS


class Player(Forked):
    """A worker process, as its parent talks to it."""

    def __init__(self, role: str, url: str, name: str, arguments: tuple[object, ...]) -> None:
        super().__init__(main, name, [role, url, name, *map(str, arguments)])


class Stage:
    """A store, and the processes that run turns on it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.store = holdfast.connect(url)
        if is_postgres(url):
            slow_down(url, SLOW_S)
        self._players: list[Player] = []

    def enter(self, role: str, name: str = "a", *arguments: object) -> Player:
        """Start a process, and return once it is connected."""
        (player,) = self.enter_all(role, [name], *arguments)
        return player

    def enter_all(self, role: str, names: list[str], *arguments: object) -> list[Player]:
        """Start processes, and let them go once all of them are connected."""
        entered = [Player(role, self.url, name, arguments) for name in names]
        self._players += entered
        for player in entered:
            assert player.hear() == "ready"
        for player in entered:
            player.tell("go")
        return entered

    def entries(self) -> list[Entry]:
        """Return the whole log."""
        return self.store.read_entries(SESSION)

    def later(self) -> holdfast.SessionStore:
        """Return the store as it will be when the leases have run out."""
        return holdfast.connect(self.url, sources=Sources(now_ms=later_ms))

    def waiting(self) -> int:
        """Return how many stand in line for the session's turn."""
        return self.store._engine.backend.waiting("default", SESSION)

    def texts(self) -> list[Any]:
        """Return the contents of the session's messages."""
        return [message["content"] for message in self.store.get_messages(SESSION)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for player in self._players:
            player.close()
        self.store.close()
