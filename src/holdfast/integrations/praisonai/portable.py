"""PraisonAI's own exports, out of a store and into it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from holdfast.errors import Conflict, HoldfastError
from holdfast.integrations.praisonai import files
from holdfast.integrations.praisonai.gathering import Find, Kind, as_export, gather
from holdfast.integrations.praisonai.values import ImportReport, SessionData
from holdfast.store.sync_store import SessionStore

VERSION = 1
_CHAINS = ("lineage_id", "root_session_id", "thread_id")
_LIVE = ("gateway_session_id", "agent_id")


def payload(sessions: Iterable[SessionData]) -> dict[str, Any]:
    """Return sessions as one export."""
    return {"version": VERSION, "sessions": [one.to_dict() for one in sessions]}


def lineage(session: SessionData, others: Iterable[SessionData]) -> list[SessionData]:
    """Return a session and those of the others that go on from it or come before it."""
    chain = _chain(session)
    if chain is None:
        return [session]
    return [session, *(other for other in others if _chain(other) == chain)]


def imported(
    store: SessionStore,
    given: object,
    *,
    max_sessions: int,
    reset_live_fields: bool,
    overwrite: bool,
) -> ImportReport:
    """Create the sessions of an export, each in one commit, and say which were left out and why."""
    sessions = given.get("sessions") if isinstance(given, Mapping) else None
    version = given.get("version") if isinstance(given, Mapping) else None
    if isinstance(version, int) and version > VERSION:
        reason = f"unsupported payload version {version} (supported <= {VERSION})"
        return ImportReport(0, [{"session_id": "", "reason": reason}])
    count, skipped, seen = 0, list[dict[str, str]](), set[str]()
    for index, value in enumerate(sessions if isinstance(sessions, list) else []):
        session_id = str(value.get("session_id") or "") if isinstance(value, Mapping) else ""
        if count >= max_sessions:
            skipped.append({"session_id": "", "reason": f"max_sessions={max_sessions} cap reached"})
            break
        reason = f"malformed record at index {index}" if not session_id else ""
        if session_id in seen:
            reason = "duplicate in payload"
        seen.add(session_id)
        reason = reason or _create(
            store, session_id, value, live=not reset_live_fields, overwrite=overwrite
        )
        count += not reason
        skipped += [{"session_id": session_id, "reason": reason}] if reason else []
    return ImportReport(count, skipped)


def _create(
    store: SessionStore, session_id: str, value: Mapping[str, Any], *, live: bool, overwrite: bool
) -> str:
    """Create one session; return why not, if it was not."""
    told = dict(value)
    if not live:
        metadata = told.get("metadata")
        told["metadata"] = dict(metadata) if isinstance(metadata, Mapping) else {}
        for name in _LIVE:
            told.pop(name, None)
            told["metadata"].pop(name, None)
    try:
        # An export may be any value here: it is made what one that was read from a file is.
        read = files.decode(json.dumps(told).encode())
        assert isinstance(read, dict)
    except (TypeError, ValueError, RecursionError) as error:
        return f"import error: {error}"
    (whole,) = gather([Find("", Kind.FILE, files.saved(read, otherwise=session_id))])
    try:
        text = as_export(whole)
        if overwrite:
            store.delete_session(whole.session_id)
        store.import_session(text)
    except Conflict:
        return "already exists (use overwrite)"
    except HoldfastError as error:
        return f"import error: {error.message}"
    return ""


def _chain(session: SessionData) -> str | None:
    found = (session.metadata.get(name) for name in _CHAINS)
    return next((str(value) for value in found if value), None)
