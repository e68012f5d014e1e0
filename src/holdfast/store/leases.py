"""Whether the worker that runs a turn still holds its lease, for whoever shows it; it only reads.

The log says that a turn runs until somebody closes it, also if its worker has died meanwhile.
"""

from __future__ import annotations

from msgspec import Struct

from holdfast.model.session import SessionRow
from holdfast.model.usage import TurnStatus
from holdfast.rules.turns import is_alive
from holdfast.store.sync_store import SessionStore


class Lease(Struct, frozen=True, kw_only=True):
    """The lease of a turn that runs, or of one that nobody has closed since its worker died.

    `left_s` is for how many seconds it still holds if it is not renewed: so long a session stays
    taken whose worker has died. It is 0 or less once the lease is over.
    """

    turn: str
    worker: str
    left_s: float

    @property
    def holds(self) -> bool:
        """Whether the worker counts as alive."""
        return self.left_s > 0


def lease_of(store: SessionStore, session_id: str) -> Lease | None:
    """Return the lease of the session's turn; `None` if no turn is under way, or one waits."""
    row = store._reading.live_row(session_id)
    if row is None or row.turn_status != TurnStatus.RUNNING:
        return None
    return _lease(row, store._reading.clock_ms())


def leases(store: SessionStore) -> dict[str, Lease]:
    """Return the leases of all turns that are under way, by their sessions."""
    rows = [row for row in store._reading.open_turns() if row.turn_status == TurnStatus.RUNNING]
    now = store._reading.clock_ms() if rows else 0
    return {row.id: _lease(row, now) for row in rows}


def _lease(row: SessionRow, now: int) -> Lease:
    left_s = (row.lease_until - now) / 1000
    if not row.lease_until or (left_s > 0 and not is_alive(row, now)):
        left_s = 0.0  # a copy's, which has none, or the clock went back: nobody knows since when
    return Lease(
        turn=row.open_turn or "", worker=row.lease_owner or "another worker", left_s=left_s
    )
