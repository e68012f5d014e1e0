"""What a store holds, whole: to be compared byte for byte with what it held before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from holdfast.model.entry import LogRow
from holdfast.model.session import SessionRow
from holdfast.store.backend import Backend
from holdfast.store.sync_store import SessionStore

TENANT = "default"
TIMEOUT_S = 5.0
_MAX_SESSIONS = 1_000

Said: TypeAlias = dict[str, list[str]]
"""For each session, the texts of its history, as callers read them."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Every session's row and its log."""

    rows: dict[str, SessionRow] = field(default_factory=dict)
    logs: dict[str, list[LogRow]] = field(default_factory=dict)


def read_picture(backend: Backend) -> Picture:
    """Read everything, in the backend's words."""
    rows = {row.id: row for row in backend.sessions_after(TENANT, 0, _MAX_SESSIONS)}
    logs = {}
    for name in rows:
        log = backend.read_log(TENANT, name)
        logs[name] = list(log.rows) if log else []
    return Picture(rows, logs)


def read_said(store: SessionStore, sessions: Iterable[str]) -> Said:
    """Read the histories of these sessions."""
    return {
        name: [message["content"] for message in store.get_chat_history(name)] for name in sessions
    }


def difference(wanted: Mapping[str, list[str]], found: Mapping[str, list[str]]) -> str:
    """Say where a store parts from what was acknowledged."""
    for name, texts in wanted.items():
        if name not in found:
            return f"session {name!r} is lost, with {len(texts)} messages"
        there = found[name]
        if lost := sum(text not in there for text in texts):
            return f"{lost} acknowledged messages of session {name!r} are lost"
        if there != texts:
            return f"session {name!r} has {len(there)} messages, {len(texts)} were acknowledged"
    if more := sorted(found.keys() - wanted.keys()):
        return f"nobody made {', '.join(more)}, or they were deleted"
    return "the histories are right, and the log or the sessions' details are not"
