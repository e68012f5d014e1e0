"""Purging: whole generations below the current one go, and a floor says where the rest begins.

The floor is the reset of the oldest generation that is left. Below it no message and no reset is
left; what else the log records stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from holdfast.errors import Conflict, SessionNotFound
from holdfast.model.commit import Purge
from holdfast.model.entry import LogRow
from holdfast.model.session import SessionRow
from holdfast.model.write import Write
from holdfast.rules import codec
from holdfast.rules.decision import Decision, Log


def floor_after(session: SessionRow, resets: Sequence[LogRow], ended_by: int | None) -> int:
    """Return the floor that leaves every generation that ended after `ended_by`.

    `resets` are those above the session's floor, in order: each ended the generation before it.
    """
    floor = session.floor
    for reset in resets:
        if ended_by is not None and reset.at > ended_by:
            break
        floor = reset.revision
    return floor


def decide_purge(write: Write, floor: int, session: SessionRow, log: Log) -> Decision:
    """Return what raising a session's floor removes, or raise why it may not be raised."""
    if not session.start <= floor <= session.revision:
        raise SessionNotFound(
            f"revision {floor} is not one of session {write.session_id!r}: "
            "the session that was to be purged is gone"
        )
    if floor > session.base:
        raise Conflict(
            f"the current history of session {write.session_id!r} begins at revision "
            f"{session.base}, below the floor {floor}",
            expected=floor,
            actual=session.base,
        )
    floor = min(floor, _begun(session, log))
    ended = [row for row in log.resets_after(session, session.floor) if row.revision <= floor]
    if not ended:
        return Decision(Purge(), session, [])
    purged = Purge(1, len(ended), sum(map(closed_messages, ended)), "done")
    return Decision(purged, session._replace(floor=ended[-1].revision), [])


def _begun(session: SessionRow, log: Log) -> int:
    """Return where the session's open turn began: what it has said stays, since it goes on."""
    if session.open_turn is None:
        return session.revision
    return log.turn_rows(session, session.open_turn)[0].revision


def closed_messages(reset: LogRow) -> int:
    """Return how many messages the generation before a reset had."""
    try:
        return int(codec.decode_object(reset.payload)["closed"])
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError):
        return 0  # damaged: purging is one way to be rid of it
