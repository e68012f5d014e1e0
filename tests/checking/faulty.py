"""Backends that misbehave now and then, to be put between an engine and its real backend."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, cast

from msgspec import structs

from holdfast.errors import Unavailable
from holdfast.model.commit import Commit, Deletion
from holdfast.model.entry import EntryKind, NewEntry
from holdfast.model.write import Reset, Write, WriteKind
from holdfast.rules import codec
from holdfast.store.backend import Backend, HistoryRead, Outcome

CHANCE = 0.04


class Faulty:
    """Forwards everything; what a subclass overrides goes wrong for one call in twenty-five."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.random = random.Random(3)
        self.done = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def strikes(self, *, chance: float = CHANCE) -> bool:
        """Say whether it is time to misbehave."""
        if self.random.random() >= chance:
            return False
        self.done += 1
        return True

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Commit what `changed` makes of the writes."""
        return self.backend.commit([self.changed(write) for write in writes])

    def changed(self, write: Write) -> Write:
        """Return the write that is really done."""
        return write

    def read_history(
        self, tenant: str, session_id: str, *, at: int | None = None, last: int | None = None
    ) -> HistoryRead | None:
        """Read through `shown`."""
        read = self.backend.read_history(tenant, session_id, at=at, last=last)
        return read if read is None or at is not None else self.shown(tenant, read)

    def shown(self, tenant: str, read: HistoryRead) -> HistoryRead:  # noqa: ARG002 - for overriding
        """Return what is shown instead of what was read."""
        return read


class Losing(Faulty):
    """Acknowledges some adds that it does not do."""

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Leave some out."""
        outcomes: list[Outcome] = []
        for write in writes:
            session = self.backend.read_session(write.tenant, write.session_id)
            if session and write.kind is WriteKind.ADD and self.strikes():
                outcomes.append(Commit(session.revision + 1, session.revision + 1))
            else:
                outcomes += self.backend.commit([write])
        return outcomes


class Doubling(Faulty):
    """Does some adds twice."""

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Do some again, without their key."""
        outcomes = self.backend.commit(writes)
        again = [one for one in writes if one.kind is WriteKind.ADD and self.strikes()]
        self.backend.commit([structs.replace(one, key=None) for one in again])
        return outcomes


class Halving(Faulty):
    """Leaves the last message of some writes out."""

    def changed(self, write: Write) -> Write:
        """Take the last line off the last entry."""
        if not write.entries or write.entries[-1].count < 2 or not self.strikes(chance=0.2):
            return write
        *rest, last = write.entries
        lines = last.payload.splitlines()[:-1]
        return structs.replace(write, entries=(*rest, codec.new_entry(last.kind, lines)))


class Lying(Faulty):
    """Does some writes and says that they failed."""

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Report some as not written."""
        return [
            Unavailable("it did not happen, truly") if self.strikes() else outcome
            for outcome in self.backend.commit(writes)
        ]


class Forgetting(Faulty):
    """Forgets idempotency keys."""

    def changed(self, write: Write) -> Write:
        """Take the key away."""
        return structs.replace(write, key=None) if write.key and self.strikes(chance=0.3) else write


class Overwriting(Faulty):
    """Rewrites without looking at what was added since."""

    def changed(self, write: Write) -> Write:
        """Take the base of a rewrite away."""
        if write.reset is None or write.base_revision is None or not self.strikes(chance=0.5):
            return write
        return structs.replace(write, reset=Reset("rewrite"), base_revision=None)


class Careless(Faulty):
    """Does not look at `expected_revision`."""

    def changed(self, write: Write) -> Write:
        """Take the condition away."""
        if write.expected_revision and self.strikes(chance=0.5):
            return structs.replace(write, expected_revision=None)
        return write


class Inventing(Faulty):
    """Adds messages of its own."""

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Add one more after some."""
        outcomes = self.backend.commit(writes)
        for write in writes:
            if write.kind is WriteKind.ADD and self.strikes():
                plain = structs.replace(write, key=None, expected_revision=None)
                self.backend.commit([structs.replace(plain, entries=(_invented(),))])
        return outcomes


def _invented() -> NewEntry:
    line = b'{"role":"user","content":"nobody said this","id":"x","created_at":"y"}'
    return codec.new_entry(EntryKind.MESSAGE, [line])


class Lagging(Faulty):
    """Shows some readers what it showed to an earlier one."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self._earlier: dict[tuple[str, str], HistoryRead] = {}

    def shown(self, tenant: str, read: HistoryRead) -> HistoryRead:
        """Return an old read of the session."""
        place = (tenant, read.session.id)
        earlier = self._earlier.setdefault(place, read)
        if earlier.session.pk == read.session.pk and self.strikes():
            return earlier
        if self.random.random() < 0.2:
            self._earlier[place] = read
        return read


class Tearing(Faulty):
    """Leaves the last message out of some reads."""

    def shown(self, tenant: str, read: HistoryRead) -> HistoryRead:  # noqa: ARG002 - as above
        """Cut a read short."""
        if not read.payloads or not self.strikes():
            return read
        kept = len(codec.split_lines(read.payloads)) - 1
        return structs.replace(read, payloads=codec.first_messages(read.payloads, kept))


class Mixing(Faulty):
    """Shows some readers another tenant's session of the same name."""

    def shown(self, tenant: str, read: HistoryRead) -> HistoryRead:
        """Read across the border."""
        other = "south" if tenant == "north" else "north"
        found = self.backend.read_history(other, read.session.id) if self.strikes() else None
        return found or read


class Keeping(Faulty):
    """Says that it deleted, and did not."""

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Leave every second deletion out."""
        outcomes: list[Outcome] = []
        for write in writes:
            if write.kind is WriteKind.DELETE and self.strikes(chance=0.5):
                outcomes.append(Deletion(existed=True, erasure="done"))
            else:
                outcomes += self.backend.commit([write])
        return outcomes


class Dropping(Faulty):
    """Deletes sessions that nobody wanted deleted."""

    def changed(self, write: Write) -> Write:
        """Delete instead of clearing."""
        if write.kind is WriteKind.CLEAR:
            self.backend.commit(
                [Write(tenant=write.tenant, session_id=write.session_id, kind=WriteKind.DELETE)]
            )
            self.done += 1
        return write


def wrapping(kind: type[Faulty], made: list[Faulty]) -> Callable[[Backend], Backend]:
    """Return what wraps a backend, and puts what it made into `made`."""

    def wrap(backend: Backend) -> Backend:
        made.append(kind(backend))
        return cast(Backend, made[-1])

    return wrap
