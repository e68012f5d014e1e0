"""What an engine looks after besides writes: turns that stream, and replies that are under way."""

from __future__ import annotations

from typing import Protocol

from holdfast.errors import HoldfastError


class Beating(Protocol):
    """Something that has to do a little at regular times, such as a turn that streams."""

    @property
    def interval_s(self) -> float:
        """How long it is from one beat to the next."""
        ...

    def beat(self, now: float) -> None:
        """Do it, without waiting; `now` is the store's monotonic clock, in seconds."""
        ...

    def fail(self, error: HoldfastError) -> None:
        """Learn that its beat failed."""
        ...

    def retire(self) -> None:
        """Post what is left: the store is about to be closed."""
        ...

    def disown(self) -> None:
        """Do nothing from now on: this is a forked child, and it belongs to the parent."""
        ...


class UnderWay(Protocol):
    """Something that needs the store until it is over, such as a reply: closing waits for it."""

    def finish(self) -> None:
        """Wait for its end; raise, without waiting, where it could never come."""
        ...

    def interrupt(self) -> None:
        """Ask it to end soon."""
        ...
