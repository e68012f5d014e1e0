"""The processes that read: no history may be empty or have less in it than it had before.

In a storm nobody takes a message away, so a reader that once saw one must see it from then on.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from holdfast.testing.torture.plan import KINDS, Plan, identity
from holdfast.testing.torture.worker import Whistle, connect

SUFFIX = ".reads"


@dataclass(frozen=True, slots=True)
class Reads:
    """How many histories were read; how many were empty, or lacked what had been seen before."""

    reads: int = 0
    empty: int = 0
    partial: int = 0

    def __add__(self, other: Reads) -> Reads:
        return Reads(
            self.reads + other.reads, self.empty + other.empty, self.partial + other.partial
        )


def read(plan: Plan, name: str) -> None:
    """Read the sessions of the moment in turn until the storm is over."""
    whistle = Whistle(plan)
    glance = Glance()
    file = os.open(Path(plan.folder, name + SUFFIX), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    with connect(plan) as store:
        while not whistle.blown():
            for kind in KINDS:
                session = plan.session(kind)
                history = store.get_chat_history(session)
                glance.take(session, {identity(message["content"]) for message in history})
            _say(file, glance.counted)
            time.sleep(plan.pause_s)  # or the readers leave the writers no processor
    os.close(file)


def read_reads(path: Path) -> Reads:
    """Return what a reader has counted so far."""
    lines = path.read_text("utf-8").splitlines()
    return Reads(*map(int, lines[-1].split(" "))) if lines else Reads()


class Glance:
    """What one reader has seen of each session, and what it counted."""

    def __init__(self) -> None:
        self.counted = Reads()
        self._seen: dict[str, set[str]] = {}

    def take(self, session: str, found: set[str]) -> None:
        """Compare one history with what was seen of it before."""
        seen = self._seen.get(session)
        if seen is None and not found:
            return  # nobody has begun this session yet
        missing = bool(seen and not seen <= found)
        self.counted += Reads(1, int(not found), int(missing and bool(found)))
        self._seen[session] = found | (seen or set())


def _say(file: int, reads: Reads) -> None:
    os.write(file, f"{reads.reads} {reads.empty} {reads.partial}\n".encode())
