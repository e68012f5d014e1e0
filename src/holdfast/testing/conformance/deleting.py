"""Clearing keeps the past; deleting destroys it."""

from __future__ import annotations

import pytest

from holdfast.errors import SessionNotFound
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, texts, users


class Deleting(Conformance):
    """What goes is gone, and nothing of it fits what comes after."""

    def test_clear(self, store: SessionStore) -> None:
        """Clearing says whether there were messages; session and past stay."""
        revision = store.add_messages("s", users("a b")).history_revision
        store.rename_session("s", "title")
        assert store.clear_session("s") is True
        assert store.get_chat_history("s") == []
        assert store.clear_session("s") is False
        info = store.get_session("s")
        assert (info.title, info.message_count) == ("title", 0)
        assert texts(store.get_chat_history("s", at=revision)) == ["a", "b"]

    def test_add_after_clear(self, store: SessionStore) -> None:
        """A cleared session goes on."""
        store.add_messages("s", users("a b"))
        store.clear_session("s")
        store.add_messages("s", users("c"))
        assert texts(store.get_chat_history("s")) == ["c"]

    def test_delete(self, subject: Subject, store: SessionStore) -> None:
        """A deleted session has nothing left that can be read."""
        revision = store.add_messages("s", users("a b")).revision
        store.add_messages("other", users("c"))
        deletion = store.delete_session("s")
        assert deletion
        assert (deletion.existed, deletion.erasure) == (True, subject.erased)
        assert not store.session_exists("s")
        assert store.get_chat_history("s") == []
        assert store.get_messages("s") == []
        for read in (store.get_session, store.read_entries, store.stats, store.verify):
            with pytest.raises(SessionNotFound):
                read("s")
        with pytest.raises(SessionNotFound):
            store.get_chat_history("s", at=revision)
        assert [s.id for s in store.list_sessions()] == ["other"]
        assert texts(store.get_chat_history("other")) == ["c"]
        assert store.verify()

    def test_delete_unknown(self, store: SessionStore) -> None:
        """Deleting what is not there says so, and creates nothing."""
        deletion = store.delete_session("s")
        assert not deletion
        assert (deletion.existed, deletion.erasure) == (False, "none")
        assert not store.session_exists("s")

    def test_successor(self, store: SessionStore) -> None:
        """A session with a deleted one's id begins empty; no old revision reads anything in it."""
        store.create_session("s", title="old", user_id="u", metadata={"a": 1})
        old = [store.add_messages("s", users(text)).revision for text in "abc"]
        store.clear_session("s")
        old.append(store.get_session("s").revision)
        store.delete_session("s")
        new = store.add_messages("s", users("a")).revision
        assert new > max(old)
        info = store.get_session("s")
        assert (info.title, info.user_id, info.metadata, info.message_count) == (None, None, {}, 1)
        for revision in old:
            with pytest.raises(SessionNotFound):
                store.get_chat_history("s", at=revision)
            with pytest.raises(SessionNotFound):
                store.read_entries("s", revision)
        assert len(store.read_entries("s")) == 1

    def test_successors(self, store: SessionStore) -> None:
        """However often an id is used again, no revision comes twice."""
        seen: set[int] = set()
        for _ in range(5):
            revision = store.add_messages("s", users("a")).revision
            assert revision not in seen
            seen.add(revision)
            assert store.delete_session("s")

    def test_successor_in_another_engine(self, subject: Subject, store: SessionStore) -> None:
        """A store that knew the old session writes into the new one, never into the old."""
        elsewhere = subject.open_elsewhere()
        elsewhere.add_messages("s", users("old"))
        store.delete_session("s")
        store.add_messages("s", users("a"))
        elsewhere.add_messages("s", users("b"))
        assert texts(store.get_chat_history("s")) == ["a", "b"]
        assert store.verify().problems == []
