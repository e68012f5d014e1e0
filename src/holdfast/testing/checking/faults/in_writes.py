"""Faults of writes: lost, doubled, swapped, halved, invented, or against what was promised."""

from __future__ import annotations

from msgspec import structs

from holdfast.testing.checking.faults.plot import Fault, Operations, Plot
from holdfast.testing.checking.operation import (
    THERE,
    Add,
    Clear,
    Committed,
    Operation,
    Refused,
    Save,
    Unknown,
)
from holdfast.testing.checking.timeline import Change
from holdfast.testing.checking.violation import Rule


def _lost(plot: Plot) -> Operations | None:
    found = plot.one_of(plot.adds())
    if found is None:
        return None
    change, _ = found
    left = [entry for entry in plot.entries() if entry.revision != change.last]
    return plot.log(left) if left else None  # an empty log says that the session was deleted


def _doubled(plot: Plot) -> Operations | None:
    found = plot.one_of(plot.adds(keyed=False))
    return None if found is None else plot.log_with(found[0].messages)


def _halved(plot: Plot) -> Operations | None:
    found = plot.one_of(plot.adds(least=2))
    if found is None:
        return None
    change, _ = found
    return plot.log_holding({change.last: change.messages[:-1]})


def _halved_unknown(plot: Plot) -> Operations | None:
    found = plot.one_of(plot.adds(keyed=False, least=2))
    if found is None:
        return None
    change, author = found
    unanswered = structs.replace(author, outcome=Unknown())
    return plot.log_holding({change.last: change.messages[:-1]}, unanswered)


def _failed(plot: Plot) -> Operations | None:
    found = plot.one_of(plot.adds(keyed=False))
    return None if found is None else plot.told(found[1], Refused("deadline"))


def _unknown_twice(plot: Plot) -> Operations | None:
    found = plot.one_of(plot.adds(keyed=False))
    if found is None:
        return None
    change, author = found
    return plot.log_with(change.messages, structs.replace(author, outcome=Unknown()))


def _swapped_by_client(plot: Plot) -> Operations | None:
    return _swapped(plot, same_client=True)


def _swapped_in_time(plot: Plot) -> Operations | None:
    return _swapped(plot, same_client=False)


def _swapped(plot: Plot, *, same_client: bool) -> Operations | None:
    """Let two adds change places, in the log and in what was told of them."""
    adds = plot.adds()
    pairs = [
        (first, second)
        for index, first in enumerate(adds)
        for second in adds[index + 1 : index + 8]
        if (first[1].client == second[1].client) is same_client
        and first[1].answered < second[1].invoked
    ]
    pair = plot.one_of(pairs)
    if pair is None:
        return None
    (one, early), (other, late) = pair
    return plot.log_holding(
        {one.last: other.messages, other.last: one.messages},
        _moved(early, other),
        _moved(late, one),
    )


def _moved(operation: Operation, change: Change) -> Operation:
    outcome = Committed(change.last, change.last)
    return structs.replace(operation, outcome=outcome)


def _phantom(plot: Plot) -> Operations | None:
    return plot.log_with(("user:nobody said this",)) if plot.timeline else None


def _leaked(plot: Plot) -> Operations | None:
    stranger = plot.stranger() if plot.timeline else None
    return None if stranger is None else plot.log_with((stranger[1],))


def _key_twice(plot: Plot) -> Operations | None:
    found = plot.one_of(plot.adds(keyed=True))
    return None if found is None else plot.log_with(found[0].messages)


def _replays(plot: Plot) -> list[tuple[Operation, Committed]]:
    """Return the replays of what was acknowledged when it was new."""
    found = []
    for operation in plot.operations:
        outcome = operation.outcome
        if isinstance(outcome, Committed) and outcome.replayed:
            author = plot.case.authors.get(outcome.revision)
            if author is not None and isinstance(author.outcome, Committed):
                found.append((operation, outcome))
    return found


def _replay_moved(plot: Plot) -> Operations | None:
    found = plot.one_of(_replays(plot))
    if found is None:
        return None
    operation, outcome = found
    moved = outcome.revision - 1
    return plot.told(operation, structs.replace(outcome, revision=moved, history_revision=moved))


def _replay_new(plot: Plot) -> Operations | None:
    found = plot.one_of(_replays(plot))
    if found is None:
        return None
    operation, outcome = found
    return plot.told(operation, structs.replace(outcome, replayed=False))


def _dropped_newer(plot: Plot) -> Operations | None:
    found = plot.one_of(
        change
        for change, author in plot.rewrites()
        if isinstance(author.outcome, Committed) and author.outcome.kept
    )
    return None if found is None else plot.log_holding({found.last: ()})


def _kept_wrong(plot: Plot) -> Operations | None:
    found = plot.one_of(plot.rewrites())
    if found is None:
        return None
    outcome = found[1].outcome
    assert isinstance(outcome, Committed)
    return plot.told(found[1], structs.replace(outcome, kept=outcome.kept + 1))


def _two_rewrites(plot: Plot) -> Operations | None:
    """Let a rewrite say a base from before the reset that came last."""
    timeline = plot.timeline
    if timeline is None:
        return None
    found = plot.one_of(
        (change, author)
        for change, author in plot.rewrites()
        if timeline.generation_at(change.first - 1).start > timeline.start
    )
    if found is None:
        return None
    change, author = found
    assert change.reset is not None
    assert isinstance(author.call, Save)
    old = timeline.history_revision_at(timeline.generation_at(change.first - 1).start - 1)
    entries = [
        structs.replace(entry, base=old) if entry.revision == change.first else entry
        for entry in plot.entries()
    ]
    based = structs.replace(author, call=structs.replace(author.call, base=old))
    return plot.log(entries, based)


def _unmet(plot: Plot) -> Operations | None:
    found = plot.one_of(
        (change, author)
        for change, author in plot.adds()
        if isinstance(author.call, Add) and author.call.expected
    )
    if found is None:
        return None
    change, author = found
    assert isinstance(author.call, Add)
    call = structs.replace(author.call, expected=change.history_revision_before - 1)
    return plot.with_(structs.replace(author, call=call))


def _settled_wrong(plot: Plot) -> Operations | None:
    found = plot.one_of(
        (author, author.outcome)
        for _, author in plot.changes()
        if isinstance(author.outcome, Committed) and author.outcome.settled
    )
    if found is None:
        return None
    author, outcome = found
    assert outcome.settled is not None
    settled = structs.replace(outcome.settled, messages=outcome.settled.messages[:-1])
    return plot.told(author, structs.replace(outcome, settled=settled))


def _clear_undone(plot: Plot) -> Operations | None:
    clears = [one for one in plot.operations if isinstance(one.call, Clear)]
    found = plot.one_of(
        change
        for change, author in plot.changes()
        if isinstance(author.call, Clear) and author.outcome == THERE
    )
    if found is None or not plot.single or len(clears) > 1:
        return None
    return plot.log(entry for entry in plot.entries() if entry.revision != found.last)


def _refused_wrongly(plot: Plot) -> Operations | None:
    timeline = plot.timeline
    found = plot.one_of(
        (one, one.outcome.actual)
        for one in plot.operations
        if isinstance(one.outcome, Refused)
        and one.outcome.actual
        and isinstance(one.call, Add)
        and timeline is not None
    )
    if found is None:
        return None
    operation, actual = found
    assert isinstance(operation.call, Add)
    call = structs.replace(operation.call, expected=actual)
    return plot.with_(structs.replace(operation, call=call))


FAULTS = (
    Fault("an acknowledged append is gone", Rule.LOST, _lost),
    Fault("an append stands twice", Rule.ONCE, _doubled),
    Fault("half of a write is there", Rule.WHOLE, _halved),
    Fault("half of an unanswered write is there", Rule.WHOLE, _halved_unknown),
    Fault("a write that failed took effect", Rule.REFUSED, _failed),
    Fault("an unanswered write took effect twice", Rule.UNKNOWN, _unknown_twice),
    Fault("a client's appends are swapped", Rule.APPEND_ORDER, _swapped_by_client),
    Fault("appends of two clients are swapped", Rule.REAL_TIME, _swapped_in_time),
    Fault("a message that nobody sent", Rule.PHANTOM, _phantom),
    Fault("a message of another session", Rule.LEAK, _leaked),
    Fault("a key took effect twice", Rule.KEY, _key_twice),
    Fault("a replay names another revision", Rule.KEY, _replay_moved),
    Fault("a replay says that it is new", Rule.KEY, _replay_new),
    Fault("a rewrite dropped a newer message", Rule.SAVE, _dropped_newer),
    Fault("a rewrite says that it kept more", Rule.SAVE, _kept_wrong),
    Fault("two rewrites of one base", Rule.SAVE, _two_rewrites),
    Fault("a saved list is not what is stored", Rule.SAVE, _settled_wrong),
    Fault("a precondition that did not hold", Rule.PRECONDITION, _unmet),
    Fault("a clear without an effect", Rule.CLEAR, _clear_undone),
    Fault("a conflict with what was expected", Rule.REFUSAL, _refused_wrongly),
)
