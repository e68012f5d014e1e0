"""A log that is written as it stood elsewhere: an import, or a copy into another store.

It comes with revisions relative to the session's start, and `shifted` is the one place that knows
which values of an entry are revisions.
"""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.model.commit import Commit
from holdfast.model.entry import EntryKind, LogRow
from holdfast.model.session import SessionRow
from holdfast.model.usage import TurnStatus
from holdfast.model.write import Restored
from holdfast.rules import codec
from holdfast.rules.decision import Decision, Log
from holdfast.rules.details import NO_DETAILS, changed_details


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
    """Return the row of a new session once these rows are its log.

    A turn that is open in it has no lease: whoever ran it does not run it here.
    """
    base = history_revision = session.start
    message_count = 0
    updated = restored.created
    details = NO_DETAILS
    open_turn: LogRow | None = None
    status = TurnStatus.COMPLETED
    for row in rows:
        updated = max(updated, row.at)
        if row.kind == EntryKind.MESSAGE:
            history_revision = row.revision
            message_count = row.ordinal + row.payload.count(b"\n") + 1
        elif row.kind == EntryKind.RESET:
            base = history_revision = row.revision
            message_count = 0
        elif row.kind == EntryKind.META:
            details = changed_details(details, codec.decode_object(row.payload))
        elif row.kind == EntryKind.TURN:
            status = TurnStatus(codec.decode_object(row.payload)["status"])
            open_turn = row if status in (TurnStatus.RUNNING, TurnStatus.WAITING) else None
    title, user_id, agent_name, meta, labels = details
    return session._replace(
        revision=session.start + restored.revision,
        history_revision=history_revision,
        base=base,
        floor=session.start + restored.floor,
        message_count=message_count,
        created=restored.created,
        updated=updated,
        title=title,
        user_id=user_id,
        agent_name=agent_name,
        meta=meta,
        labels=labels,
        open_turn=open_turn and open_turn.turn,
        open_attempt=open_turn.attempt if open_turn else 0,
        turn_status=status.value if open_turn else None,
    )


def decide_restore(restored: Restored, session: SessionRow, now: int, log: Log) -> Decision:
    """Return what makes a new session of a restored log."""
    rows = [shifted(row, session.start) for row in restored.rows]
    row = replayed(session, restored, rows)._replace(rank=log.next_rank(session, now))
    return Decision(Commit(row.revision, row.history_revision), row, rows)
