"""A session of one store and its copy in another: what they have in common, and what is missing.

A copied session keeps a copy mark, in the place of an idempotency key: of which store it is a copy,
of which session there, and up to which revision. Revisions here are relative to a session's start,
so that those of a session and of its copy are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from holdfast.errors import Conflict
from holdfast.model.entry import EntryKind, LogRow
from holdfast.model.session import SessionRow
from holdfast.model.write import KeyRow, Restored, WriteKind
from holdfast.rules.restoring import callers_keys, shifted


def mark_name(identity: str) -> str:
    """Return the name under which a copy keeps its mark of a store."""
    return f"copied from {identity}"


def extent(session: SessionRow) -> int:
    """Return how far a session has got."""
    return session.revision - session.start


def is_of(mark: KeyRow | None, session: SessionRow) -> bool:
    """Say whether a copy mark is of this very session."""
    return mark is not None and mark.kind == WriteKind.COPY and mark.kept == session.pk


def common(
    source: SessionRow, target: SessionRow, mark: KeyRow | None, returned: KeyRow | None
) -> int:
    """Return the revision up to which two sessions are the same, and where the target ends.

    `mark` is the target's of the source, `returned` the source's of the target, if that one was
    copied from here before. `Conflict` if it is no copy, or somebody wrote to it.
    """
    known = []
    if mark is not None and is_of(mark, source):
        known.append(mark.revision - target.start)
    if returned is not None and is_of(returned, target):
        known.append(returned.revision - source.start)
    if not known:
        raise Conflict(
            "there is another session with this id"
            if mark is None
            else "it is a copy of a session that was deleted since, whose id another one has now",
            code="session_exists",
        )
    if extent(target) != max(known):
        raise Conflict("it was written to since it was copied", code="session_changed")
    if extent(source) < max(known):
        raise Conflict(
            "the source has less of it than was copied: it was restored from a backup",
            code="session_changed",
        )
    return max(known)


def is_whole(source: SessionRow, target: SessionRow) -> bool:
    """Say whether a copy has all that the source has, and nothing that was purged there."""
    purged = target.floor - target.start >= source.floor - source.start
    return extent(source) == extent(target) and purged


def taken(
    identity: str,
    session: SessionRow,
    rows: Sequence[LogRow],
    keys: Mapping[str, KeyRow],
    after: int | None,
) -> Restored:
    """Return what a copy lacks of a session of the store `identity`, and the copy's new mark.

    `after` is where the copy ends; `None` if there is none yet.
    """
    by = -session.start
    known = session.start + (after or 0)
    callers = callers_keys(session, keys, -1 if after is None else after)
    mark = KeyRow(WriteKind.COPY.value, extent(session), session.pk)
    return Restored(
        session.created,
        extent(session),
        session.floor + by,
        tuple(shifted(row, by) for row in rows if row.revision > known),
        {**callers, mark_name(identity): mark},
        after or 0,
    )


def difference(
    source: SessionRow,
    source_rows: Sequence[LogRow],
    target: SessionRow,
    target_rows: Sequence[LogRow],
) -> str | None:
    """Return how a copy differs from the source as far as it reaches; `None` if it does not.

    What was purged from either is not compared, nor is streamed text whose turn is closed: either
    store may have dropped it.
    """
    until = extent(target)
    same_extent = extent(source) == until
    floor = max(source.floor - source.start, target.floor - target.start)
    open_turn = source.open_turn if same_extent else None
    ours = _lasting(source, source_rows, floor, until, open_turn)
    theirs = _lasting(target, target_rows, floor, until, open_turn)
    for one, other in zip_longest(ours, theirs):
        if one != other:
            at = (one or other).revision
            return f"its entry {at} from the start is not that of the source"
    if same_extent and _facts(source) != _facts(target):
        return "what is known about it is not what the source knows"
    return None


def _lasting(
    session: SessionRow, rows: Sequence[LogRow], floor: int, until: int, open_turn: str | None
) -> Iterator[LogRow]:
    for row in rows:
        at = row.revision - session.start
        if at > until:
            return
        if row.kind == EntryKind.DELTA and row.turn != open_turn:
            continue
        if row.kind in (EntryKind.MESSAGE, EntryKind.RESET) and at < floor:
            continue
        yield shifted(row, -session.start)


def _facts(session: SessionRow) -> tuple[object, ...]:
    """Return what a session's row says of it; labels and the last change follow from the log."""
    return (
        *session.details[:4],
        session.created,
        session.message_count,
        session.history_revision - session.start,
        session.base - session.start,
        session.open_turn,
        session.open_attempt,
        session.turn_status,
    )
