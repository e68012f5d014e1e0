"""What one write does to one session: its preconditions and the rows that it adds.

Every backend that evaluates rules in Python calls `decide`, inside its transaction, with the rows
it holds; a backend that evaluates them elsewhere is held to the same table of cases by the
conformance suite.
"""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.errors import Conflict, SessionNotFound
from holdfast.model.commit import Commit
from holdfast.model.entry import EntryKind, LogRow, NewEntry
from holdfast.model.session import SessionRow
from holdfast.model.write import Creation, KeyRow, Reset, Write
from holdfast.rules import codec
from holdfast.rules.decision import Decision, Log
from holdfast.rules.details import changed_details
from holdfast.rules.purging import decide_purge
from holdfast.rules.restoring import decide_restore


def decide(
    write: Write, session: SessionRow | None, recorded: KeyRow | None, now: int, log: Log
) -> Decision:
    """Return what `write` does to `session`, or raise why it does nothing.

    `recorded` is what the session keeps under the write's key; `now` is in milliseconds.
    """
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
    return _Change(write, session, now).apply(log)


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


class _Change:
    """The rows of one write, numbered one after the other."""

    def __init__(self, write: Write, session: SessionRow, now: int) -> None:
        self.write = write
        self.old = session
        self.now = now
        self.revision = session.revision
        self.history_revision = session.history_revision
        self.base = session.base
        self.message_count = session.message_count
        self.details = session.details
        self.rows: list[LogRow] = []

    def apply(self, log: Log) -> Decision:
        kept = removed = 0
        write = self.write
        if write.reset is None:
            for new in write.entries:
                self._add(new)
        else:
            later = self._later(write.reset, log)
            kept = self.message_count - later[0].ordinal if later else 0
            removed = self.message_count - kept - self._repeated(write.reset)
            self._reset(write.reset, write.entries, later)
        changed = self.revision > self.old.revision
        session = SessionRow(
            self.old.pk,
            self.old.tenant,
            self.old.id,
            self.revision,
            self.history_revision,
            self.base,
            self.old.floor,
            self.message_count,
            self.old.created,
            max(self.now, self.old.updated) if changed else self.old.updated,
            log.next_rank(self.old, self.now) if changed or not self.old.rank else self.old.rank,
            *self.details,
        )
        last = self.revision if changed else self.history_revision
        key = None if write.key is None else KeyRow(write.kind.value, last, kept)
        commit = Commit(last, self.history_revision, kept=kept, removed=removed)
        return Decision(commit, session, self.rows, key)

    def _repeated(self, reset: Reset) -> int:
        """Return how many of the current generation's messages the entries hold again."""
        base = self.write.base_revision
        return reset.repeats if base is not None and base >= self.old.base else 0

    def _later(self, reset: Reset, log: Log) -> Sequence[LogRow]:
        base = reset.base_revision
        if base is None or base >= self.history_revision:
            return ()
        return log.messages_after(self.old, base)

    def _reset(self, reset: Reset, entries: Sequence[NewEntry], later: Sequence[LogRow]) -> None:
        self.revision += 1
        self.base = self.history_revision = self.revision
        self.message_count = 0
        last = self.revision + len(entries) + len(later)
        detail = {
            "reason": reset.reason,
            "base": reset.base_revision,
            "closed": self.old.message_count,
        }
        self._row(codec.new_entry(EntryKind.RESET, [codec.encode(detail)]), last)
        for new in entries:
            self._add(new)
        ends = [*(row.ordinal for row in later[1:]), self.old.message_count]
        for row, end in zip(later, ends, strict=False):
            count = end - row.ordinal
            self._add(
                NewEntry(EntryKind.MESSAGE, row.payload, row.checksum, count, row.turn, row.attempt)
            )

    def _add(self, new: NewEntry) -> None:
        self.revision += 1
        ordinal = 0
        if new.kind is EntryKind.MESSAGE:
            ordinal = self.message_count
            self.message_count += new.count
            self.history_revision = self.revision
        elif new.kind is EntryKind.META:
            self.details = changed_details(self.details, codec.decode_object(new.payload))
        self._row(new, ordinal)

    def _row(self, new: NewEntry, ordinal: int) -> None:
        self.rows.append(
            LogRow(
                self.revision,
                new.kind.value,
                ordinal,
                new.turn,
                new.attempt,
                self.now,
                new.payload,
                new.checksum,
            )
        )
