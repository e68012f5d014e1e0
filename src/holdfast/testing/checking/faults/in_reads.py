"""Faults of reads: of a state that never was, too old, too new, backwards, or of what is gone."""

from __future__ import annotations

from msgspec import structs

from holdfast.testing.checking.faults.plot import Fault, Operations, Plot
from holdfast.testing.checking.operation import (
    FINAL,
    THERE,
    Delete,
    LogSeen,
    Read,
    ReadLog,
    Refused,
    Seen,
)
from holdfast.testing.checking.violation import Rule


def _lacking(plot: Plot) -> Operations | None:
    found = plot.one_of(plot.reads(least=2))
    if found is None:
        return None
    operation, seen = found
    index = plot.random.randrange(len(seen.messages))
    messages = seen.messages[:index] + seen.messages[index + 1 :]
    return plot.told(operation, structs.replace(seen, messages=messages))


def _reordered(plot: Plot) -> Operations | None:
    found = plot.one_of(plot.reads(least=2))
    if found is None:
        return None
    operation, seen = found
    *rest, one, other = seen.messages
    return plot.told(operation, structs.replace(seen, messages=(*rest, other, one)))


def _half_rewritten(plot: Plot) -> Operations | None:
    """Show what a reader would see between a reset and its messages."""
    read, rewrite = plot.one_of(plot.reads()), plot.one_of(plot.rewrites())
    if read is None or rewrite is None or rewrite[0].first == rewrite[0].last:
        return None
    return plot.told(read[0], Seen(rewrite[0].first, ()))


def _stale(plot: Plot) -> Operations | None:
    """Show a state from before a write of somebody else that had been acknowledged."""
    return _outdated(plot, own=False, write=True)


def _own_write_missing(plot: Plot) -> Operations | None:
    return _outdated(plot, own=True, write=True)


def _backwards(plot: Plot) -> Operations | None:
    return _outdated(plot, own=True, write=False)


def _outdated(plot: Plot, *, own: bool, write: bool) -> Operations | None:
    """Show the state before the latest that the reader must have seen, for one reason alone."""
    timeline = plot.timeline
    reads = plot.reads(least=1)
    plot.random.shuffle(reads)
    for operation, _ in reads[:20]:
        before = plot.told_before(operation)
        wanted = [
            one.revision
            for one in before
            if (one.operation.client == operation.client) is own and one.changes is write
        ]
        mine = [one for one in before if one.operation.client == operation.client]
        others = [one.revision for one in mine if not own or one.changes is not write]
        latest = max(wanted, default=0)
        change = timeline.change_at(latest) if timeline and latest else None
        if change is None or timeline is None:
            continue
        if own and not write:  # what the client wrote comes first in a report
            others = [one.revision for one in mine if one.changes]
        elif own:
            others = []
        if change.history_revision_before >= max(others, default=timeline.start):
            return plot.told(operation, plot.state(change.history_revision_before))
    return None


def _from_the_future(plot: Plot) -> Operations | None:
    found = plot.one_of(
        (read, change)
        for read, _ in plot.reads()
        for change, author in plot.adds()
        if author.invoked > read.answered
    )
    return None if found is None else plot.told(found[0], plot.state(found[1].last))


def _undead(plot: Plot) -> Operations | None:
    """Show a deleted session's history once more."""
    deletions = [
        one for one in plot.operations if isinstance(one.call, Delete) and one.outcome == THERE
    ]
    found = plot.one_of(
        (after, before.outcome)
        for deletion in deletions
        for before in plot.operations
        if isinstance(before.outcome, Seen)
        and before.outcome.messages
        and before.call == Read()
        and before.answered < deletion.invoked
        for after in plot.operations
        if after.invoked > deletion.answered
        and after.call == Read()
        and isinstance(after.outcome, Seen)
    )
    return None if found is None else plot.told(*found)


def _vanished(plot: Plot) -> Operations | None:
    if not plot.single or any(isinstance(one.call, Delete) for one in plot.operations):
        return None
    gone = [
        structs.replace(
            one,
            outcome=Seen(0, ()) if isinstance(one.call, Read) else Refused("session_not_found"),
        )
        for one in plot.operations
        if one.client == FINAL
    ]
    return plot.with_(*gone)


def _log_changed(plot: Plot) -> Operations | None:
    found = plot.one_of(
        (one, one.outcome.entries)
        for one in plot.operations
        if one.call == ReadLog()
        and one.client != FINAL
        and isinstance(one.outcome, LogSeen)
        and one.outcome.entries
        and plot.timeline is not None
        and one.outcome.entries[0].revision > plot.timeline.start
    )
    if found is None:
        return None
    operation, entries = found
    changed = structs.replace(entries[-1], messages=("user:changed",))
    return plot.told(operation, LogSeen((*entries[:-1], changed)))


FAULTS = (
    Fault("a read lacks a committed message", Rule.READ, _lacking),
    Fault("a read of another order", Rule.READ, _reordered),
    Fault("a read of a half-replaced history", Rule.READ, _half_rewritten),
    Fault("a read that misses an acknowledged write", Rule.REAL_TIME, _stale),
    Fault("a read that misses the client's own write", Rule.OWN_WRITES, _own_write_missing),
    Fault("a read of less than was read before", Rule.MONOTONIC, _backwards),
    Fault("a read of what was written later", Rule.REAL_TIME, _from_the_future),
    Fault("a read of a deleted history", Rule.DELETION, _undead),
    Fault("a session that nobody deleted is gone", Rule.DELETION, _vanished),
    Fault("an entry of the log was changed", Rule.LOG, _log_changed),
)
