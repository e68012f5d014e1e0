"""Rewinding, forking, compacting, labelling, purging, exporting: the past as the model has it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from holdfast.errors import Conflict, HoldfastError, InvalidArgument, Purged, SessionNotFound
from holdfast.model.commit import Commit, Purge
from tests.model.base import IDS, TENANTS, Base, Item, Session, contents, engines, item

LABELS = ("l", "m")
numbers = st.integers(0, 5)
points = st.integers(-3, 9) | st.sampled_from(LABELS)
"""-n, a number of some revision, or a label."""


class Past(Base):
    """Rules about what was, and about what becomes of it."""

    @rule(number=numbers, point=points, engine=engines)
    def rewind(self, number: int, point: int | str, engine: int) -> None:
        """Make the history what it was somewhere."""
        place = self.somewhere(number)
        store = self.store(place, engine)
        at, wanted = self.lookup(place, point)
        if not isinstance(wanted, list):
            with pytest.raises(wanted):
                store.rewind_session(place[1], at)
            return
        before = self.sessions[place].items
        commit = store.rewind_session(place[1], at)
        assert commit.kept == 0
        if isinstance(at, int) and at < 0:
            assert commit.removed == -at
        assert commit.removed >= len(before) - len(wanted)
        self.changed(place, list(wanted), commit, reset=True)

    @rule(number=numbers, name=st.sampled_from(IDS), point=points, engine=engines)
    def fork(self, *, number: int, name: str, point: int | str, engine: int) -> None:
        """Make a session of what another was somewhere."""
        place = self.somewhere(number)
        name = next((free for free in IDS if (place[0], free) not in self.sessions), name)
        store, target = self.store(place, engine), (place[0], name)
        at, wanted = self.lookup(place, point)
        if not isinstance(wanted, list):
            with pytest.raises(wanted):
                store.fork_session(place[1], name, at=at)
            return
        if target in self.sessions:
            with pytest.raises(Conflict):
                store.fork_session(place[1], name, at=at)
            return
        info = store.fork_session(place[1], name, at=at)
        revision = store.get_chat_history(name).revision
        self.changed(target, list(wanted), Commit(info.revision, revision), reset=False)
        original, fork = self.sessions[place], self.sessions[target]
        fork.title, fork.metadata = original.title, dict(original.metadata)

    @rule(
        number=numbers, others=contents, keep=st.integers(0, 4), engine=engines, late=st.booleans()
    )
    def compact(
        self, *, number: int, others: list[str], keep: int, engine: int, late: bool
    ) -> None:
        """Summarise a history, as it is or as it was read, perhaps after others wrote."""
        place = self.somewhere(number)
        store, session = self.store(place, engine), self.sessions.get(place)
        held = [one for one in self.held if one.place == place and one.base is not None]
        base: Any = None
        items = list(session.items) if session else []
        wrong: type[HoldfastError] | None = None if session else SessionNotFound
        if held:
            base, items = held[-1].history, held[-1].items
            wrong = self.refusal(session, base.revision)
        if late and session is not None:
            if base is None:
                base = store.get_chat_history(place[1])
            added = self.new(others, numbered=True)
            commit = self.store(place, engine + 1).add_messages(place[1], added)
            self.changed(place, [*session.items, *map(item, added)], commit, reset=False)
        (summary,) = self.new(["s"], numbered=True)
        if wrong is not None:
            with pytest.raises(wrong):
                store.compact_session(place[1], summary, keep_last=keep, base=base)
            return
        assert session is not None
        later = session.items[len(items) :]
        commit = store.compact_session(place[1], summary, keep_last=keep, base=base)
        assert commit.kept == len(later)
        assert commit.removed == max(0, len(items) - keep)
        kept = items[max(0, len(items) - keep) :]
        self.changed(place, [("s", self.number), *kept, *later], commit, reset=True)

    @rule(number=numbers, name=st.sampled_from(LABELS), point=st.none() | points, engine=engines)
    def label(self, *, number: int, name: str, point: int | str | None, engine: int) -> None:
        """Name a revision."""
        place = self.somewhere(number)
        store, session = self.store(place, engine), self.sessions.get(place)
        at, wanted = (None, []) if point is None and session else self.lookup(place, point or 0)
        if not isinstance(wanted, list):
            with pytest.raises(wanted):
                store.label(place[1], name, at=at)
            return
        assert session is not None
        try:
            revision = store.label(place[1], name, at=at).revision
        except InvalidArgument:
            assert isinstance(at, int)
            assert at < 0  # inside of a commit
            return
        named = store.get_session(place[1]).labels[name]
        session.labels[name] = named
        session.revision = revision
        session.past[revision] = session.items
        if at is None:
            assert named == session.history_revision
        else:
            session.past.setdefault(named, wanted)
            assert session.past[named] == wanted

    @rule(number=numbers, alone=st.booleans(), old=st.booleans(), engine=engines)
    def purge(self, *, number: int, alone: bool, old: bool, engine: int) -> None:
        """Remove what is not current, of one session or of all of a tenant's, unless it is new."""
        place = self.somewhere(number)
        store = self.store(place, engine)
        tenants = {p: s for p, s in self.sessions.items() if p[0] == place[0]}
        going = {p: s for p, s in tenants.items() if s.closed and (not alone or p == place)}
        if alone and place not in tenants:
            with pytest.raises(SessionNotFound):
                store.purge(place[1])
            return
        age = timedelta(days=1) if old else None
        purged = store.purge(place[1] if alone else None, older_than=age)
        if old or not going:
            assert purged == Purge()
            return
        assert (purged.sessions, purged.generations, purged.messages) == (
            len(going),
            sum(len(session.closed) for session in going.values()),
            sum(sum(session.closed) for session in going.values()),
        )
        for session in going.values():
            session.purge()

    @rule(number=numbers, tenant=st.sampled_from(TENANTS), name=st.sampled_from(IDS))
    def transfer(self, number: int, tenant: str, name: str) -> None:
        """Export a session and import it, under another id or for another tenant."""
        place = self.somewhere(number)
        session, target = self.sessions.get(place), (tenant, name)
        if session is None:
            with pytest.raises(SessionNotFound):
                self.store(place).export_session(place[1])
            return
        text = self.store(place).export_session(place[1])
        if target in self.sessions:
            with pytest.raises(Conflict):
                self.store(target).import_session(text, name)
            return
        info = self.store(target, 1).import_session(text, name)
        self.sessions[target] = session.moved(info.revision - session.revision)
        assert self.store(target).export_session(name) == text.replace(
            f'"id":"{place[1]}"', f'"id":"{name}"', 1
        )

    # Where, and where points lead

    def somewhere(self, number: int) -> tuple[str, str]:
        """A place, mostly one where there is a session."""
        known = sorted(self.sessions)
        return known[number % len(known)] if known and number else (TENANTS[0], IDS[0])

    def lookup(
        self, place: tuple[str, str], point: int | str
    ) -> tuple[int | str, list[Item] | type[HoldfastError]]:
        """What to say for a point, and what is there, or how it is refused."""
        session = self.sessions.get(place)
        if isinstance(point, str):
            if session is None:
                return point, SessionNotFound
            if point not in session.labels:
                return point, InvalidArgument
            return point, session.past.get(session.labels[point], Purged)
        if point < 0:
            if session is None:
                return point, SessionNotFound
            users = len(session.items)
            return point, session.items[:point] if -point <= users else InvalidArgument
        revision = self.some_revision(place, point)
        if session is None or revision not in session.past.keys() | session.purged:
            return revision, SessionNotFound
        return revision, session.past.get(revision, Purged)

    def refusal(self, session: Session | None, base: int) -> type[HoldfastError] | None:
        """How a compaction on a base is refused."""
        if session is None or base not in session.past.keys() | session.purged:
            return SessionNotFound
        if base in session.purged:
            return Purged
        return Conflict if base < session.began else None
