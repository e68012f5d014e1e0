"""How long calls wait for a server that does not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable

from holdfast.errors import HoldfastError

AWAY_S = 10.0
"""Calls wait so long for a server to come back; from then on they are refused, until it is back."""

PAUSE_S = 0.05


class Outage:
    """Knows since when a server has not answered anybody in this process."""

    def __init__(self, monotonic_s: Callable[[], float], patience_s: float) -> None:
        self._monotonic_s = monotonic_s
        self._patience_s = min(AWAY_S, patience_s)
        self._lock = threading.Lock()
        self._since: float | None = None

    def note(self, error: HoldfastError) -> None:
        """Note that the server did not answer; raise `error` if it has been away for too long."""
        now = self._monotonic_s()
        with self._lock:
            if self._since is None:
                self._since = now
            if now - self._since > self._patience_s:
                raise error

    def end(self) -> None:
        """Note that it answers."""
        self._since = None
