"""What one write does to one session: its preconditions and the rows that it adds.

Every backend that evaluates rules in Python calls `decide`, inside its transaction, with the rows
it holds; a backend that evaluates them elsewhere is held to the same table of cases by the
conformance suite.
"""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.errors import Conflict, SessionNotFound
from holdfast.model.commit import Commit
from holdfast.model.entry import LogRow
from holdfast.model.session import SessionRow
from holdfast.model.write import Creation, KeyRow, Reset, Write
from holdfast.rules.belonging import carried
from holdfast.rules.change import Change
from holdfast.rules.decision import Decision, Log
from holdfast.rules.purging import decide_purge
from holdfast.rules.restoring import decide_continuation, decide_restore
from holdfast.rules.turns import decide_turn


def decide(
    write: Write, session: SessionRow | None, recorded: KeyRow | None, now: int, log: Log
) -> Decision:
    """Return what `write` does to `session`, or raise why it does nothing.

    `recorded` is what the session keeps under the write's key; `now` is in milliseconds.
    """
    if write.turn is not None:
        return decide_turn(write, session, recorded, now, log)
    if session is None:
        _require_creation(write)
        session = log.create_session(write.tenant, write.session_id, now)
        if write.restored is not None:
            return decide_restore(write.restored, session, now, log)
    else:
        if recorded is not None:
            return Decision(_replay(write, recorded), session, [])
        _require_conditions(write, session)
        if write.floor is not None:
            return decide_purge(write, write.floor, session, log)
        if write.restored is not None:
            return decide_continuation(write.restored, session, now, log)
    return _decide_change(write, session, now, log)


def _require_creation(write: Write) -> None:
    if (
        write.creation is Creation.FORBIDDEN
        or (write.expected_revision or 0) > 0
        or (write.base_revision or 0) > 0
    ):
        raise SessionNotFound(f"there is no session {write.session_id!r}")


def _replay(write: Write, recorded: KeyRow) -> Commit:
    if recorded.kind != write.kind:
        raise Conflict(
            f"key {write.key!r} was used in session {write.session_id!r} to {recorded.kind}, "
            f"not to {write.kind}",
            code="key_reused",
            hint="give each request a key of its own",
        )
    return Commit(recorded.revision, recorded.revision, replayed=True, kept=recorded.kept)


def _require_conditions(write: Write, session: SessionRow) -> None:
    if write.creation is Creation.REQUIRED:
        raise Conflict(
            f"session {write.session_id!r} exists already",
            code="session_exists",
            hint="choose another id, or add to the session that is there",
        )
    expected = write.expected_revision
    if expected is not None and not session.history_revision <= expected <= session.revision:
        raise Conflict(
            f"session {write.session_id!r} is at revision {session.history_revision}, "
            f"not at {expected}",
            expected=expected,
            actual=session.history_revision,
        )
    base = write.base_revision
    if base is None:
        return
    if base > 0 and not session.start <= base <= session.revision:
        raise SessionNotFound(
            f"revision {base} is not one of session {write.session_id!r}: "
            "the session that was read is gone"
        )
    rewrites = write.reset is not None and write.reset.base_revision is not None
    if rewrites and session.base > base:
        raise Conflict(
            f"the history of session {write.session_id!r} was rewritten since revision {base}",
            expected=base,
            actual=session.history_revision,
        )


def _decide_change(write: Write, session: SessionRow, now: int, log: Log) -> Decision:
    change = Change(session, now, log)
    kept = removed = 0
    if write.reset is None:
        for new in write.entries:
            change.add(new)
    else:
        later = _later(write, write.reset, session, log)
        kept = sum(row.message_count for row in later)
        removed = session.message_count - kept - _repeated(write, write.reset, session)
        change.reset(write.reset, write.entries, later)
    after = change.session()
    last = after.revision if after.revision > session.revision else after.history_revision
    key = None if write.key is None else KeyRow(write.kind.value, last, kept)
    commit = Commit(last, after.history_revision, kept=kept, removed=removed)
    return Decision(commit, after, change.rows, key)


def _repeated(write: Write, reset: Reset, session: SessionRow) -> int:
    """Return how many of the current generation's messages the entries hold again."""
    base = write.base_revision
    return reset.repeats if base is not None and base >= session.base else 0


def _later(write: Write, reset: Reset, session: SessionRow, log: Log) -> Sequence[LogRow]:
    """Return what a reset carries over.

    With a base, whatever was added after it. Without one, what the running turn has said, as far as
    the new generation does not hold it: the turn goes on, and an answer needs its prompt.
    """
    base = reset.base_revision
    if base is not None:
        return () if base >= session.history_revision else log.messages_after(session, base)
    return carried(session, write.entries, log)
