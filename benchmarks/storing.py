"""What conversations take on the disk."""

from __future__ import annotations

from collections.abc import Generator
from itertools import islice
from pathlib import Path

from benchmarks.conversations import encoded, turns, write_turns
from benchmarks.figures import Figure, Ground, Measurement, Round, Wanted

import holdfast

MESSAGES = 10_000
SESSIONS = 100

ONE = "bytes on disk per byte of messages, one session"
MANY = f"bytes on disk per byte of messages, {SESSIONS} sessions by turns"


def sizes(ground: Ground) -> Generator[Round, None, None]:
    """Measure files that were closed, so that the write-ahead log is folded into them."""
    count = ground.count(MESSAGES)
    while True:
        with ground.folder() as folder:
            one = write_turns(folder / "one.db", "session", count)
            many = _write_by_turns(folder / "many.db", count)
            yield Round({ONE: _size(folder, "one") / one, MANY: _size(folder, "many") / many})


def _write_by_turns(path: Path, count: int) -> int:
    size = 0
    with holdfast.connect(str(path), durability="relaxed") as store:
        for number, turn in enumerate(islice(turns(), count // 2)):
            store.add_messages(f"session-{number % SESSIONS}", turn)
            size += len(encoded(turn))
    return size


def _size(folder: Path, name: str) -> int:
    return sum(file.stat().st_size for file in folder.glob(f"{name}.db*"))


MEASUREMENTS = (
    Measurement(
        "size",
        (
            Figure(ONE, "bytes", Wanted.AT_MOST, target=1.5),
            Figure(MANY, "bytes", Wanted.AT_MOST),
        ),
        sizes,
    ),
)
