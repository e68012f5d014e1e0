"""What whoever waits for a write is told when the engine has something to say itself."""

from __future__ import annotations

from holdfast.errors import HoldfastError, OutcomeUnknown, Unavailable
from holdfast.store.backend import Outcome, Result


def result(outcome: Outcome) -> Result:
    """Return what a write answers, or raise what kept it from happening."""
    if isinstance(outcome, HoldfastError):
        raise outcome
    return outcome


def not_sent() -> Unavailable:
    """Return what a write is told that was still queued at its deadline."""
    return Unavailable(
        "the deadline passed before the write's turn came; it was not written",
        code="deadline",
        hint="another process may hold the store: holdfast doctor shows which",
    )


def not_answered() -> OutcomeUnknown:
    """Return what a write is told that was in flight at its deadline."""
    return OutcomeUnknown("the deadline passed while the write was being committed")


def no_thread(error: RuntimeError) -> Unavailable:
    """Return what a write is told when nobody can be started to commit it."""
    failure = Unavailable(
        f"no thread can be started to commit on: {error}; nothing was written",
        code="no_thread",
        hint="end some threads, then try again",
    )
    failure.__cause__ = error
    return failure


def reentrant() -> Unavailable:
    """Return what a write is told that would wait for the commit that it interrupts."""
    return Unavailable(
        "a finalizer or a signal handler cannot write while its own thread commits",
        retryable=False,
        code="reentrant",
        hint="write from another thread",
    )


def unexpected(error: Exception) -> OutcomeUnknown:
    """Return what a write is told when its commit failed in a way that has no name."""
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
