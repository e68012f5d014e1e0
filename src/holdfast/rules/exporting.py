"""A session as text: one JSON object a line, for people to read and for `importing` to restore.

A header names the format and the session, then each entry has a line, then a closing line counts
them. Revisions are relative to the session's start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Raw

from holdfast.model.entry import EntryKind, LogRow
from holdfast.model.session import SessionRow
from holdfast.model.write import KeyRow
from holdfast.rules import codec
from holdfast.rules.points import labels_of
from holdfast.rules.restoring import callers_keys, shifted
from holdfast.rules.verification import SessionCheck

FORMAT = "holdfast-session"
VERSION = 1
_OBEYED = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def export(session: SessionRow, rows: Iterable[LogRow], keys: Mapping[str, KeyRow]) -> str:
    """Return a session, its log and its idempotency keys as text.

    `CorruptEntry` if they are not as they were written.
    """
    rows = list(rows)
    check = SessionCheck(session)
    check.walk(rows)
    check.require_sound()
    closing = {"entries": check.entries, "messages": check.messages}
    lines = [_header(session, keys), *_entries(session, rows), {"end": closing}]
    return "".join(_printable(codec.encode(line).decode()) + "\n" for line in lines)


def _header(session: SessionRow, keys: Mapping[str, KeyRow]) -> dict[str, Any]:
    start = session.start
    facts = {
        "id": session.id,
        "title": session.title,
        "user_id": session.user_id,
        "agent_name": session.agent_name,
        "created_at": time_text(session.created),
        "updated_at": time_text(session.updated),
        "message_count": session.message_count,
        "revision": session.revision - start,
        "floor": session.floor - start,
        "labels": {name: at - start for name, at in labels_of(session).items()},
        "metadata": codec.decode_object(session.meta.encode()),
        "keys": {name: _key(key) for name, key in callers_keys(session, keys).items()},
    }
    return {"format": FORMAT, "version": VERSION, "session": facts}


def _key(key: KeyRow) -> dict[str, Any]:
    facts: dict[str, Any] = {"kind": key.kind, "revision": key.revision, "kept": key.kept}
    return facts if key.turn is None else {**facts, "turn": key.turn}


def _entries(session: SessionRow, rows: Iterable[LogRow]) -> Iterator[dict[str, Any]]:
    for row in (shifted(row, -session.start) for row in rows):
        line: dict[str, Any] = {
            "revision": row.revision,
            "kind": row.kind,
            "at": time_text(row.at),
        }
        if row.turn is not None:
            line |= {"turn": row.turn, "attempt": row.attempt}
        if row.kind == EntryKind.MESSAGE:
            line["messages"] = [Raw(message) for message in codec.split_lines([row.payload])]
        else:
            if row.kind == EntryKind.RESET:
                line["last"] = row.ordinal
            line["payload"] = Raw(row.payload)
        yield line


def _printable(line: str) -> str:
    """Escape what JSON may hold as it is, but a terminal obeys or a reader takes for a new line."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def time_text(milliseconds: int) -> str:
    """Return a time as ISO 8601 in UTC, exact to the millisecond."""
    moment = EPOCH + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
