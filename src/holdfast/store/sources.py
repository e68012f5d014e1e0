"""Where time and ids come from, so that tests decide them."""

from __future__ import annotations

import functools
import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime

from msgspec import Struct


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


# A generator of our own: the caller may seed the module's. Not os.urandom for each id, which gives
# up the interpreter's lock each time. A forked child must not repeat its parent's ids.
_random = random.Random()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)


def _random_id() -> str:
    return f"{_random.getrandbits(64):016x}"


class Sources(Struct, frozen=True):
    """The clocks and the randomness of one store.

    `now_ms` is wall time in milliseconds since 1970, `monotonic_s` counts seconds for deadlines,
    `new_id` gives 16 hexadecimal digits that do not repeat.
    """

    now_ms: Callable[[], int] = _wall_ms
    monotonic_s: Callable[[], float] = time.monotonic
    new_id: Callable[[], str] = _random_id

    @property
    def real_time(self) -> bool:
        """Whether `now_ms` is this machine's clock: a server then goes by its own."""
        return self.now_ms is _wall_ms

    def message_id(self) -> str:
        """Return an id for a message that came without one."""
        return f"msg_{self.new_id()}"

    def now_text(self) -> str:
        """Return the time as ISO 8601 in UTC, to the millisecond."""
        seconds, ms = divmod(self.now_ms(), 1000)
        return f"{_second(seconds)}.{ms:03}Z"


@functools.lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
