"""Carries out a case's steps on a store, and checks after each what holds for all of them."""

from __future__ import annotations

from typing import assert_never

import pytest

from holdfast.errors import HoldfastError, SessionNotFound
from holdfast.model.commit import Commit
from holdfast.model.entry import Entry
from holdfast.model.message import Message
from holdfast.rules.history import History
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.steps import (
    Add,
    Clear,
    Create,
    Delete,
    Mark,
    Read,
    ReadAt,
    Refused,
    Rename,
    Save,
    Step,
)
from holdfast.testing.conformance.suite import user, users


class Play:
    """One session of one store, and what the steps so far recorded."""

    def __init__(self, store: SessionStore, session_id: str) -> None:
        self.store = store
        self.session_id = session_id
        self._histories: dict[str, History] = {}
        self._marks: dict[str, int] = {}
        self._outcomes: dict[str, Commit] = {}

    def entries(self) -> list[Entry] | None:
        """Return the whole log; `None` if there is no session."""
        try:
            return self.store.read_entries(self.session_id)
        except SessionNotFound:
            return None

    def do(self, step: Step) -> None:
        """Carry out one step and check its outcome."""
        match step:
            case Read(name):
                self._record(name, self.store.get_chat_history(self.session_id))
            case ReadAt(name, mark):
                at = self._marks[mark]
                self._record(name, self.store.get_chat_history(self.session_id, at=at))
            case Mark(name):
                self._marks[name] = self.store.get_session(self.session_id).revision
            case Add():
                self._add(step)
            case Save():
                self._save(step)
            case Clear():
                self.store.clear_session(self.session_id)
            case Delete():
                assert self.store.delete_session(self.session_id)
            case Create():
                self.store.create_session(self.session_id)
            case Rename():
                self.store.rename_session(self.session_id, "another title")
            case _:
                assert_never(step)

    def _record(self, name: str, history: History) -> None:
        self._histories[name] = history
        self._marks[name] = history.revision

    def _add(self, step: Add) -> None:
        def write() -> Commit:
            return self.store.add_messages(
                self.session_id,
                users(step.texts),
                expected_revision=self._revision(step.expected),
                key=step.key,
            )

        if step.refused is not None:
            self._is_refused(step.refused, write)
        else:
            self._is_done(write(), step.key, kept=0, replayed=step.replayed)

    def _save(self, step: Save) -> None:
        given: list[Message] = users(step.texts)
        if step.on is not None:
            history = self._histories[step.on]
            history[:] = _with_texts(history, step.texts.split())
            given = history

        def write() -> Commit:
            return self.store.set_chat_history(
                self.session_id, given, base_revision=self._revision(step.base), key=step.key
            )

        if step.refused is not None:
            before = list(given)
            self._is_refused(step.refused, write)
            assert given == before
            return
        commit = write()
        self._is_done(commit, step.key, kept=step.kept, replayed=step.replayed)
        if isinstance(given, History):
            stored = self.store.get_chat_history(self.session_id, at=commit.history_revision)
            assert given == stored
            assert given.revision == commit.history_revision

    def _is_done(self, commit: Commit, key: str | None, *, kept: int, replayed: bool) -> None:
        assert (commit.kept, commit.replayed) == (kept, replayed)
        if replayed:
            assert key is not None
            first = self._outcomes[key]
            assert commit.revision == first.revision
            assert commit.history_revision == first.history_revision
            return
        if key is not None:
            self._outcomes[key] = commit
        history = self.store.get_chat_history(self.session_id)
        assert commit.history_revision == history.revision
        assert self.store.get_session(self.session_id).revision >= commit.revision

    def _is_refused(self, refused: Refused, write: object) -> None:
        assert callable(write)
        before = self.entries()
        with pytest.raises(HoldfastError) as caught:
            write()
        assert type(caught.value) is refused.error
        assert caught.value.code == refused.code
        assert self.entries() == before

    def _revision(self, name: str | int | None) -> int | None:
        return self._marks[name] if isinstance(name, str) else name


def _with_texts(history: History, wanted: list[str]) -> list[Message]:
    """Return messages with these texts: the history's own dicts while it has them, else new."""
    own = list(history)
    found: list[Message] = []
    for text in wanted:
        message = next((m for m in own if m["content"] == text), None)
        if message is None:
            message = user(text)
        else:
            own.remove(message)
        found.append(message)
    return found
