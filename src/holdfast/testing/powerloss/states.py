"""Chooses where the power fails in a recording, and what the disk holds then."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from holdfast.testing.powerloss.disk import Disk, Sync, SyncFolder
from holdfast.testing.powerloss.recording import INDEX, Recording
from holdfast.testing.powerloss.remains import remains

_STALE_INDEXES = (b"", bytes(32_768), random.Random(0).randbytes(32_768))
"""What the index may hold: it is never synced, and the system may have written any of it."""


@dataclass(frozen=True, slots=True)
class CrashState:
    """The power failed after so many operations, and this is what the folder held."""

    point: int
    files: dict[str, bytes]


def boundaries(recording: Recording) -> list[int]:
    """Return the points right before and after each sync, and right after each answer."""
    found = {0, len(recording.operations), *(moment.done for moment in recording.moments)}
    for number, operation in enumerate(recording.operations):
        if isinstance(operation, Sync | SyncFolder):
            found |= {number, number + 1}
    return sorted(found)


def crash_states(recording: Recording, chance: random.Random, count: int) -> Iterator[CrashState]:
    """Yield so many states of a recording, no two of them the same.

    Two states are the same if the folder holds the same and the same was acknowledged. There may be
    fewer than `count` if the recording is very short.
    """
    seen: set[int] = set()
    points = first_points(recording, chance, count)
    barren = 0
    while len(seen) < count and barren < 10:
        barren += 1
        for state in _round(recording, points, chance):
            mark = hash((recording.phase(state.point), frozenset(state.files.items())))
            if mark not in seen:
                seen.add(mark)
                barren = 0
                yield state
        points = _anywhere(recording, chance, count - len(seen))


def first_points(recording: Recording, chance: random.Random, count: int) -> list[int]:
    """Return where the power fails first: at each boundary, or so many of them, and anywhere."""
    points = boundaries(recording)
    points = chance.sample(points, min(count, len(points)))
    return sorted(points + _anywhere(recording, chance, count - len(points)))


def _anywhere(recording: Recording, chance: random.Random, count: int) -> list[int]:
    return sorted(chance.choices(range(len(recording.operations) + 1), k=count))


def _round(
    recording: Recording, points: Sequence[int], chance: random.Random
) -> Iterator[CrashState]:
    """Yield one state for each point; the points rise."""
    disk = Disk(recording.start)
    done = 0
    for point in points:
        for operation in recording.operations[done:point]:
            disk.apply(operation)
        done = point
        files = crash(disk, chance)
        if chance.random() < 0.25:
            files[INDEX] = chance.choice(_STALE_INDEXES)
        yield CrashState(point, files)


def crash(disk: Disk, chance: random.Random) -> dict[str, bytes]:
    """Return what the folder may hold if the power fails now."""
    found: dict[str, bytes] = {}
    for name, number in _names(disk, chance).items():
        if number is not None:
            found[name] = remains(disk.files[number], chance)
    return found


def _names(disk: Disk, chance: random.Random) -> dict[str, int | None]:
    """Return what each name leads to: what it durably did, or anything since."""
    names: dict[str, int | None] = dict(disk.names)
    way = chance.choice(("durable", "latest", "any", "any"))
    for name, leads_to in disk.pending_names.items():
        if way == "latest":
            names[name] = leads_to[-1]
        elif way == "any":
            names[name] = chance.choice((disk.names.get(name), *leads_to))
    return names
