"""What the engine says of writes, where the backend says nothing or nobody hears it."""

from __future__ import annotations

from holdfast.errors import HoldfastError, OutcomeUnknown, Unavailable
from holdfast.store.backend import Outcome


def not_sent() -> Unavailable:
    """Return the error of a write that was withdrawn from the queue."""
    return Unavailable(
        "the deadline passed before the write's turn came; it was not written",
        code="deadline",
        hint="another process may hold the store: holdfast doctor shows which",
    )


def not_answered() -> OutcomeUnknown:
    """Return the error of a write whose batch is not done yet."""
    return OutcomeUnknown("the deadline passed while the write was being committed")


def no_thread(error: RuntimeError) -> Unavailable:
    """Return the error of a write that only another thread could have committed."""
    failure = Unavailable(
        f"no thread can be started to commit on: {error}; nothing was written",
        code="no_thread",
        hint="end some threads, then try again",
    )
    failure.__cause__ = error
    return failure


def unexpected(error: Exception) -> OutcomeUnknown:
    """Return the error of a write whose commit failed in a way that is a mistake of ours."""
    failure = OutcomeUnknown(f"the commit failed in a way that nobody foresaw: {error!r}")
    failure.__cause__ = error
    return failure


def last_word(outcome: Outcome) -> str:
    """Return what a cancelled task is told of its write."""
    if isinstance(outcome, OutcomeUnknown):
        return "cancelled while committing; whether it was written is unknown"
    if isinstance(outcome, HoldfastError):
        return f"cancelled; nothing was written: {outcome.message}"
    return "cancelled, but the write is committed"
