"""Who has to know when this process forks: whatever holds files that a child must not share."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forking(Protocol):
    """Something that lets go of its files before a fork, and starts anew in the child."""

    def before_fork(self) -> None:
        """Let go of every file."""
        ...

    def after_fork_in_parent(self) -> None:
        """Go on as before."""
        ...

    def after_fork_in_child(self) -> None:
        """Start anew."""
        ...


_known: weakref.WeakSet[Forking] = weakref.WeakSet()


def tell_of_forks(one: Forking) -> None:
    """Call `one` around every fork, for as long as it is there."""
    _known.add(one)


def _before_fork() -> None:
    for one in list(_known):
        one.before_fork()


def _after_fork_in_parent() -> None:
    for one in list(_known):
        one.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for one in list(_known):
        one.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
