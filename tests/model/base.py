"""What a store should be, step by step: a plain model, written from the small print alone."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant
from msgspec import structs

from holdfast.errors import Conflict, HoldfastError, Purged, SessionNotFound
from holdfast.model.commit import Commit
from holdfast.rules.history import History
from holdfast.store.backend import Backend
from holdfast.store.engine import Engine
from holdfast.store.sources import Sources
from holdfast.store.sync_store import SessionStore

TENANTS = ("one", "two")
IDS = ("a", "b", "c")
KEYS = ("k", "l")

Item: TypeAlias = tuple[str, int | None]
"""A message: its content, and the number in its metadata, which no history shows."""

places = st.tuples(st.sampled_from(TENANTS), st.sampled_from(IDS[:2]))
contents = st.lists(st.sampled_from("xyz"), max_size=3)
keys = st.none() | st.sampled_from(KEYS)
engines = st.integers(0, 1)


@dataclass
class Session:
    """What a session should be."""

    items: list[Item] = field(default_factory=list)
    title: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    revision: int = 0
    history_revision: int = 0
    began: int = 0  # the revision at which the current generation stood for the first time
    past: dict[int, list[Item]] = field(default_factory=dict)
    purged: set[int] = field(default_factory=set)
    closed: list[int] = field(default_factory=list)  # how many messages earlier generations have
    labels: dict[str, int] = field(default_factory=dict)
    keys: dict[str, tuple[str, Commit]] = field(default_factory=dict)

    def purge(self) -> None:
        """Forget all generations but the current one."""
        if self.closed:
            self.purged |= {revision for revision in self.past if revision < self.began}
            self.past = {r: items for r, items in self.past.items() if r >= self.began}
            self.closed = []

    def moved(self, by: int) -> Session:
        """The same session with other revisions, those that its keys remember too."""
        return Session(
            items=self.items,
            title=self.title,
            metadata=dict(self.metadata),
            revision=self.revision + by,
            history_revision=self.history_revision + by,
            began=self.began + by if self.began else 0,
            past={revision + by: items for revision, items in self.past.items()},
            purged={revision + by for revision in self.purged},
            closed=list(self.closed),
            labels={name: revision + by for name, revision in self.labels.items()},
            keys={
                key: (kind, structs.replace(commit, revision=commit.revision + by))
                for key, (kind, commit) in self.keys.items()
            },
        )


@dataclass
class Held:
    """A history that somebody read and has not handed back yet."""

    place: tuple[str, str]
    history: History
    items: list[Item]
    base: int | None


class Base(RuleBasedStateMachine):
    """The stores, the model of them, and what holds of both after every step."""

    engine_count: ClassVar[int]

    def backend(self, folder: Path, sources: Sources) -> Backend:
        """A backend on this example's data."""
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.closing = ExitStack()
        folder = Path(self.closing.enter_context(tempfile.TemporaryDirectory()))
        self.clock = 1_700_000_000_000
        sources = Sources(now_ms=self.now_ms)
        self.stores: list[dict[str, SessionStore]] = []
        for _ in range(self.engine_count):
            backend = self.backend(folder, sources)
            backend.open()
            engine = Engine(backend, sources)
            self.closing.callback(engine.close)
            self.stores.append({t: SessionStore(engine, t, sources, 30) for t in TENANTS})
        self.sessions: dict[tuple[str, str], Session] = {}
        self.gone: dict[tuple[str, str], set[int]] = {}
        self.held: list[Held] = []
        self.number = 0

    def now_ms(self) -> int:
        """Time that never stands still."""
        self.clock += 1
        return self.clock

    def teardown(self) -> None:
        """Close what the example opened."""
        self.closing.close()

    def store(self, place: tuple[str, str], engine: int = 0) -> SessionStore:
        """One of the stores of a place's tenant."""
        return self.stores[engine % self.engine_count][place[0]]

    def new(self, texts: list[str], *, numbered: bool) -> list[dict[str, Any]]:
        """Messages that nobody stored yet."""
        found: list[dict[str, Any]] = []
        for text in texts:
            message: dict[str, Any] = {"role": "user", "content": text}
            if numbered:
                self.number += 1
                message["metadata"] = {"n": self.number}
            found.append(message)
        return found

    # What holds after every step

    @invariant()
    def stores_agree(self) -> None:
        """Every session is what the model says, now and at every earlier revision."""
        for tenant in TENANTS:
            store = self.stores[0][tenant]
            known = {name for owner, name in self.sessions if owner == tenant}
            assert {info.id for info in store.list_sessions()} == known
        for tenant in TENANTS:
            for name in IDS:
                self.agrees((tenant, name))

    def agrees(self, place: tuple[str, str]) -> None:
        """One session is what the model says."""
        store, name = self.stores[-1][place[0]], place[1]
        session = self.sessions.get(place)
        for revision in self.gone.get(place, ()):
            with pytest.raises(SessionNotFound):
                store.get_chat_history(name, at=revision)
        if session is None:
            assert not store.session_exists(name)
            assert store.get_chat_history(name) == []
            return
        info = store.get_session(name)
        assert (info.revision, info.message_count) == (session.revision, len(session.items))
        assert (info.title, repr(info.metadata)) == (session.title, repr(session.metadata))
        history = store.get_chat_history(name)
        assert history.revision == session.history_revision
        assert list(history) == [plain(one) for one in session.items]
        for revision, items in session.past.items():
            assert [item(m) for m in store.get_messages(name, at=revision)] == items
        for revision in session.purged:
            with pytest.raises(Purged):
                store.get_chat_history(name, at=revision)
        assert info.labels == session.labels
        for label, revision in session.labels.items():
            if revision in session.past:
                found = [item(m) for m in store.get_messages(name, at=label)]
                assert found == session.past[revision]
        assert store.stats(name).generations == len(session.closed) + 1
        stored = store.get_messages(name)
        assert [item(m) for m in stored] == session.items

    @invariant()
    def checks_out(self) -> None:
        """The store finds nothing wrong with itself."""
        for store in self.stores[-1].values():
            assert store.verify().problems == []

    # The model's own rules

    def hand_back(
        self,
        place: tuple[str, str],
        given: list[dict[str, Any]],
        base: int | None,
        pool: list[Item],
        *,
        key: str | None,
        engine: int,
    ) -> bool:
        """Save a list on a base, or on none, and say whether it was written."""
        session = self.sessions.get(place)
        wanted = [item(message) for message in given]
        used = session.keys.get(key) if session and key else None
        begins = wanted[: len(pool)] == [(text, None) for text, _ in pool]
        appends = base is not None and begins
        wrong: type[HoldfastError] | None = None
        if used is not None:
            wrong = Conflict if used[0] != "save" else None
        elif base:
            if session is None or (base not in session.past and base not in session.purged):
                wrong = SessionNotFound
            elif not appends and base < session.began:
                wrong = Conflict

        def write() -> Commit:
            return self.store(place, engine).set_chat_history(place[1], given, key=key)

        if wrong is not None:
            before = list(given)
            with pytest.raises(wrong):
                write()
            assert given == before
            return False
        commit = write()
        if used is not None:
            assert (commit.revision, commit.kept) == (used[1].revision, used[1].kept)
            assert commit.replayed
            return False
        now = session.items if session else []
        if appends:
            items, later = [*now, *wanted[len(pool) :]], []
        else:
            later = now[len(pool) :] if base is not None else []
            items = [*stand_ins(wanted, pool), *later]
        assert commit.kept == len(later)
        self.changed(place, items, commit, key=("save", key), reset=not appends)
        return True

    def changed(
        self,
        place: tuple[str, str],
        items: list[Item],
        commit: Commit,
        *,
        key: tuple[str, str | None] = ("", None),
        reset: bool,
    ) -> None:
        """Note what a commit did to a session."""
        session = self.sessions.setdefault(place, Session())
        wrote = reset or len(items) > len(session.items)
        assert commit.history_revision > session.history_revision or not wrote
        assert not commit.replayed
        if reset:
            session.closed.append(len(session.items))
        if session.past:  # inside a rewrite's commit the generation before it is read
            inside = range(session.revision + 1, commit.revision)
            session.past.update(dict.fromkeys(inside, session.items))
        session.items = items
        session.history_revision = commit.history_revision
        session.revision = max(session.revision, commit.revision)
        session.past[commit.revision] = items
        session.past[commit.history_revision] = items
        if reset:
            session.began = commit.revision
        if key[1] is not None:
            session.keys[key[1]] = (key[0], commit)

    def some_revision(self, place: tuple[str, str], number: int) -> int:
        """A revision that a session of this name has, or had before it was deleted, or 0."""
        session = self.sessions.get(place)
        known: list[int] = [
            0,
            1 << 60,
            *self.gone.get(place, ()),
            *(session.past if session else ()),
        ]
        return sorted(known, reverse=True)[number % len(known)]


def item(message: dict[str, Any]) -> Item:
    """A message as the model sees it."""
    return message["content"], message.get("metadata", {}).get("n")


def plain(one: Item) -> dict[str, Any]:
    """A message as a history shows it."""
    return {"role": "user", "content": one[0]}


def stand_ins(wanted: list[Item], pool: list[Item]) -> list[Item]:
    """What is stored for a list: dicts without a number stand for stored messages, each once."""
    left = list(pool)
    found: list[Item] = []
    for one in wanted:
        stored = next((s for s in left if s[0] == one[0]), None) if one[1] is None else None
        if stored is not None:
            left.remove(stored)
        found.append(stored or one)
    return found
