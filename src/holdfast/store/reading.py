"""What the public reads do: from a backend's rows to values, on whichever thread reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

import msgspec
from msgspec import Struct

from holdfast.errors import CorruptEntry, InvalidArgument, Purged, SessionNotFound
from holdfast.model.entry import Entry, EntryKind, LogRow
from holdfast.model.message import Message
from holdfast.model.session import REVISION_BITS, Page, Point, SessionInfo, SessionRow
from holdfast.model.stats import Stats
from holdfast.model.turn import TURN_PREFIX, Opened
from holdfast.rules import codec, points, projection
from holdfast.rules.arguments import (
    check_count,
    check_id,
    check_limit,
    check_optional_id,
    check_point,
)
from holdfast.rules.belonging import up_to_prompt
from holdfast.rules.history import History, Origin
from holdfast.rules.partial import said_in_turn
from holdfast.rules.repair import repair
from holdfast.rules.window import last_messages, reaches_back
from holdfast.store.backend import Backend, HistoryRead, Listing, LogRead

Decode: TypeAlias = Callable[[tuple[bytes, ...]], list[Message]]
MAX_DIGITS = 19
MIN_STEP = 16
_IN_HISTORIES = (EntryKind.MESSAGE, EntryKind.RESET)
"""What stands among messages: no history reaches beyond its reset, unless its row is damaged."""


class Past(Struct, frozen=True):
    """A session's history at some point, as it is stored.

    `revision` is the history revision that was read; -n leaves out the end of what stood there.
    """

    session: SessionRow
    revision: int
    payloads: tuple[bytes, ...]

    @property
    def lines(self) -> list[bytes]:
        """The stored messages, one JSON line each."""
        return codec.split_lines(self.payloads)


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
        at: Point | None = None,
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
        self, session_id: str, max_messages: int | None = None, at: Point | None = None
    ) -> list[Message]:
        """Return stored messages whole."""
        return self._view(session_id, max_messages, at, codec.decode_whole, repaired=False)[2]

    def past(self, session_id: str, at: Point | None = None) -> Past:
        """Return what is stored of a history; `SessionNotFound` if there is no session."""
        read, payloads = self._read(session_id, None, at)
        if read is None:
            raise no_session(session_id)
        return Past(read.session, read.revision, payloads)

    def revision(self, session_id: str, at: Point | None = None) -> int:
        """Return the revision of the history at a point; -n may lie inside of an entry."""
        past = self.past(session_id, at)
        if not isinstance(at, int) or at >= 0:
            return past.revision
        lines = past.lines
        log = self._log(session_id, past.session.base, None)
        ends = {
            row.ordinal + row.message_count: row.revision
            for row in log
            if row.kind == EntryKind.MESSAGE
        }
        revision = ends.get(len(lines)) if lines else past.session.base
        with suppress(Purged):  # inside of the commit that began this history
            if revision is not None and self.past(session_id, revision).lines == lines:
                return revision
        raise InvalidArgument(
            f"the history of session {session_id!r} at {at} ends inside of a commit, so no "
            "revision names it",
            hint="fork the session there, or rewind it: these take -n as it is",
        )

    def entries(self, session_id: str, after: int = 0, limit: int | None = None) -> list[Entry]:
        """Return the log above a revision."""
        check_count(after, "after")
        limit = _limit(limit, "limit")
        return [projection.entry(session_id, row) for row in self._log(session_id, after, limit)]

    def turn(self, session_id: str, opened: Opened) -> tuple[History, list[Message]]:
        """Return the history that a turn answers, and its own whole messages so far.

        Those are what was said before this attempt, or, of a replayed turn, all that it recorded.
        """
        if opened.attempt == 1 and not opened.replayed:
            return self.history(session_id, at=opened.prompt_revision), []
        rows = self._log(session_id, opened.begun, None)
        final = opened.attempt if opened.replayed else 0
        said = said_in_turn(rows, opened.turn, final)
        return self._asked(session_id, opened, rows), said

    def _asked(self, session_id: str, opened: Opened, rows: Sequence[LogRow]) -> History:
        """Return the history up to a turn's prompt.

        Where a rewrite has put the prompt elsewhere, an attempt at the turn answers the history as
        it is now; a turn that is over answered what it was then.
        """
        session = self.row(session_id)
        if opened.replayed and opened.begun < session.floor:
            raise Purged(f"what turn {opened.turn} of session {session_id!r} said has been purged")
        if opened.replayed or opened.prompt_revision >= session.base:
            return self.history(session_id, at=opened.prompt_revision)
        read, payloads = self._read(session_id, None, opened.commit.history_revision)
        own = [row for row in rows if row.turn == opened.turn]
        end = up_to_prompt(codec.message_ids(payloads), own)
        if end is None:
            raise Purged(
                f"what turn {opened.turn} of session {session_id!r} answered has been purged"
            )
        payloads = codec.first_messages(payloads, end)
        messages = projection.provider_view(payloads, repaired=True)
        revision = session.history_revision if read is None else read.revision
        origin = Origin(self.source(session_id), revision, payloads, pinned=True)
        return History(messages, origin)

    def payloads(self, session_id: str, after: int) -> set[bytes]:
        """Return what the log's entries above a revision hold, as it is stored."""
        return {row.payload for row in self._log(session_id, after, None)}

    def open_turns(self) -> list[SessionRow]:
        """Return the sessions whose turn runs or waits."""
        return self._backend.open_turns(self._tenant)

    def live_row(self, session_id: str) -> SessionRow | None:
        """Return a session's row as it is now, or `None`."""
        return self._backend.read_session(self._tenant, session_id)

    def clock_ms(self) -> int:
        """Return the time that leases go by, in milliseconds since 1970."""
        return self._backend.clock_ms()

    def session(self, session_id: str) -> SessionInfo:
        """Return a session's row; `SessionNotFound` if there is none."""
        return projection.session_info(self.row(session_id))

    def row(self, session_id: str) -> SessionRow:
        """Return a session's row as it is stored; `SessionNotFound` if there is none."""
        row = self._backend.read_session(self._tenant, check_id(session_id))
        if row is None:
            raise no_session(session_id)
        return row

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
        if session_id is not None:
            self.row(session_id)
        return self._backend.count(self._tenant, session_id)

    def _view(
        self,
        session_id: str,
        limit: int | None,
        at: Point | None,
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
            messages = self._decoded(session_id, read, decode, payloads)
            view = repair(messages) if repaired else messages
            if limit is None:
                return read, payloads, view
            enough = len(view) >= limit and not reaches_back(messages)
            if enough or read is None or read.complete:
                return read, payloads, last_messages(view, limit)
            last = max(MIN_STEP, last * 4) if last else MIN_STEP

    def _read(
        self, session_id: str, last: int | None, at: Point | None
    ) -> tuple[HistoryRead | None, tuple[bytes, ...]]:
        """Read a history, or at least the last messages of it, and check it."""
        check_id(session_id)
        revision, back = self._place(session_id, at)
        read = self._backend.read_history(
            self._tenant, session_id, at=revision, last=None if back else last
        )
        if read is None:
            if at is not None:
                raise no_session(session_id)
            return None, ()
        if revision is not None:
            _require_revision(session_id, read.session, revision)
        if read.revision < read.session.floor:
            raise Purged(f"what session {session_id!r} was at revision {revision} has been purged")
        payloads = read.payloads
        if back:
            # Read after the history: then no prompt in it is of a turn that is not known yet.
            turns = self._turns(session_id).rows
            messages = self._decoded(session_id, read, codec.decode_whole, payloads)
            before = points.before_step(session_id, messages, turns, back)
            payloads = codec.first_messages(payloads, before)
        return read, payloads

    def _decoded(
        self,
        session_id: str,
        read: HistoryRead | None,
        decode: Decode,
        payloads: tuple[bytes, ...],
    ) -> list[Message]:
        """Decode what was read; if that fails, name an entry that is at fault."""
        if read is None or not payloads:
            return []
        try:
            return decode(payloads)
        except msgspec.MsgspecError as error:
            for row in reversed(self._log(session_id, 0, None)):
                if row.kind not in _IN_HISTORIES or row.revision > read.revision:
                    continue
                try:
                    decode((row.payload,))
                except msgspec.MsgspecError as fault:
                    raise CorruptEntry(
                        f"entry {row.revision} of session {session_id!r} cannot be decoded: "
                        f"{fault}",
                        session_id=session_id,
                        revision=row.revision,
                    ) from error
            raise

    def _place(self, session_id: str, at: Point | None) -> tuple[int | None, int]:
        """Return the revision that a point names, or how many steps back it lies.

        The one place where points are resolved. `None` is now: also of a turn that is open.
        """
        if at is None:
            return None, 0
        at = check_point(at, "at")
        if isinstance(at, str):
            row = self.row(session_id)
            # A label of an older store may look like a turn's id, and goes first.
            if at.startswith(TURN_PREFIX) and at not in points.labels_of(row):
                turns = self._turns(session_id, at)
                return points.turn_end(at, turns.session, turns.rows), 0
            return points.labelled(at, row), 0
        return (at, 0) if at >= 0 else (None, -at)

    def _turns(self, session_id: str, turn: str | None = None) -> LogRead:
        read = self._backend.read_turns(self._tenant, session_id, turn)
        if read is None:
            raise no_session(session_id)
        return read

    def _log(self, session_id: str, after: int, limit: int | None) -> list[LogRow]:
        read = self._backend.read_log(self._tenant, check_id(session_id), after=after, limit=limit)
        if read is None:
            raise no_session(session_id)
        if after:
            _require_revision(session_id, read.session, after)
        return list(read.rows)


def _limit(value: int | None, name: str) -> int | None:
    return None if value is None else check_limit(value, name)


def no_session(session_id: str) -> SessionNotFound:
    """Return the error that says so."""
    return SessionNotFound(f"there is no session {session_id!r}")


def _require_revision(session_id: str, session: SessionRow, revision: int) -> None:
    """Refuse a revision that is not one of this very session."""
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


def _place(cursor: str) -> tuple[int, int]:
    rank, _, pk = str(cursor).partition("-")
    if not (rank.isdecimal() and pk.isdecimal() and max(map(len, (rank, pk))) < MAX_DIGITS):
        raise InvalidArgument(
            f"{cursor!r} is not a cursor", hint="pass the next_cursor of the page before"
        )
    return int(rank), int(pk)
