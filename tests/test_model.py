"""The public API against a plain model of it, written from the small print and nothing else.

Two tenants use the same session ids; the SQLite store is driven through two engines by turns.
"""

from __future__ import annotations

import copy
import operator
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from holdfast.errors import Conflict, HoldfastError, SessionNotFound
from holdfast.model.commit import Commit
from holdfast.rules.history import History
from holdfast.store.backend import Backend
from holdfast.store.engine import Engine
from holdfast.store.memory import MemoryBackend
from holdfast.store.sources import Sources
from holdfast.store.sync_store import SessionStore
from holdfast.store.urls import backend_for

TENANTS = ("one", "two")
IDS = ("a", "b")
KEYS = ("k", "l")

Item: TypeAlias = tuple[str, int | None]
"""A message: its content, and the number in its metadata, which no history shows."""

places = st.tuples(st.sampled_from(TENANTS), st.sampled_from(IDS))
contents = st.lists(st.sampled_from("xyz"), max_size=3)
keys = st.none() | st.sampled_from(KEYS)
engines = st.integers(0, 1)

FORMS: tuple[Callable[[History], History], ...] = (
    lambda history: history,
    lambda history: history[:],
    lambda history: operator.add(history, []),
    History.copy,
    copy.deepcopy,
)


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
    keys: dict[str, tuple[str, Commit]] = field(default_factory=dict)

    def at(self, revision: int) -> list[Item]:
        """The history as it was."""
        return self.past[revision]


@dataclass
class Held:
    """A history that somebody read and has not handed back yet."""

    place: tuple[str, str]
    history: History
    items: list[Item]
    base: int | None


class Model(RuleBasedStateMachine):
    """Every rule does one thing to the store and to the model, and compares what came of it."""

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

    # Rules

    @rule(
        place=places,
        texts=contents,
        key=keys,
        expected=st.none() | st.integers(0, 9),
        engine=engines,
    )
    def add(
        self,
        place: tuple[str, str],
        texts: list[str],
        key: str | None,
        expected: int | None,
        engine: int,
    ) -> None:
        """Add messages, perhaps with a key and an expectation of some known revision."""
        revision = None if expected is None else self.some_revision(place, expected)
        messages = self.new(texts, numbered=True)
        session = self.sessions.get(place)
        used = session.keys.get(key) if session and key else None
        wrong: type[HoldfastError] | None = None
        if used is not None:
            wrong = Conflict if used[0] != "add" else None
        elif revision is not None and session is None:
            wrong = SessionNotFound if revision > 0 else None
        elif revision is not None and session is not None:
            holds = session.history_revision <= revision <= session.revision
            wrong = None if holds else Conflict

        def write() -> Commit:
            return self.store(place, engine).add_messages(
                place[1], messages, expected_revision=revision, key=key
            )

        if wrong is not None:
            with pytest.raises(wrong):
                write()
            return
        commit = write()
        if used is not None:
            assert commit.replayed
            assert commit.revision == used[1].revision
            return
        items = [*(session.items if session else []), *map(item, messages)]
        self.changed(place, items, commit, key=("add", key), reset=False)

    @rule(place=places, engine=engines)
    def load(self, place: tuple[str, str], engine: int) -> None:
        """Read a history, to be handed back some time."""
        history = self.store(place, engine).get_chat_history(place[1])
        session = self.sessions.get(place)
        items = session.items if session else []
        assert history.revision == (session.history_revision if session else 0)
        self.held.append(Held(place, history, list(items), history.revision))

    @precondition(lambda self: self.sessions)
    @rule(place=places, number=st.integers(0, 9))
    def load_past(self, place: tuple[str, str], number: int) -> None:
        """Read an earlier history: it carries no base."""
        session = self.sessions.get(place)
        if session is None:
            return
        revision = sorted(session.past)[number % len(session.past)]
        history = self.store(place).get_chat_history(place[1], at=revision)
        self.held.append(Held(place, history, list(session.past[revision]), None))

    @precondition(lambda self: self.held)
    @rule(
        number=st.integers(0, 9),
        elsewhere=st.none() | places,
        cut=st.lists(st.integers(0, 5), max_size=2),
        front=contents,
        back=contents,
        numbered=st.booleans(),
        form=st.sampled_from(FORMS),
        key=keys,
        engine=engines,
    )
    def save(
        self,
        *,
        number: int,
        elsewhere: tuple[str, str] | None,
        cut: list[int],
        front: list[str],
        back: list[str],
        numbered: bool,
        form: Callable[[History], History],
        key: str | None,
        engine: int,
    ) -> None:
        """Change a history that was read and hand it back, perhaps to another session."""
        held = self.held[number % len(self.held)]
        history = form(held.history)
        for index in cut:
            del history[index : index + 1]
        history[:0] = self.new(front if len(front) == 1 else [], numbered=numbered)
        history.extend(self.new(back, numbered=numbered))
        place = elsewhere or held.place
        base = held.base if place == held.place else None
        saved = self.hand_back(place, history, base, held.items, key=key, engine=engine)
        self.held.remove(held)
        session = self.sessions.get(place)
        if saved and session is not None:
            assert list(history) == [plain(one) for one in session.items]
            assert history.revision == session.history_revision
            self.held.append(Held(place, history, list(session.items), history.revision))

    @rule(place=places, others=contents, key=keys, engine=engines, again=st.booleans())
    def rewrite_late(
        self,
        *,
        place: tuple[str, str],
        others: list[str],
        key: str | None,
        engine: int,
        again: bool,
    ) -> None:
        """Save a rewrite after others added, and perhaps another one from the same base."""
        store, session = self.store(place, engine), self.sessions.get(place)
        items = list(session.items) if session else []
        history = store.get_chat_history(place[1])
        stale, base = history.copy(), history.revision
        self.add(place=place, texts=others, key=None, expected=None, engine=engine + 1)
        history[:1] = self.new(["x"], numbered=True)
        self.hand_back(place, history, base, items, key=key, engine=engine)
        if again:
            stale[:1] = self.new(["y"], numbered=True)
            self.hand_back(place, stale, base, items, key=key, engine=engine + 1)

    @rule(place=places, texts=contents, engine=engines, recreate=st.booleans())
    def save_after_delete(
        self, *, place: tuple[str, str], texts: list[str], engine: int, recreate: bool
    ) -> None:
        """Save a history whose session was deleted since, and perhaps begun again."""
        session = self.sessions.get(place)
        items = list(session.items) if session else []
        history = self.store(place, engine).get_chat_history(place[1])
        base = history.revision
        self.delete(place=place, engine=engine + 1)
        if recreate:
            self.add(place=place, texts=["z"], key=None, expected=None, engine=engine)
        history.extend(self.new(texts, numbered=True))
        self.hand_back(place, history, base, items, key=None, engine=engine)

    @rule(place=places, texts=contents, numbered=st.booleans(), key=keys, engine=engines)
    def replace(
        self,
        *,
        place: tuple[str, str],
        texts: list[str],
        numbered: bool,
        key: str | None,
        engine: int,
    ) -> None:
        """Save a plain list: it becomes the history."""
        session = self.sessions.get(place)
        pool = session.items if session else []
        self.hand_back(
            place, self.new(texts, numbered=numbered), None, pool, key=key, engine=engine
        )

    @rule(place=places, engine=engines)
    def clear(self, place: tuple[str, str], engine: int) -> None:
        """Clear a session: its past stays."""
        store, session = self.store(place, engine), self.sessions.get(place)
        assert store.clear_session(place[1]) == bool(session and session.items)
        if session is not None:
            revision = store.get_session(place[1]).revision
            self.changed(place, [], Commit(revision, revision), reset=True)

    @rule(place=places, engine=engines)
    def delete(self, place: tuple[str, str], engine: int) -> None:
        """Delete a session: none of its revisions fits anything any more."""
        session = self.sessions.pop(place, None)
        assert bool(self.store(place, engine).delete_session(place[1])) == (session is not None)
        if session is not None:
            self.gone.setdefault(place, set()).update(session.past)

    @rule(place=places, title=st.sampled_from(["t", "u"]), engine=engines)
    def create(self, place: tuple[str, str], title: str, engine: int) -> None:
        """Create a session, unless it is there."""
        store = self.store(place, engine)
        if place in self.sessions:
            with pytest.raises(Conflict):
                store.create_session(place[1], title=title)
            return
        info = store.create_session(place[1], title=title)
        history = store.get_chat_history(place[1])
        self.changed(place, [], Commit(info.revision, history.revision), reset=True)
        self.sessions[place].title = title

    @rule(place=places, value=st.sampled_from([1, True, "v"]), engine=engines)
    def describe(self, place: tuple[str, str], value: Any, engine: int) -> None:
        """Change title and metadata: no part of the history."""
        store, session = self.store(place, engine), self.sessions.get(place)
        if session is None:
            with pytest.raises(SessionNotFound):
                store.rename_session(place[1], "x")
            return
        session.title = str(value)
        session.metadata[str(value)] = value
        store.rename_session(place[1], str(value))
        info = store.update_session_metadata(place[1], **{str(value): value})
        assert info.revision > session.revision
        session.revision = info.revision
        session.past[info.revision] = session.items

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
            if session is None or base not in session.past:
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


class MemoryModel(Model):
    """The model against the memory backend."""

    engine_count = 1

    def backend(self, folder: Path, sources: Sources) -> Backend:  # noqa: ARG002 - no files
        """A log in memory."""
        return MemoryBackend(sources)


class SqliteModel(Model):
    """The model against one SQLite file and two engines."""

    engine_count = 2

    def backend(self, folder: Path, sources: Sources) -> Backend:
        """The example's file."""
        path = str(folder / "model.db")
        return backend_for(path, durability="relaxed", timeout_s=30, sources=sources)


BOUNDS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestMemory = MemoryModel.TestCase
TestMemory.settings = settings(BOUNDS, max_examples=150, stateful_step_count=40)
TestSqlite = SqliteModel.TestCase
TestSqlite.settings = settings(BOUNDS, max_examples=40, stateful_step_count=30)
