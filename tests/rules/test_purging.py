"""What a purge may remove, whatever floor it is asked for."""

from __future__ import annotations

import pytest

from holdfast.errors import Conflict, SessionNotFound
from holdfast.model.commit import Purge
from holdfast.model.entry import EntryKind, LogRow
from holdfast.model.write import Creation, Write, WriteKind
from holdfast.rules.purging import floor_after
from holdfast.store.engine import Engine
from holdfast.store.memory import MemoryBackend
from holdfast.store.sources import Sources
from holdfast.store.sync_store import SessionStore
from tests.rules.conversations import user


class Purged:
    """A session of three generations, and purges of it with any floor."""

    def __init__(self) -> None:
        self.backend = MemoryBackend(Sources())
        self.store = SessionStore(Engine(self.backend, Sources()), "default", Sources(), 30)
        self.store.add_messages("s", [user("a"), user("b")])
        self.store.rewind_session("s", -1)
        self.store.add_messages("s", [user("c")])
        self.store.rewind_session("s", -1)
        self.store.add_messages("s", [user("d")])

    def rows(self) -> list[LogRow]:
        """The session's log."""
        read = self.backend.read_log("default", "s")
        assert read is not None
        return list(read.rows)

    def purge(self, floor: int) -> object:
        """What a write with this floor comes to."""
        write = Write(
            tenant="default",
            session_id="s",
            kind=WriteKind.PURGE,
            creation=Creation.FORBIDDEN,
            floor=floor,
        )
        (outcome,) = self.backend.commit([write])
        assert self.store.verify().problems == []
        return outcome


def test_never_the_current_generation() -> None:
    """A floor above the current history's beginning is refused, and nothing is removed."""
    purged = Purged()
    before = purged.rows()
    current = [row for row in before if row.kind == EntryKind.RESET][-1].revision
    assert isinstance(purged.purge(current + 1), Conflict)
    assert isinstance(purged.purge(before[-1].revision), Conflict)
    assert purged.rows() == before


def test_never_another_session() -> None:
    """A floor that is no revision of the session, such as a deleted one's, is refused."""
    purged = Purged()
    floor = purged.rows()[-2].revision
    purged.store.delete_session("s")
    assert isinstance(purged.purge(floor), SessionNotFound)
    purged.store.add_messages("s", [user("x")])
    assert isinstance(purged.purge(floor), SessionNotFound)
    assert len(purged.rows()) == 1


def test_never_a_part_of_a_generation() -> None:
    """A floor inside of a generation removes those before that, and leaves it whole."""
    purged = Purged()
    first, second = (row.revision for row in purged.rows() if row.kind == EntryKind.RESET)
    assert purged.purge(second - 1) == Purge(1, 1, 2, "done")
    assert purged.rows()[0].revision == first
    assert purged.purge(first) == Purge()
    assert purged.purge(second) == Purge(1, 1, 2, "done")
    assert purged.rows()[0].revision == second


@pytest.mark.parametrize(
    ("ended_by", "floor"), [(None, 4), (99, 0), (100, 1), (199, 1), (200, 2), (350, 2), (400, 4)]
)
def test_only_what_has_ended(ended_by: int | None, floor: int) -> None:
    """The floor rises over generations that ended by a time, up to the first that did not."""
    purged = Purged()
    read = purged.backend.read_log("default", "s")
    assert read is not None
    (reset, *_) = (row for row in purged.rows() if row.kind == EntryKind.RESET)
    ends = {1: 100, 2: 200, 3: 400, 4: 300}  # the clock went back once
    resets = [reset._replace(revision=read.session.start + n, at=at) for n, at in ends.items()]
    assert floor_after(read.session, resets, ended_by) == read.session.start + floor
