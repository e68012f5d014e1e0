"""Kills the store's server in the middle of a storm, and starts it again."""

from __future__ import annotations

import time
from typing import Protocol

from holdfast.testing.torture.progress import Progress


class Killable(Protocol):
    """A server that can be killed as in a crash, and started again on what it left."""

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        ...

    def restart(self) -> None:
        """Start it again, where it was."""
        ...


class Crashes:
    """Kills the server when it has been up for `every_s` seconds; `count` says how often."""

    def __init__(self, server: Killable, every_s: float) -> None:
        self._server = server
        self._every_s = every_s
        self._next = 0.0
        self.count = 0

    def look(self, progress: Progress) -> None:
        """Kill the server if it is time; returns when it is back."""
        now = time.monotonic()
        if not progress.acknowledged:  # the storm has not really begun
            self._next = now + self._every_s
        if progress.checking or now < self._next:
            return
        self._server.kill()
        self._server.restart()
        self.count += 1
        self._next = time.monotonic() + self._every_s
