"""What a write does to a session's turn: open it, write inside, close it, interrupt, recover.

Safety is the token's: a commit inside a turn checks the fence and never the time, and whoever takes
a turn over raises the fence. The clock only decides whether a worker counts as alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

from holdfast.errors import Conflict, LeaseLost, SessionNotFound, WrongUser
from holdfast.model.commit import Commit
from holdfast.model.entry import EntryKind, LogRow, NewEntry
from holdfast.model.session import SessionRow
from holdfast.model.turn import (
    Busy,
    Held,
    Holding,
    Interrupting,
    Leaving,
    Opened,
    Opening,
    Reason,
    Recovering,
    Signalled,
    Ticket,
    Token,
)
from holdfast.model.usage import TurnStatus
from holdfast.model.write import KeyRow, Write, WriteKind
from holdfast.rules import codec
from holdfast.rules.belonging import asked, attempts, messages_of, own_rows, said_since, turn_facts
from holdfast.rules.change import Change
from holdfast.rules.decision import Decision, Log
from holdfast.rules.partial import closing_entries, superseding_entries, turn_entry

TICKET_MS = 2_000
"""A place in the line of those who wait lapses unless it is renewed within this time."""

DELTAS_MS = 60_000
"""Streamed text stays so long after its turn was closed, for followers that are a little behind."""


def decide_turn(
    write: Write,
    session: SessionRow | None,
    recorded: KeyRow | None,
    now: int,
    log: Log,
) -> Decision:
    """Return what a write does to a session's turn, or raise why it does nothing."""
    action = write.turn
    assert action is not None, "only writes with a turn come here"
    if isinstance(action, Opening):
        if session is None:
            session = log.create_session(write.tenant, write.session_id, now)
        return _Opening(write, action, session, now, log).decide(recorded)
    if isinstance(action, Holding):
        return _hold(write, action, session, now, log)
    if session is None:
        raise SessionNotFound(f"there is no session {write.session_id!r}")
    if isinstance(action, Interrupting):
        return _interrupt(action, session, now)
    if isinstance(action, Recovering):
        return _recover(session, now, log)
    if isinstance(action, Leaving):
        return _leave(action, session)
    assert_never(action)


def is_alive(session: SessionRow, now: int) -> bool:
    """Say whether a running turn's lease holds; a clock that went back ends it too."""
    return now < session.lease_until <= now + session.lease_ttl


def _is_running(session: SessionRow) -> bool:
    return session.turn_status == TurnStatus.RUNNING


class _Opening:
    """One attempt to open a turn."""

    def __init__(
        self, write: Write, opening: Opening, session: SessionRow, now: int, log: Log
    ) -> None:
        self.write = write
        self.opening = opening
        self.session = session
        self.now = now
        self.log = log

    def decide(self, recorded: KeyRow | None) -> Decision:
        session, opening = self.session, self.opening
        if opening.user_id is not None and session.user_id not in (None, opening.user_id):
            raise WrongUser(f"session {session.id!r} belongs to another user")
        if opening.resume is not None:
            return self._resume(opening.resume)
        turn = None
        if recorded is not None:
            turn = self._recorded_turn(recorded)
        entries = turn_facts(self._turn_rows(turn)) if turn is not None else []
        if recorded is not None and turn is not None:
            if session.open_turn == turn:
                if session.turn_status == TurnStatus.WAITING:
                    return self._replayed(turn, entries)
                if _is_running(session) and is_alive(session, self.now):
                    return self._busy(same=True)
            elif not _is_to_be_repeated(entries[-1]):
                return self._replayed(turn, entries)
        turn = opening.turn if turn is None else turn
        return self._blocked(turn) or self._open(turn, entries)

    def _resume(self, turn: str) -> Decision:
        """Go on with a turn that waits; with one that is over, give back how that went."""
        session, entries = self.session, turn_facts(self._turn_rows(turn))
        if session.open_turn != turn:
            return self._replayed(turn, entries)
        if _is_running(session) and is_alive(session, self.now):
            return self._busy(same=True)
        return self._open(turn, entries)

    def _recorded_turn(self, recorded: KeyRow) -> str:
        if recorded.kind != WriteKind.TURN or recorded.turn is None:
            raise Conflict(
                f"key {self.write.key!r} was used in session {self.write.session_id!r} "
                f"to {recorded.kind}, not for a turn",
                code="key_reused",
                hint="give each request a key of its own",
            )
        return recorded.turn

    def _turn_rows(self, turn: str) -> Sequence[LogRow]:
        rows = self.log.turn_rows(self.session, turn)
        if not rows:
            raise Conflict(
                f"session {self.write.session_id!r} has no turn {turn!r}", code="no_turn"
            )
        return rows

    def _begun(self, turn: str) -> int:
        return self._turn_rows(turn)[0].revision - 1

    def _blocked(self, turn: str) -> Decision | None:
        """Return the answer if the session is taken, or others stood in line before us."""
        session = self.session
        if session.open_turn is not None and session.open_turn != turn:
            if _is_running(session) and is_alive(session, self.now):
                return self._busy()
            if session.turn_status == TurnStatus.WAITING and not self.opening.supersede:
                return self._busy()
        mine = self._ticket()
        if any(other.number < mine.number for other in self._others()):
            return self._busy()
        return None

    def _others(self) -> list[Ticket]:
        tickets = self.log.tickets(self.session)
        return [t for t in tickets if t.id != self.opening.ticket and t.expires > self.now]

    def _ticket(self) -> Ticket:
        """Return our place in the line, the last one if we had none yet, renewed."""
        tickets = self.log.tickets(self.session)
        number = next((t.number for t in tickets if t.id == self.opening.ticket), None)
        if number is None:
            number = max((t.number for t in tickets), default=0) + 1
        return Ticket(self.opening.ticket or "", number, self.now + TICKET_MS)

    def _busy(self, *, same: bool = False) -> Decision:
        session = self.session
        answer = Busy(
            session.open_turn or "",
            session.lease_owner or "",
            session.lease_until,
            session.fence,
            waiting=session.turn_status == TurnStatus.WAITING,
            same=same,
        )
        stands = self.opening.ticket is not None and not same and not answer.waiting
        return Decision(answer, session, [], ticket=self._ticket() if stands else None)

    def _replayed(self, turn: str, entries: Sequence[dict[str, Any]]) -> Decision:
        session, last = self.session, entries[-1]
        commit = Commit(session.history_revision, session.history_revision, replayed=True)
        answer = Opened(
            commit,
            Token(session.pk, 0),
            turn,
            last["attempt"],
            attempts(entries)[-1]["prompt"],
            self._begun(turn),
            TurnStatus(last["status"]),
            replayed=True,
        )
        return Decision(answer, session, [])

    def _open(self, turn: str, entries: Sequence[dict[str, Any]]) -> Decision:
        """Open a turn, or its next attempt if it has entries already."""
        opening = self.opening
        attempt = entries[-1]["attempt"] + 1 if entries else 1
        change = Change(self.session, self.now, self.log)
        if self.session.user_id is None and opening.user_id is not None:
            owner = codec.encode({"user_id": opening.user_id})
            change.add(codec.new_entry(EntryKind.META, [owner]))
        waited = self.session.open_turn == turn and not _is_running(self.session)
        if self.session.open_turn is not None and not waited:
            _close_open_turn(change, self.log)
        prompt = () if self._has_prompt(entries) else self.write.entries
        if prompt:
            start = change.revision + 1 + len(prompt)
        else:
            start = attempts(entries)[-1]["prompt"] if entries else change.history_revision
        asked_now = [id_ for id_ in codec.message_ids(new.payload for new in prompt) if id_]
        change.add(
            turn_entry(
                turn,
                attempt,
                TurnStatus.RUNNING,
                worker=opening.worker,
                prompt=start,
                asked=asked_now or None,
                key=self.write.key,
            )
        )
        for new in prompt:
            change.add(new.within(turn, attempt))
        session = change.session()._replace(
            fence=self.session.fence + 1,
            lease_until=self.now + opening.ttl_ms,
            lease_ttl=opening.ttl_ms,
            lease_owner=opening.worker,
            open_turn=turn,
            open_attempt=attempt,
            turn_status=TurnStatus.RUNNING.value,
        )
        commit = Commit(session.revision, session.history_revision)
        begun = self._begun(turn) if entries else self.session.revision
        token = Token(session.pk, session.fence)
        approved = tuple(entries[-1].get("approved", ())) if waited else ()
        answer = Opened(
            commit, token, turn, attempt, start, begun, waited=waited, approved=approved
        )
        key = None
        if self.write.key is not None:
            key = KeyRow(WriteKind.TURN.value, session.revision, 0, turn)
        quiet = self.session.open_turn is None and self.session.updated <= self.now - DELTAS_MS
        forget = self.session.revision if quiet else None
        served = opening.ticket or ""
        return Decision(answer, session, change.rows, key, served=served, forget=forget)

    def _has_prompt(self, entries: Sequence[dict[str, Any]]) -> bool:
        """Whether the current generation still holds the prompt of an earlier attempt."""
        if not entries:
            return False
        if attempts(entries)[-1]["prompt"] > self.session.base:
            return True
        said = self.log.messages_after(self.session, self.session.base)
        return not asked(entries).isdisjoint(codec.message_ids(row.payload for row in said))


def _is_to_be_repeated(last: dict[str, Any]) -> bool:
    return last["status"] == TurnStatus.FAILED or last.get("reason") == Reason.CRASHED


def _hold(
    write: Write, holding: Holding, session: SessionRow | None, now: int, log: Log
) -> Decision:
    token = holding.token
    if (
        session is None
        or session.pk != token.session
        or session.fence != token.fence
        or session.open_turn != holding.turn
    ):
        raise LeaseLost(
            f"turn {holding.turn} of session {write.session_id!r} was taken over, closed or deleted"
        )
    change = Change(session, now, log)
    for new in _unwritten(write.entries, holding, session, log):
        change.add(new)
    after = change.session()
    if holding.status is TurnStatus.RUNNING:
        after = after._replace(lease_until=now + session.lease_ttl)
    elif holding.status is TurnStatus.WAITING:
        after = after._replace(
            lease_until=0, fence=session.fence + 1, turn_status=TurnStatus.WAITING.value
        )
    else:
        after = _released(after)
    commit = Commit(after.revision, after.history_revision)
    asked = session.interrupt_fence == token.fence
    return Decision(Held(commit, interrupted=asked), after, change.rows)


def _unwritten(
    entries: Sequence[NewEntry], holding: Holding, session: SessionRow, log: Log
) -> Sequence[NewEntry]:
    """Return a write's entries without the usage that an earlier one has written already."""
    if holding.heard is None:
        return entries
    rows = own_rows(session, holding.turn, holding.heard, log)
    told = {row.payload for row in rows if row.kind == EntryKind.USAGE}
    return [new for new in entries if new.kind is not EntryKind.USAGE or new.payload not in told]


def _interrupt(action: Interrupting, session: SessionRow, now: int) -> Decision:
    commit = Commit(session.revision, session.history_revision)
    fits = action.fence is None or action.fence == session.fence
    if not (fits and session.open_turn is not None and _is_running(session)):
        return Decision(Signalled(commit, happened=False), session, [])
    alive = is_alive(session, now)
    after = session._replace(interrupt_fence=session.fence)
    return Decision(Signalled(commit, happened=alive), after, [])


def _recover(session: SessionRow, now: int, log: Log) -> Decision:
    dead = session.open_turn is not None and _is_running(session) and not is_alive(session, now)
    change = Change(session, now, log)
    if dead:
        _close_open_turn(change, log)
    after = _released(change.session(), fence=session.fence + 1) if dead else session
    commit = Commit(after.revision, after.history_revision)
    return Decision(Signalled(commit, happened=dead), after, change.rows)


def _leave(action: Leaving, session: SessionRow) -> Decision:
    commit = Commit(session.revision, session.history_revision)
    return Decision(Signalled(commit, happened=True), session, [], served=action.ticket)


def _released(session: SessionRow, fence: int | None = None) -> SessionRow:
    return session._replace(
        fence=session.fence if fence is None else fence,
        lease_until=0,
        lease_ttl=0,
        lease_owner=None,
        open_turn=None,
        open_attempt=0,
        turn_status=None,
    )


def _close_open_turn(change: Change, log: Log) -> None:
    """Close the session's open turn for a worker that is gone, or a question nobody answered."""
    session = change.old
    assert session.open_turn is not None
    if session.turn_status == TurnStatus.WAITING:
        begun = log.turn_rows(session, session.open_turn)[0].revision
        said = messages_of(own_rows(session, session.open_turn, begun, log))
        entries = superseding_entries(session.open_turn, session.open_attempt, said, change.now)
    else:
        begun = log.turn_rows(session, session.open_turn)[-1].revision
        rows = said_since(session, session.open_turn, begun, log)
        entries = closing_entries(session.open_turn, session.open_attempt, rows, change.now)
    for new in entries:
        change.add(new)
