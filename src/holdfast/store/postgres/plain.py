"""Which writes a server can do by itself: those that only append, with nothing to decide.

The function `commit_v2` does a whole batch of them in one round trip; what a batch appends to one
session is one append there. It knows the few conditions that an append can have, and where one does
not hold it does nothing: then the rules decide, as they decide about every other write
(`transaction`). So what is refused, and why, is said in one place.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Iterator, Sequence
from typing import TypeVar

from msgspec import Struct

from holdfast.model.commit import Commit
from holdfast.model.entry import EntryKind, NewEntry
from holdfast.model.turn import Held, Holding, Token
from holdfast.model.usage import TurnStatus
from holdfast.model.write import Creation, Write, WriteKind
from holdfast.rules.decision import Answer
from holdfast.store.postgres.arrays import Texts, booleans, integers, texts
from holdfast.store.postgres.calls import integer, text
from holdfast.store.postgres.sharding import shard_of

T = TypeVar("T")

_APPENDING = (WriteKind.ADD, WriteKind.SAVE, WriteKind.TURN)


class Stamped(Struct, frozen=True):
    """A write with an id of its own, by which it is known when it has to be sent again."""

    write: Write
    id: str


class Append:
    """What a batch appends to one session: done whole, or not at all.

    Entries are counted from 1. `ends` says of each write which entry is its last, `histories` which
    is the last with messages so far; both are 0 if there is none. `may_create` says whether it may
    be done where the session is not there yet, `lowest` and `highest` what it is based on.
    """

    __slots__ = (
        "_keys",
        "closes",
        "ends",
        "entries",
        "highest",
        "histories",
        "history",
        "lease",
        "lowest",
        "may_create",
        "messages",
        "stamped",
    )

    def __init__(self) -> None:
        self.stamped: list[Stamped] = []
        self.ends: list[int] = []
        self.histories: list[int] = []
        self.entries: list[NewEntry] = []
        self.messages = 0
        self.history = 0
        self.lease: tuple[Token, str] | None = None
        self.closes = False
        self.may_create = True
        self.lowest: int | None = None
        self.highest: int | None = None
        self._keys: set[str] = set()

    @property
    def first(self) -> Write:
        """The write that says which session it is, and which revision it expects."""
        return self.stamped[0].write

    def takes(self, write: Write) -> bool:
        """Say whether a write can be a part of it; where that is not certain, it cannot."""
        if not is_plain(write):
            return False
        if not self.stamped:
            return True
        if write.expected_revision is not None or write.key in self._keys:
            return False
        if self.history == 0 and _adds_messages(write):
            return False  # the server says what the history's revision is at the end, not before
        lease = _lease(write)
        return lease is None or (not self.closes and self.lease in (None, lease))

    def take(self, stamped: Stamped) -> None:
        """Make a write a part of it."""
        write = stamped.write
        for new in write.entries:
            self.entries.append(new)
            if new.kind is EntryKind.MESSAGE:
                self.messages += new.count
                self.history = len(self.entries)
        self.stamped.append(stamped)
        self.ends.append(len(self.entries))
        self.histories.append(self.history)
        if write.key is not None:
            self._keys.add(write.key)
        base = write.base_revision
        if base:
            self.lowest = base if self.lowest is None else min(self.lowest, base)
            self.highest = base if self.highest is None else max(self.highest, base)
        if base or write.expected_revision or write.turn is not None:
            self.may_create = False
        if write.creation is not Creation.ALLOWED:
            self.may_create = False
        if isinstance(write.turn, Holding):
            self.lease = _lease(write)
            self.closes = self.closes or write.turn.status is not TurnStatus.RUNNING

    def is_lone(self) -> bool:
        """Say whether it is one entry with messages, outside of turns and without conditions."""
        return (
            len(self.stamped) == len(self.entries) == self.history == 1
            and self.lease is None
            and self.first.creation is Creation.ALLOWED
            and self.first.expected_revision is None
            and self.first.base_revision is None
        )

    def answers(
        self, revision: int, history: int, *, interrupted: bool
    ) -> Iterator[tuple[Stamped, Answer]]:
        """Yield what its writes say, when it is done and brought its session to `revision`."""
        start = revision - len(self.entries)
        for stamped, end, last in zip(self.stamped, self.ends, self.histories, strict=True):
            its_history = start + last if last else history
            yield stamped, answer(stamped.write, start + end, its_history, interrupted=interrupted)


def is_plain(write: Write) -> bool:
    """Say whether a write can be left to the server, should its session be as it expects."""
    if write.kind not in _APPENDING or write.reset is not None or write.restored is not None:
        return False
    if write.turn is not None and not _only_writes(write.turn):
        return False
    return write.creation is not Creation.REQUIRED and all(
        new.kind is not EntryKind.META for new in write.entries
    )


def _only_writes(action: object) -> bool:
    return (
        isinstance(action, Holding)
        and action.heard is None
        and action.status is not TurnStatus.WAITING
    )


def _adds_messages(write: Write) -> bool:
    return any(new.kind is EntryKind.MESSAGE for new in write.entries)


def _lease(write: Write) -> tuple[Token, str] | None:
    return (write.turn.token, write.turn.turn) if isinstance(write.turn, Holding) else None


def gathered(
    batch: Sequence[Stamped], decided: Container[str] = ()
) -> tuple[list[Append], list[Stamped]]:
    """Return what a batch appends, session by session, and the writes that are left.

    Of a session's writes, those that are left come after those that are not. What the rules have
    `decided` before, by the ids of its writes, is left to them again.
    """
    appends: dict[str, Append] = {}
    rest: list[Stamped] = []
    stopped: set[str] = set()
    for stamped in batch:
        session_id = stamped.write.session_id
        append = appends.get(session_id) or Append()
        known = session_id in stopped or stamped.id in decided
        if not known and append.takes(stamped.write):
            append.take(stamped)
            appends[session_id] = append
        else:
            stopped.add(session_id)
            rest.append(stamped)
    return list(appends.values()), rest


def parameters(
    wait_ms: str, tenant: str, now: int | None, appends: Sequence[Append]
) -> tuple[bytes | None, ...]:
    """Return what `commit_v2` takes: of each append, then of each write, then of each entry.

    Before it comes how long it may wait for a lock.
    """
    leases = [append.lease for append in appends]
    writes = [
        (number, stamped, (end if stamped.write.entries else last) or None)
        for number, append in enumerate(appends, 1)
        for stamped, end, last in zip(append.stamped, append.ends, append.histories, strict=True)
    ]
    entries = list(_placed(appends))
    return (
        text(wait_ms),
        text(tenant),
        integer(now),
        integers([shard_of(tenant, append.first.session_id) for append in appends]),
        texts([append.first.session_id for append in appends]),
        booleans([append.may_create for append in appends]),
        _unless_null(integers, [append.first.expected_revision for append in appends]),
        _unless_null(integers, [append.lowest for append in appends]),
        _unless_null(integers, [append.highest for append in appends]),
        _unless_null(integers, [lease and lease[0].session for lease in leases]),
        _unless_null(integers, [lease and lease[0].fence for lease in leases]),
        _unless_null(texts, [lease and lease[1] for lease in leases]),
        _unless_null(booleans, [append.closes or None for append in appends]),
        integers([len(append.entries) for append in appends]),
        integers([append.messages for append in appends]),
        integers([append.history for append in appends]),
        integers([number for number, _, _ in writes]),
        _kinds([stamped.write.kind for _, stamped, _ in writes]),
        _unless_null(texts, [stamped.write.key for _, stamped, _ in writes]),
        texts([stamped.id for _, stamped, _ in writes]),
        integers([end for _, _, end in writes]),
        integers([number for number, _, _, _ in entries]),
        integers([place for _, place, _, _ in entries]),
        integers([before for _, _, before, _ in entries]),
        _kinds([new.kind for _, _, _, new in entries]),
        _unless_null(texts, [new.turn for _, _, _, new in entries]),
        integers([new.attempt for _, _, _, new in entries]),
        texts([new.payload for _, _, _, new in entries]),
        integers([new.checksum for _, _, _, new in entries]),
    )


def lone_parameters(
    wait_ms: str, tenant: str, now: int | None, append: Append
) -> tuple[bytes | None, ...]:
    """Return what `append_v1` takes, after how long it may wait for a lock."""
    (stamped,), (new,) = append.stamped, append.entries
    write = stamped.write
    return (
        text(wait_ms),
        text(tenant),
        integer(now),
        integer(shard_of(tenant, write.session_id)),
        text(write.session_id),
        text(write.kind.value),
        text(write.key),
        text(stamped.id),
        integer(new.count),
        new.payload,
        integer(new.checksum),
    )


def _placed(appends: Sequence[Append]) -> Iterator[tuple[int, int, int, NewEntry]]:
    """Yield each entry, after its append's number, its place there and the messages before it."""
    for number, append in enumerate(appends, 1):
        before = 0
        for place, new in enumerate(append.entries, 1):
            yield number, place, before, new
            before += new.count


def _kinds(values: Sequence[str]) -> Texts:
    if values and values.count(values[0]) == len(values):
        return _same_kind(values[0], len(values))
    return texts(values)


@functools.lru_cache(maxsize=1024)
def _same_kind(kind: str, count: int) -> Texts:
    return texts(count * [kind])


def _unless_null(
    array: Callable[[Sequence[T | None]], bytes], values: Sequence[T | None]
) -> bytes | None:
    return None if values.count(None) == len(values) else array(values)


def answer(write: Write, revision: int, history: int, *, interrupted: bool) -> Answer:
    """Return what a write that the server has done says."""
    if write.turn is not None:
        return Held(Commit(revision, history), interrupted=interrupted)
    return Commit(revision if write.entries else history, history)
