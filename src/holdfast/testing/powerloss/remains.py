"""What may be left of one file after a power loss.

Each sector holds one of the contents that it had since the last sync: the disk is free to write
sectors in any order, and never to go back behind a sync. So a state of the file is a limit for each
sector, up to which the pending changes have reached it, and a size. The ways to draw the limits
differ in what they make likely: all sectors the same, whole changes missing, each on its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TypeAlias

from holdfast.testing.powerloss.disk import File, Pending, put

SECTORS = (512, 4096)

Limit: TypeAlias = Callable[[int], int]
"""For a sector, how many of the pending changes may have reached it."""

_TORN = 0.1  # of the sectors at their limit, how many are torn; a few are enough


def remains(file: File, chance: random.Random) -> bytes:
    """Return a content that the file may have."""
    if not file.pending:
        return file.durable
    drawn = _Remains(file, file.pending, chance)
    way = chance.choice(_WAYS)
    return way(drawn)


class _Remains:
    """The ways to draw a state of one file."""

    def __init__(self, file: File, pending: list[Pending], chance: random.Random) -> None:
        self._durable = file.durable
        self._pending = pending
        self._chance = chance
        self._sector = chance.choice(SECTORS)

    def nothing(self) -> bytes:
        """No change has arrived."""
        return self._durable

    def everything(self) -> bytes:
        """Every change has arrived."""
        return self._drawn(lambda _: len(self._pending), len(self._pending))

    def first_few(self) -> bytes:
        """The changes arrived in order, and the one under way is torn."""
        count = self._chance.randrange(len(self._pending) + 1)
        size = min(len(self._pending), count + self._chance.randrange(2))
        return self._drawn(lambda _: count, size, torn=1.0)

    def one_missing(self) -> bytes:
        """All arrived but one."""
        lost = self._chance.randrange(len(self._pending))
        sectors = set(self._sectors(self._pending[lost]))
        count = len(self._pending)
        return self._drawn(lambda sector: lost if sector in sectors else count, self._some_size())

    def one_alone(self) -> bytes:
        """None arrived but one."""
        kept = self._chance.randrange(len(self._pending))
        sectors = set(self._sectors(self._pending[kept]))
        return self._drawn(lambda sector: kept + 1 if sector in sectors else 0, self._some_size())

    def some_missing(self) -> bytes:
        """Each change arrived or did not."""
        share = self._chance.random()
        limits: dict[int, int] = {}
        for number, change in enumerate(self._pending):
            if self._chance.random() < share:
                for sector in self._sectors(change):
                    limits.setdefault(sector, number)
        count = len(self._pending)
        return self._drawn(lambda sector: limits.get(sector, count), self._some_size())

    def each_sector(self) -> bytes:
        """Each sector stopped somewhere."""
        limits: dict[int, int] = {}
        count = len(self._pending)

        def limit(sector: int) -> int:
            if sector not in limits:
                limits[sector] = self._chance.choice((0, self._chance.randrange(count + 1), count))
            return limits[sector]

        return self._drawn(limit, self._some_size(), torn=_TORN)

    def _some_size(self) -> int:
        """Return how many changes the size has seen: mostly all of them."""
        count = len(self._pending)
        return count if self._chance.random() < 0.6 else self._chance.randrange(count + 1)

    def _drawn(self, limit: Limit, sized: int, *, torn: float = 0.0) -> bytes:
        size = self._pending[sized - 1].size if sized else len(self._durable)
        content = bytearray(self._durable)
        hole = max(0, size - len(content))
        content += self._chance.randbytes(hole) if self._chance.random() < 0.5 else bytes(hole)
        for number, change in enumerate(self._pending):
            if change.cuts:
                if number < sized:  # cutting is a matter of the size alone
                    put(content, change.offset, change.data)
                continue
            for start, end in self._pieces(change):
                reached = limit(start // self._sector)
                piece = change.data[start - change.offset : end - change.offset]
                if number < reached:
                    put(content, start, piece)
                elif number == reached and self._chance.random() < torn:
                    self._tear(content, start, piece)
        del content[size:]
        return bytes(content)

    def _tear(self, content: bytearray, start: int, piece: bytes) -> None:
        """Let a part of a sector's new bytes arrive; no byte outside of them changes."""
        cut = self._chance.randrange(len(piece) + 1)
        match self._chance.randrange(3):
            case 0:
                put(content, start, piece[:cut])
            case 1:
                put(content, start + cut, piece[cut:])
            case _:
                put(content, start + cut, self._chance.randbytes(len(piece) - cut))

    def _sectors(self, change: Pending) -> range:
        last = change.offset + max(1, len(change.data)) - 1
        return range(change.offset // self._sector, last // self._sector + 1)

    def _pieces(self, change: Pending) -> Iterator[tuple[int, int]]:
        """Yield a change's bounds in each sector."""
        end = change.offset + len(change.data)
        for sector in self._sectors(change):
            yield (
                max(change.offset, sector * self._sector),
                min(end, (sector + 1) * self._sector),
            )


_WAYS: tuple[Callable[[_Remains], bytes], ...] = (
    _Remains.nothing,
    _Remains.everything,
    _Remains.first_few,
    _Remains.first_few,
    _Remains.one_missing,
    _Remains.one_alone,
    _Remains.some_missing,
    _Remains.each_sector,
    _Remains.each_sector,
)
