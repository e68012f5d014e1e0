"""What the public reads do: from a backend's rows to values, on whichever thread reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from holdfast.errors import CorruptEntry, InvalidArgument, SessionNotFound
from holdfast.model.entry import Entry, LogRow
from holdfast.model.message import Message
from holdfast.model.session import REVISION_BITS, Page, SessionInfo, SessionRow
from holdfast.model.stats import Stats
from holdfast.rules import codec, projection
from holdfast.rules.arguments import (
    check_count,
    check_id,
    check_limit,
    check_optional_count,
    check_optional_id,
)
from holdfast.rules.history import History, Origin
from holdfast.rules.repair import repair
from holdfast.rules.verification import Problem, SessionCheck, Verification
from holdfast.rules.window import last_messages, reaches_back
from holdfast.store.backend import Backend, HistoryRead, Listing

Decode: TypeAlias = Callable[[tuple[bytes, ...]], list[Message]]
_PAGE = 1_000
MAX_DIGITS = 19
MIN_STEP = 16


class Reading:
    """Reads one tenant's sessions."""

    def __init__(self, backend: Backend, tenant: str) -> None:
        self._backend = backend
        self._tenant = tenant

    def source(self, session_id: str) -> tuple[str, str, str]:
        """Return what tells this session from every other one anywhere."""
        return (self._backend.identity, self._tenant, session_id)

    def history(
        self,
        session_id: str,
        max_messages: int | None = None,
        at: int | None = None,
        *,
        repaired: bool = True,
    ) -> History:
        """Return a history in its provider-ready form."""
        decode = codec.decode_provider
        read, payloads, messages = self._view(
            session_id, max_messages, at, decode, repaired=repaired
        )
        return History(
            messages,
            Origin(
                self.source(session_id),
                0 if read is None else read.revision,
                payloads,
                repaired=repaired,
                pinned=at is not None,
                partial=max_messages is not None,
            ),
        )

    def after_save(
        self, session_id: str, revision: int, payloads: tuple[bytes, ...] | None, *, repaired: bool
    ) -> History:
        """Return the history that a save made, to be saved again; read unless it is known."""
        if payloads is None:
            read, payloads = self._read(session_id, None, revision)
            revision = revision if read is None else read.revision
        messages = projection.provider_view(payloads, repaired=repaired)
        return History(
            messages, Origin(self.source(session_id), revision, payloads, repaired=repaired)
        )

    def messages(
        self, session_id: str, max_messages: int | None = None, at: int | None = None
    ) -> list[Message]:
        """Return stored messages whole."""
        return self._view(session_id, max_messages, at, codec.decode_whole, repaired=False)[2]

    def entries(self, session_id: str, after: int = 0, limit: int | None = None) -> list[Entry]:
        """Return the log above a revision."""
        check_count(after, "after")
        limit = _limit(limit, "limit")
        return [projection.entry(session_id, row) for row in self._log(session_id, after, limit)]

    def session(self, session_id: str) -> SessionInfo:
        """Return a session's row; `SessionNotFound` if there is none."""
        row = self._backend.read_session(self._tenant, check_id(session_id))
        if row is None:
            raise SessionNotFound(f"there is no session {session_id!r}")
        return projection.session_info(row)

    def exists(self, session_id: str) -> bool:
        """Say whether there is such a session."""
        return self._backend.read_session(self._tenant, check_id(session_id)) is not None

    def sessions(
        self,
        limit: int = 50,
        cursor: str | None = None,
        user_id: str | None = None,
        agent_name: str | None = None,
    ) -> Page[SessionInfo]:
        """Return a page of sessions, the one changed last first."""
        limit = check_limit(limit, "limit")
        listing = Listing(
            self._tenant,
            limit + 1,
            None if cursor is None else _place(cursor),
            check_optional_id(user_id, "user_id"),
            check_optional_id(agent_name, "agent_name"),
        )
        rows = self._backend.list_sessions(listing)
        shown = rows[:limit]
        more = len(rows) > limit and bool(shown)
        cursor = f"{shown[-1].rank}-{shown[-1].pk}" if more else None
        return Page([projection.session_info(row) for row in shown], cursor)

    def stats(self, session_id: str | None = None) -> Stats:
        """Count a tenant's sessions and entries, or one session's."""
        if session_id is not None and not self.exists(session_id):
            raise SessionNotFound(f"there is no session {session_id!r}")
        return self._backend.count(self._tenant, session_id)

    def verify(self, session_id: str | None = None) -> Verification:
        """Recompute every checksum and count of a tenant's sessions, or of one."""
        problems = [Problem("", None, what) for what in self._backend.check()]
        sessions = entries = messages = 0
        for row in self._rows() if session_id is None else [self._row(session_id)]:
            check = self._checked(row)
            if check is None:
                continue  # deleted while we were looking
            sessions += 1
            entries += check.entries
            messages += check.messages
            problems += check.problems
        return Verification(sessions, entries, messages, problems)

    def _view(
        self,
        session_id: str,
        limit: int | None,
        at: int | None,
        decode: Decode,
        *,
        repaired: bool,
    ) -> tuple[HistoryRead | None, tuple[bytes, ...], list[Message]]:
        """Return what was read, its payloads, and the last messages of the view of them.

        With a limit it reads far enough back that no result lacks its call, and the view, which may
        leave messages out, has as many as were asked for.
        """
        limit = _limit(limit, "max_messages")
        last = limit
        while True:
            read, payloads = self._read(session_id, last, at)
            messages = _decoded(session_id, read, decode, payloads)
            view = repair(messages) if repaired else messages
            if limit is None:
                return read, payloads, view
            enough = len(view) >= limit and not (
                codec.may_hold_results(payloads) and reaches_back(messages)
            )
            if enough or read is None or read.complete:
                return read, payloads, last_messages(view, limit)
            last = max(MIN_STEP, last * 4) if last else MIN_STEP

    def _read(
        self, session_id: str, last: int | None, at: int | None
    ) -> tuple[HistoryRead | None, tuple[bytes, ...]]:
        """Read a history, or at least the last messages of it, and check it."""
        check_id(session_id)
        check_optional_count(at, "at")
        read = self._backend.read_history(self._tenant, session_id, at=at, last=last)
        if at is not None:
            _require_revision(session_id, read.session if read else None, at)
        if read is None:
            return None, ()
        return read, codec.check_payloads(session_id, read.revisions, read.payloads, read.checksums)

    def _log(self, session_id: str, after: int, limit: int | None) -> list[LogRow]:
        read = self._backend.read_log(self._tenant, check_id(session_id), after=after, limit=limit)
        if read is None:
            raise SessionNotFound(f"there is no session {session_id!r}")
        if after:
            _require_revision(session_id, read.session, after)
        return list(read.rows)

    def _row(self, session_id: str) -> SessionRow:
        row = self._backend.read_session(self._tenant, check_id(session_id))
        if row is None:
            raise SessionNotFound(f"there is no session {session_id!r}")
        return row

    def _rows(self) -> list[SessionRow]:
        """Return every session's row, by key: the order by time changes under our feet."""
        rows: list[SessionRow] = []
        while page := self._backend.sessions_after(self._tenant, rows[-1].pk if rows else 0, _PAGE):
            rows += page
        return rows

    def _checked(self, listed: SessionRow) -> SessionCheck | None:
        """Walk a session's log from one snapshot; writers go on meanwhile."""
        read = self._backend.read_log(self._tenant, listed.id)
        if read is None or read.session.pk != listed.pk:
            return None
        check = SessionCheck(read.session)
        check.walk(read.rows)
        check.finish()
        return check


def _limit(value: int | None, name: str) -> int | None:
    return None if value is None else check_limit(value, name)


def _require_revision(session_id: str, session: SessionRow | None, revision: int) -> None:
    """Refuse a revision that is not one of this very session."""
    if session is None:
        raise SessionNotFound(f"there is no session {session_id!r}")
    if session.start <= revision <= session.revision:
        return
    if session.revision < revision < session.start + (1 << REVISION_BITS):
        raise InvalidArgument(
            f"session {session_id!r} has not come to revision {revision}",
            hint=f"its last one is {session.revision}",
        )
    raise SessionNotFound(
        f"revision {revision} is not one of session {session_id!r}",
        hint="a deleted session's revisions do not fit a new one with its id",
    )


def _decoded(
    session_id: str,
    read: HistoryRead | None,
    decode: Decode,
    payloads: tuple[bytes, ...],
) -> list[Message]:
    """Decode all payloads in one call; if that fails, name the entry that is at fault."""
    if read is None or not payloads:
        return []
    try:
        return decode(payloads)
    except msgspec.MsgspecError as error:
        for revision, payload in zip(read.revisions, payloads, strict=True):
            try:
                decode((payload,))
            except msgspec.MsgspecError as fault:
                raise CorruptEntry(
                    f"entry {revision} of session {session_id!r} cannot be decoded: {fault}",
                    session_id=session_id,
                    revision=revision,
                ) from error
        raise


def _place(cursor: str) -> tuple[int, int]:
    rank, _, pk = str(cursor).partition("-")
    if not (rank.isdecimal() and pk.isdecimal() and max(map(len, (rank, pk))) < MAX_DIGITS):
        raise InvalidArgument(
            f"{cursor!r} is not a cursor", hint="pass the next_cursor of the page before"
        )
    return int(rank), int(pk)
