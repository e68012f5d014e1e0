"""A log that is written as it stood elsewhere: an import, or a copy into another store.

It comes with revisions relative to the session's start, and `shifted` is the one place that knows
which values of an entry are revisions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import structs

from holdfast.errors import Conflict
from holdfast.model.commit import Commit
from holdfast.model.entry import EntryKind, LogRow
from holdfast.model.session import SessionRow
from holdfast.model.usage import TurnStatus
from holdfast.model.write import KeyRow, Restored, WriteKind
from holdfast.rules import codec
from holdfast.rules.decision import Decision, Log
from holdfast.rules.details import changed_details


def shifted(row: LogRow, by: int) -> LogRow:
    """Return a row with every revision of its session moved, those in its payload included."""
    ordinal, payload, checksum = row.ordinal, row.payload, row.checksum
    if row.kind == EntryKind.RESET:
        ordinal += by
        detail = codec.decode_object(payload)
        if detail["base"] is not None:
            detail["base"] += by
            new = codec.new_entry(EntryKind.RESET, [codec.encode(detail)])
            payload, checksum = new.payload, new.checksum
    elif row.kind == EntryKind.TURN and b'"prompt"' in payload:
        facts = codec.decode_object(payload)
        if facts.get("prompt") is not None:
            facts["prompt"] += by
            new = codec.new_entry(EntryKind.TURN, [codec.encode(facts)])
            payload, checksum = new.payload, new.checksum
    elif row.kind == EntryKind.META and b'"labels"' in payload:
        changes = codec.decode_object(payload)
        if "labels" in changes:
            changes["labels"] = {name: at + by for name, at in changes["labels"].items()}
            new = codec.new_entry(EntryKind.META, [codec.encode(changes)])
            payload, checksum = new.payload, new.checksum
    return LogRow(
        row.revision + by, row.kind, ordinal, row.turn, row.attempt, row.at, payload, checksum
    )


def replayed(session: SessionRow, restored: Restored, rows: Iterable[LogRow]) -> SessionRow:
    """Return a session's row once these rows follow in its log.

    A turn that is open in it has no lease: whoever ran it does not run it here.
    """
    base, history_revision = session.base, session.history_revision
    message_count, updated, details = session.message_count, session.updated, session.details
    turn = (session.open_turn, session.open_attempt, session.turn_status)
    for row in rows:
        updated = max(updated, row.at)
        if row.kind == EntryKind.MESSAGE:
            history_revision = row.revision
            message_count = row.ordinal + row.message_count
        elif row.kind == EntryKind.RESET:
            base = history_revision = row.revision
            message_count = 0
        elif row.kind == EntryKind.META:
            details = changed_details(details, codec.decode_object(row.payload))
        elif row.kind == EntryKind.TURN:
            status = TurnStatus(codec.decode_object(row.payload)["status"])
            is_open = status in (TurnStatus.RUNNING, TurnStatus.WAITING)
            turn = (row.turn, row.attempt, status.value) if is_open else (None, 0, None)
    title, user_id, agent_name, meta, labels = details
    open_turn, open_attempt, turn_status = turn
    return session._replace(
        revision=session.start + restored.revision,
        history_revision=history_revision,
        base=base,
        floor=max(session.floor, session.start + restored.floor),
        message_count=message_count,
        updated=updated,
        title=title,
        user_id=user_id,
        agent_name=agent_name,
        meta=meta,
        labels=labels,
        open_turn=open_turn,
        open_attempt=open_attempt,
        turn_status=turn_status,
    )


def decide_restore(restored: Restored, session: SessionRow, now: int, log: Log) -> Decision:
    """Return what makes a new session of a restored log."""
    born = session._replace(created=restored.created, updated=restored.created)
    return _following(restored, born, now, log)


def decide_continuation(restored: Restored, session: SessionRow, now: int, log: Log) -> Decision:
    """Return what brings a copied session up to date, if nobody wrote to it in between."""
    stands = session.revision - session.start
    if stands != restored.after:
        raise Conflict(
            f"session {session.id!r} was written to since it was copied",
            expected=session.start + restored.after,
            actual=session.revision,
            code="session_changed",
        )
    return _following(restored, session, now, log)


def _following(restored: Restored, session: SessionRow, now: int, log: Log) -> Decision:
    rows = [shifted(row, session.start) for row in restored.rows]
    row = replayed(session, restored, rows)._replace(rank=log.next_rank(session, now))
    keys = {name: moved_key(key, session.start) for name, key in restored.keys.items()}
    return Decision(Commit(row.revision, row.history_revision), row, rows, keys=keys)


def callers_keys(
    session: SessionRow, keys: Mapping[str, KeyRow], after: int = -1
) -> dict[str, KeyRow]:
    """Return the keys that callers gave for what stands in a log, with relative revisions.

    Only those above `after`, which is relative too. One whose write came after the log was read
    goes with that write.
    """
    return {
        name: moved_key(key, -session.start)
        for name, key in sorted(keys.items())
        if key.kind != WriteKind.COPY and session.start + after < key.revision <= session.revision
    }


def moved_key(key: KeyRow, by: int) -> KeyRow:
    """Return what a key recorded, with its revision moved."""
    return structs.replace(key, revision=key.revision + by)
