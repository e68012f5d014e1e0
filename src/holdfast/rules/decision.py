"""What a write comes to, and what the transaction tells whoever decides it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

from msgspec import Struct

from holdfast.model.commit import Commit, Purge
from holdfast.model.entry import LogRow
from holdfast.model.session import SessionRow
from holdfast.model.turn import Busy, Held, Opened, Signalled, Ticket
from holdfast.model.write import KeyRow

Answer: TypeAlias = Commit | Purge | Opened | Busy | Held | Signalled
"""What a write that was not refused says."""


class Log(Protocol):
    """What a decision may ask of the transaction that it is made in."""

    def create_session(self, tenant: str, session_id: str, now: int) -> SessionRow:
        """Add an empty session and return its row."""
        ...

    def next_rank(self, session: SessionRow, now: int) -> int:
        """Return the rank of a session that changes: see `rank_after`."""
        ...

    def messages_after(self, session: SessionRow, revision: int) -> Sequence[LogRow]:
        """Return the message entries above a revision, in order, the batch's own included."""
        ...

    def turn_rows(self, session: SessionRow, turn: str) -> Sequence[LogRow]:
        """Return the turn entries of one turn, in order, the batch's own included."""
        ...

    def entries_after(self, session: SessionRow, revision: int) -> Sequence[LogRow]:
        """Return all entries above a revision, in order, the batch's own included."""
        ...

    def tickets(self, session: SessionRow) -> Sequence[Ticket]:
        """Return the places in the line of those who wait for the session."""
        ...

    def resets_after(self, session: SessionRow, revision: int) -> Sequence[LogRow]:
        """Return the reset entries above a revision, in order, the batch's own included."""
        ...


class Decision(Struct):
    """What to store for a write: its rows, the session's new row, and the answer.

    Where the new row's floor is higher than the old one's, the messages and resets below it go.
    `ticket` is a place in the line to be kept; `served` is the id of one that is not needed any
    more, and with it go those that have lapsed. Deltas up to `forget` are not needed any more.
    `keys` are those that a restored log recorded elsewhere; one that is there already moves.
    """

    answer: Answer
    session: SessionRow
    rows: list[LogRow]
    key: KeyRow | None = None
    ticket: Ticket | None = None
    served: str | None = None
    forget: int | None = None
    keys: Mapping[str, KeyRow] = {}


def rank_after(session: SessionRow, last: int, now: int) -> int:
    """Return a session's rank in the order of change, where `last` is its tenant's highest.

    The one that changed last keeps its rank. Ranks rise even if the clock goes back.
    """
    return last if session.rank == last > 0 else max(now, last + 1)
