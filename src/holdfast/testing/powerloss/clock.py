"""Time and ids that a seed decides."""

from __future__ import annotations

import random

from holdfast.store.sources import Sources

_BEGINNING_MS = 1_750_000_000_000


class Clock:
    """A clock that stands still during a call, save for one millisecond each time it is read."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)
        self._now_ms = _BEGINNING_MS
        self._monotonic_s = 0.0

    def sources(self) -> Sources:
        """Return the clock as a store takes it."""
        return Sources(self._read_ms, lambda: self._monotonic_s, self._new_id)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._monotonic_s += seconds
        self._now_ms += int(seconds * 1000)

    def _read_ms(self) -> int:
        self._now_ms += 1
        return self._now_ms

    def _new_id(self) -> str:
        return f"{self._random.getrandbits(64):016x}"
