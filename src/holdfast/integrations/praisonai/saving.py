"""Saving a plain list on the read that it comes from."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.errors import Conflict
from holdfast.integrations.praisonai.readings import Reading
from holdfast.model.message import Message
from holdfast.store.sync_store import SessionStore


def save(store: SessionStore, reading: Reading, given: list[Message]) -> int:
    """Save a list on its base, and return the revision of the history then.

    What follows everything that was read is appended. Any other list is a rewrite; if somebody else
    rewrote the history first, that stands, and what is new at the end of the list is appended.
    """
    session_id, at = reading.place[2], reading.revision
    base: list[Message] = store.get_chat_history(session_id, at=at) if at else []
    if reading.begins(given):
        whole = [*base, *given[len(reading.view) :]]
        return store.set_chat_history(session_id, whole, base_revision=at).history_revision
    seen = reading.view[reading.lead :]
    if seen and base[-len(seen) :] != seen:
        raise Conflict(
            f"others wrote into session {session_id!r} before this list was saved last time, and "
            "it lacks their messages",
            hint="read the history again, and change that",
        )
    try:
        commit = store.set_chat_history(session_id, given, base_revision=at)
    except Conflict:
        tail = after_cut(reading.view, given)
        if tail is None:
            raise
        commit = store.set_chat_history(session_id, [*base, *tail], base_revision=at)
    return commit.history_revision


def after_cut(view: Sequence[Message], given: Sequence[Message]) -> Sequence[Message] | None:
    """Return what is new in a list whose beginning was cut off, as a window or a summary does.

    That is system messages, then the end of what was read, then new messages; `None` for any other
    list, such as one with a changed message.
    """
    for start in range(len(given)):
        for length in range(min(len(view), len(given) - start), 0, -1):
            if given[start : start + length] == view[-length:]:
                return given[start + length :]
        if given[start]["role"] not in ("system", "developer"):
            break
    return None
