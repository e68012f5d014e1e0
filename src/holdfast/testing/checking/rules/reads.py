"""Reads: each is exactly one committed state, whatever was asked for and whenever."""

from __future__ import annotations

from holdfast.testing.checking.case import Case
from holdfast.testing.checking.operation import Committed, Operation, Read, Refused, Seen
from holdfast.testing.checking.timeline import life_of
from holdfast.testing.checking.violation import Rule


def check_reads(case: Case) -> None:
    """Compare every history that was shown with the state at the revision that it carried."""
    for operation in case.operations:
        outcome = operation.outcome
        if isinstance(outcome, Seen) and isinstance(operation.call, Read):
            _check_read(case, operation, operation.call, outcome)
        elif isinstance(outcome, Committed) and outcome.settled is not None:
            _check_settled(case, operation, outcome, outcome.settled)
        elif isinstance(outcome, Refused) and outcome.code == "corrupt_entry":
            case.report(Rule.READ, "an entry is damaged", operation)


def _check_read(case: Case, operation: Operation, call: Read, seen: Seen) -> None:
    revision = seen.revision
    if revision == 0:
        if seen.messages:
            case.report(Rule.READ, "messages were shown without a revision", operation)
        return
    timeline = case.lives[life_of(revision)]
    if not case.knows(revision):
        case.beyond += 1
        _check_births(case, operation, seen)
        return
    if not timeline.is_state(revision):
        case.report(Rule.READ, f"no history was ever at revision {revision}", operation)
        return
    if call.at is not None and revision != timeline.history_revision_at(call.at):
        what = f"at={call.at} showed revision {revision}"
        case.report(Rule.READ, what, operation)
        return
    state = timeline.messages_at(revision)
    if call.limit is not None:
        state = state[max(0, len(state) - call.limit) :]
    if list(seen.messages) != state:
        _check_births(case, operation, seen)
        case.report(Rule.READ, _difference(revision, list(seen.messages), state), operation)


def _check_births(case: Case, operation: Operation, seen: Seen) -> None:
    """Name a message that cannot be in this session, where no log says what should be."""
    for text in seen.messages:
        place, name = case.births.get(text, (None, ""))
        if place is None:
            case.report(Rule.PHANTOM, f"{text!r} was shown", operation)
        elif place != case.place:
            what = f"{text!r} was shown, which {name} sent to session {place}"
            case.report(Rule.LEAK, what, operation)
        else:
            continue
        return


def _check_settled(case: Case, operation: Operation, outcome: Committed, seen: Seen) -> None:
    """A saved `History` is what is stored at the revision of its save."""
    if seen.revision != outcome.history_revision:
        what = f"the saved list says revision {seen.revision}, not {outcome.history_revision}"
        case.report(Rule.SAVE, what, operation)
    elif case.knows(seen.revision):
        state = case.lives[life_of(seen.revision)].messages_at(seen.revision)
        if list(seen.messages) != state:
            what = "the saved list: " + _difference(seen.revision, list(seen.messages), state)
            case.report(Rule.SAVE, what, operation)


def _difference(revision: int, shown: list[str], state: list[str]) -> str:
    missing = [text for text in state if text not in set(shown)]
    surplus = [text for text in shown if text not in set(state)]
    if missing:
        return f"revision {revision} was shown without {missing[0]!r}"
    if surplus:
        return f"revision {revision} was shown with {surplus[0]!r}"
    return f"revision {revision} was shown in another order or number"
