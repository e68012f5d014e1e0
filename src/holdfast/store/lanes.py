"""Lanes: how many batches of one store may be in flight, and what each of them may take.

Most backends have one. Where there are more, a batch takes no write of a session that is in another
batch: it stays in its place in the queue, and so do that session's later ones. So a session's
writes are committed in their order, however many lanes there are.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Sequence
from typing import TypeAlias

from msgspec import Struct

from holdfast.model.write import Write
from holdfast.store.pending import AnyPending, State

COMMITTER = "the committer"

MANY = 16
"""So many are worth two batches."""

Place: TypeAlias = tuple[str, str]
"""A tenant and a session. What concerns a whole tenant names no session, and has one as well."""


class Hold(Struct, frozen=True):
    """Who holds a lane: a caller's ticket, or its committer; on which thread; and what for.

    `places` are those of the writes that are in flight.
    """

    holder: object
    thread: int = 0
    places: Collection[Place] = ()


FREE = Hold(None)


class Lane:
    """The right to commit: nobody's, a caller's, or that of the lane's own committer thread.

    One assignment changes all of it, so that Ctrl-C finds it before or after.
    """

    __slots__ = ("called", "committer", "hold", "name")

    def __init__(self, lock: threading.RLock, number: int) -> None:
        self.name = f"holdfast-committer-{number}" if number > 1 else "holdfast-committer"
        self.hold = FREE
        self.committer: threading.Thread | None = None
        self.called = threading.Condition(lock)

    @property
    def holder(self) -> object:
        """Who holds it, or nobody."""
        return self.hold.holder

    @property
    def places(self) -> Collection[Place]:
        """Whose writes are in flight on it."""
        return self.hold.places


def place_of(write: Write) -> Place:
    """Return whose order a write has to keep."""
    return write.tenant, write.session_id


def is_in_flight(place: Place, lanes: Sequence[Lane]) -> bool:
    """Say whether some batch has a write of this place."""
    return any(place in lane.places for lane in lanes)


def enough(lanes: Sequence[Lane]) -> int:
    """Return how many writes are worth a batch: beside another one, few had better wait for more.

    If nothing is in flight, each is: whoever waited then would be waited for by nobody.
    """
    most = max(len(lane.places) for lane in lanes)
    return max(MANY // 2, most // 2) if most else 1


def share(waiting: int, lanes: Sequence[Lane]) -> int:
    """Return how many of those that wait one batch had better take, if its lane is held already.

    Many are shared with the lanes that are free: while the server works on some, the callers of the
    others go on.
    """
    free = sum(lane.hold is FREE for lane in lanes)
    return waiting if waiting < MANY else -(-waiting // (1 + free))


def take_batch(queue: deque[AnyPending], most: int, lanes: Sequence[Lane]) -> list[AnyPending]:
    """Take what may go now out of the queue, in order; what was withdrawn is dropped."""
    batch: list[AnyPending] = []
    left: list[AnyPending] = []
    busy = [lane for lane in lanes if lane.places]
    while queue and len(batch) < most:
        pending = queue.popleft()
        if pending.state is not State.QUEUED:
            continue
        if busy and is_in_flight(place_of(pending.write), busy):
            left.append(pending)
        else:
            pending.state = State.IN_FLIGHT
            batch.append(pending)
    queue.extendleft(reversed(left))
    return batch


def may_take(queue: deque[AnyPending], lanes: Sequence[Lane]) -> bool:
    """Say whether a batch would take something."""
    return len(queue) >= enough(lanes) and any(
        pending.state is State.QUEUED and not is_in_flight(place_of(pending.write), lanes)
        for pending in queue
    )
