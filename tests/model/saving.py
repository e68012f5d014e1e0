"""Adding, saving, clearing, deleting, describing: what the model's sessions go through."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from holdfast.errors import Conflict, HoldfastError, SessionNotFound
from holdfast.model.commit import Commit
from holdfast.rules.history import History
from tests.model.base import Base, Held, contents, engines, item, keys, places, plain

FORMS: tuple[Callable[[History], History], ...] = (
    lambda history: history,
    lambda history: history[:],
    lambda history: operator.add(history, []),
    History.copy,
    copy.deepcopy,
)


class Saving(Base):
    """Every rule does one thing to the store and to the model, and compares what came of it."""

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
            self.gone.setdefault(place, set()).update(session.past, session.purged)

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
        self.changed(place, [], Commit(info.revision, history.revision), reset=False)
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
