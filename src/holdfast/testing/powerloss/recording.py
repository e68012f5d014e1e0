"""A run that was recorded: what it did to the disk, and what was acknowledged when."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from holdfast.model.commit import Commit
from holdfast.model.write import Write
from holdfast.testing.powerloss.connection import Setting
from holdfast.testing.powerloss.disk import Operation
from holdfast.testing.powerloss.picture import Picture, Said

DATABASE = "log.db"
INDEX = f"{DATABASE}-shm"
"""The write-ahead log's index in shared memory, which SQLite makes again after a crash."""


@dataclass(frozen=True, slots=True)
class Keyed:
    """A write with a key, and its answer."""

    write: Write
    commit: Commit


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One line of the acknowledgement log: a call, and what it made.

    It was called after `begun` operations and had answered after `done`; `writes` are what it came
    to at the backend. From then on the store holds `picture`, callers read what was `said`, every
    key in `keyed` is known, and no byte is left of what was `erased`.
    """

    what: str
    begun: int = 0
    done: int = 0
    writes: tuple[Write, ...] = ()
    picture: Picture = field(default_factory=Picture)
    said: Said = field(default_factory=dict)
    keyed: tuple[Keyed, ...] = ()
    erased: tuple[bytes, ...] = ()
    identity: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A run on a disk that held `start`, when `moments[0]` was all that had been acknowledged."""

    seed: int
    setting: Setting
    start: dict[str, bytes]
    operations: tuple[Operation, ...]
    moments: tuple[Moment, ...]

    def phase(self, point: int) -> tuple[int, bool]:
        """Return the last moment acknowledged at a point, and whether the next is in flight."""
        last = bisect_right(self.moments, point, key=lambda moment: moment.done) - 1
        following = last + 1
        under_way = following < len(self.moments) and self.moments[following].begun < point
        return last, under_way

    def permitted(self, point: int) -> tuple[Moment, Moment | None]:
        """Return the moment that must be found after a crash at a point, and the one that may."""
        last, under_way = self.phase(point)
        return self.moments[last], self.moments[last + 1] if under_way else None
