"""Writes that are made of stored messages: forks, rewinds, compactions and imports.

What is stored is copied as it stands, so ids, times and metadata survive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from holdfast.errors import InvalidArgument, InvalidMessage
from holdfast.model.message import Message
from holdfast.model.session import Point
from holdfast.model.write import Creation, Reset, Write, WriteKind
from holdfast.rules import codec
from holdfast.rules.arguments import check_count, check_id, check_point
from holdfast.rules.history import History
from holdfast.rules.window import last_messages
from holdfast.store.reading import Reading
from holdfast.store.sources import Sources
from holdfast.store.writing import meta_entry


class Copying:
    """Builds one tenant's writes of what it has stored already; this reads."""

    def __init__(self, reading: Reading, tenant: str, sources: Sources) -> None:
        self._reading = reading
        self._tenant = tenant
        self._sources = sources

    def rewind(self, session_id: str, to: Point) -> Write:
        """Make a session's history what it was.

        -n is counted from the history as it is read here, so no other may come before the commit.
        """
        check_point(to, "to")
        past, current = self._reading.past(session_id, to), self._reading.past(session_id)
        lines = past.lines
        repeats = Counter(lines) & Counter(current.lines)
        back = isinstance(to, int) and to < 0
        return Write(
            tenant=self._tenant,
            session_id=session_id,
            kind=WriteKind.REWIND,
            entries=codec.chunked(lines),
            reset=Reset("rewind", repeats=repeats.total()),
            creation=Creation.FORBIDDEN,
            expected_revision=past.revision if back else None,
            base_revision=current.revision,
        )

    def fork(self, session_id: str, new_id: str | None, at: Point | None) -> Write:
        """Create a session that begins as another one was."""
        new_id = self._sources.new_id() if new_id is None else check_id(new_id, "new_id")
        past = self._reading.past(session_id, at)
        session, lines = past.session, past.lines
        described: dict[str, Any] = {
            "title": session.title,
            "user_id": session.user_id,
            "agent_name": session.agent_name,
            "metadata": codec.decode_object(session.meta) or None,
        }
        described = {name: value for name, value in described.items() if value is not None}
        origin = {"session": session.id, "revision": past.revision, "messages": len(lines)}
        return Write(
            tenant=self._tenant,
            session_id=new_id,
            kind=WriteKind.CREATE,
            entries=(meta_entry({**described, "forked_from": origin}), *codec.chunked(lines)),
            creation=Creation.REQUIRED,
        )

    def compact(
        self,
        session_id: str,
        summary: str | Message,
        *,
        keep_last: int,
        base: int | History | None,
    ) -> Write:
        """Put a summary in the place of all but the last messages of the history at a base."""
        check_count(keep_last, "keep_last")
        message = _summary(summary)
        stamp = self._sources.message_id, self._sources.now_text()
        past = self._reading.past(session_id, self._base(session_id, base))
        lines = past.lines
        kept = len(last_messages(codec.decode_provider(past.payloads), keep_last))
        lines = lines[len(lines) - kept :]
        return Write(
            tenant=self._tenant,
            session_id=session_id,
            kind=WriteKind.COMPACT,
            entries=codec.chunked([codec.encode_message(message, "summary", stamp), *lines]),
            reset=Reset("compact", past.revision, repeats=kept),
            creation=Creation.FORBIDDEN,
            base_revision=past.revision,
        )

    def restore(self, text: str, session_id: str | None) -> Write:
        """Create a session from the text of an export."""
        if not isinstance(text, str):
            raise InvalidArgument(f"an export is text, not {type(text).__name__}")
        from holdfast.rules.importing import read_export  # few programs need it

        export = read_export(text)
        return Write(
            tenant=self._tenant,
            session_id=export.session_id if session_id is None else check_id(session_id),
            kind=WriteKind.CREATE,
            creation=Creation.REQUIRED,
            restored=export.restored,
        )

    def _base(self, session_id: str, base: int | History | None) -> int | None:
        """Return the revision that a compaction starts from; `None` is the current one."""
        if not isinstance(base, History):
            return None if base is None else check_count(base, "base")
        origin = base.origin
        if origin is None or origin.source != self._reading.source(session_id):
            raise InvalidArgument(
                f"base is not a history of session {session_id!r}",
                hint="pass the history that the summary was made of, or its revision",
            )
        if origin.pinned or origin.spent:
            raise InvalidArgument(
                "base is no longer the history that was read"
                if origin.spent
                else "base was read with at=, so it is no base",
                hint="read the history again, or pass a revision",
            )
        return origin.revision


def _summary(summary: object) -> Message:
    """Return the message that a summary becomes."""
    if isinstance(summary, str):
        summary = {"role": "system", "content": summary}
    if not isinstance(summary, Mapping):
        raise InvalidMessage(
            f"must be text or a message, not {type(summary).__name__}", path="summary"
        )
    content = summary.get("content")
    if not content or (isinstance(content, str) and not content.strip()):
        raise InvalidMessage(
            "is empty, and would take the place of what was said",
            path="summary",
            hint="to begin an empty history, use clear_session",
        )
    return dict(summary)
