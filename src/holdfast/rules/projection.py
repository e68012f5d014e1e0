"""From stored entries to what readers see: histories, whole messages, entries, session infos."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, assert_never

import msgspec

from holdfast.errors import CorruptEntry
from holdfast.model.entry import (
    DeltaEntry,
    Entry,
    EntryKind,
    LogRow,
    MessageEntry,
    MetaEntry,
    ResetEntry,
    TurnEntry,
    UsageEntry,
)
from holdfast.model.message import Message
from holdfast.model.session import ListedSession, SessionInfo, SessionRow
from holdfast.model.usage import TurnStatus, Usage
from holdfast.rules import codec
from holdfast.rules.repair import repair


def provider_view(payloads: Sequence[bytes], *, repaired: bool) -> list[Message]:
    """Return the history that these payloads hold, as a provider takes it."""
    messages = codec.decode_provider(payloads)
    return repair(messages) if repaired else messages


def entry(session_id: str, row: LogRow) -> Entry:
    """Return the entry that a row holds; `CorruptEntry` if it is not what was written."""
    payload = codec.check_payload(session_id, row.revision, row.payload, row.checksum)
    at = moment(row.at)
    try:
        kind = EntryKind(row.kind)
        if kind is EntryKind.MESSAGE:
            messages = tuple(codec.decode_whole([payload]))
            return MessageEntry(row.revision, at, messages, row.turn)
        detail = codec.decode_object(payload)
        if kind is EntryKind.RESET:
            return ResetEntry(
                row.revision,
                at,
                detail["reason"],
                detail["base"],
                row.ordinal,
                detail["closed"],
                row.turn,
            )
        if kind is EntryKind.META:
            return MetaEntry(row.revision, at, detail, row.turn)
        return _of_turn(kind, row, at, detail)
    except (msgspec.DecodeError, ValueError, KeyError) as error:
        raise CorruptEntry(
            f"entry {row.revision} of session {session_id!r} cannot be decoded: {error}",
            session_id=session_id,
            revision=row.revision,
        ) from error


def _of_turn(
    kind: Literal[EntryKind.TURN, EntryKind.DELTA, EntryKind.USAGE],
    row: LogRow,
    at: datetime,
    detail: dict[str, Any],
) -> Entry:
    turn = row.turn or ""
    if kind is EntryKind.TURN:
        facts = {name: detail.get(name) for name in ("worker", "reason", "error")}
        status, approved = TurnStatus(detail["status"]), tuple(detail.get("approved", ()))
        return TurnEntry(row.revision, at, turn, row.attempt, status, **facts, approved=approved)
    if kind is EntryKind.DELTA:
        return DeltaEntry(
            row.revision, at, turn, row.attempt, detail["call"], detail["offset"], detail["text"]
        )
    if kind is EntryKind.USAGE:
        return UsageEntry(row.revision, at, turn, row.attempt, Usage(**detail))
    assert_never(kind)


def session_info(row: SessionRow | ListedSession) -> SessionInfo:
    """Return what callers see of a session's row; damaged metadata must not hide the session."""
    try:
        metadata = {} if row.meta == "{}" else codec.decode_object(row.meta)
        labels = {} if row.labels == "{}" else codec.decode_object(row.labels)
        status = row.turn_status or "idle"
    except msgspec.MsgspecError:
        metadata, labels, status = {}, {}, "damaged"
    return SessionInfo(  # by position, which is quicker: lists have many
        row.id,
        row.title,
        row.user_id,
        row.agent_name,
        moment(row.created),
        moment(row.updated),
        row.message_count,
        row.revision,
        status,
        metadata,
        labels,
    )


def moment(milliseconds: int) -> datetime:
    """Return the aware UTC time that many milliseconds after 1970."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
