"""Which writes a server can do by itself: those that only append, with nothing to decide.

The function `commit_v1` does a whole batch of them in one round trip. It knows the few conditions
that an append can have, and where one does not hold it does nothing: then the rules decide, as they
decide about every other write (`transaction`). So what is refused, and why, is said in one place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from holdfast.model.commit import Commit
from holdfast.model.entry import EntryKind, NewEntry
from holdfast.model.turn import Held, Holding
from holdfast.model.usage import TurnStatus
from holdfast.model.write import Creation, Write, WriteKind
from holdfast.rules.decision import Answer
from holdfast.store.postgres.queries import booleans, integers, texts
from holdfast.store.postgres.sharding import shard_of

_APPENDING = (WriteKind.ADD, WriteKind.SAVE, WriteKind.TURN)


class Stamped(Struct, frozen=True):
    """A write with an id of its own, by which it is known when it has to be sent again."""

    write: Write
    id: str


def is_plain(write: Write) -> bool:
    """Say whether a write can be left to the server, should its session be as it expects."""
    if write.kind not in _APPENDING or write.reset is not None or write.restored is not None:
        return False
    if write.turn is not None and not _only_writes(write.turn):
        return False
    return write.creation is Creation.ALLOWED and all(
        new.kind is not EntryKind.META for new in write.entries
    )


def _only_writes(action: object) -> bool:
    return (
        isinstance(action, Holding)
        and action.heard is None
        and action.status is not TurnStatus.WAITING
    )


def parameters(tenant: str, now: int | None, batch: Sequence[Stamped]) -> tuple[object, ...]:
    """Return what `commit_v1` takes: arrays of one value a write, then of one value an entry."""
    writes = [stamped.write for stamped in batch]
    held = [w.turn if isinstance(w.turn, Holding) else None for w in writes]
    counts = [_counts(write) for write in writes]
    entries = [
        (number, place, before, new)
        for number, write in enumerate(writes, 1)
        for place, before, new in _placed(write)
    ]
    return (
        tenant,
        now,
        integers([shard_of(tenant, w.session_id) for w in writes]),
        texts([w.session_id for w in writes]),
        texts([w.kind for w in writes]),
        texts([w.key for w in writes]),
        texts([stamped.id for stamped in batch]),
        booleans([_may_create(w) for w in writes]),
        integers([w.expected_revision for w in writes]),
        integers([w.base_revision for w in writes]),
        integers([h.token.session if h else None for h in held]),
        integers([h.token.fence if h else None for h in held]),
        texts([h.turn if h else None for h in held]),
        booleans([h is not None and h.status is not TurnStatus.RUNNING for h in held]),
        integers([count for count, _, _ in counts]),
        integers([messages for _, messages, _ in counts]),
        integers([last for _, _, last in counts]),
        integers([number for number, _, _, _ in entries]),
        integers([place for _, place, _, _ in entries]),
        texts([new.kind for _, _, _, new in entries]),
        integers([before for _, _, before, _ in entries]),
        texts([new.turn for _, _, _, new in entries]),
        integers([new.attempt for _, _, _, new in entries]),
        texts([new.payload.decode() for _, _, _, new in entries]),
        integers([new.checksum for _, _, _, new in entries]),
    )


def _counts(write: Write) -> tuple[int, int, int]:
    """Return how many entries and messages a write has, and the last place with messages, or 0."""
    messages = last = 0
    for place, new in enumerate(write.entries, 1):
        if new.kind is EntryKind.MESSAGE:
            messages += new.count
            last = place
    return len(write.entries), messages, last


def _placed(write: Write) -> Iterator[tuple[int, int, NewEntry]]:
    before = 0
    for place, new in enumerate(write.entries, 1):
        yield place, before, new
        before += new.count


def _may_create(write: Write) -> bool:
    return (
        write.turn is None
        and not (write.expected_revision or 0) > 0
        and not (write.base_revision or 0) > 0
    )


def answer(write: Write, revision: int, history: int, *, interrupted: bool) -> Answer:
    """Return what a write that the server has done says."""
    if write.turn is not None:
        return Held(Commit(revision, history), interrupted=interrupted)
    return Commit(revision if write.entries else history, history)
