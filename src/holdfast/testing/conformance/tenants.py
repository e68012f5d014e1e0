"""Two tenants on one store never meet, whatever names they share."""

from __future__ import annotations

import pytest

from holdfast.errors import SessionNotFound
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, texts, user, users


class Tenants(Conformance):
    """The tenant is part of every name."""

    @pytest.fixture
    def other(self, subject: Subject) -> SessionStore:
        """Another tenant's store on the same data."""
        return subject.open("other")

    def test_histories(self, store: SessionStore, other: SessionStore) -> None:
        """Equal session ids are different sessions."""
        store.add_messages("s", users("a"))
        assert not other.session_exists("s")
        assert other.get_chat_history("s") == []
        other.add_messages("s", users("b"))
        assert texts(store.get_chat_history("s")) == ["a"]
        assert texts(other.get_chat_history("s")) == ["b"]
        assert (store.tenant, other.tenant) == ("default", "other")

    def test_keys(self, store: SessionStore, other: SessionStore) -> None:
        """Equal keys are different keys."""
        store.add_messages("s", users("a"), key="k")
        assert not other.add_messages("s", users("b"), key="k").replayed
        assert store.add_messages("s", users("a"), key="k").replayed
        assert texts(other.get_chat_history("s")) == ["b"]

    def test_keys_of_sessions(self, store: SessionStore) -> None:
        """Equal keys of two sessions of one tenant are different keys too."""
        store.add_messages("s", users("a"), key="k")
        assert not store.add_messages("t", users("b"), key="k").replayed

    def test_revisions(self, store: SessionStore, other: SessionStore) -> None:
        """A revision of one tenant's session reads and expects nothing in the other's."""
        mine = store.add_messages("s", users("a"))
        other.add_messages("s", users("b"))
        with pytest.raises(SessionNotFound):
            other.get_chat_history("s", at=mine.revision)
        with pytest.raises(SessionNotFound):
            other.set_chat_history("s", users("x"), base_revision=mine.revision)

    def test_histories_are_no_bases(self, store: SessionStore, other: SessionStore) -> None:
        """One tenant's History is a plain list to the other."""
        store.add_messages("s", users("a"))
        other.add_messages("s", users("b"))
        history = store.get_chat_history("s")
        history.append(user("c"))
        other.set_chat_history("s", history)
        assert texts(other.get_chat_history("s")) == ["a", "c"]
        assert texts(store.get_chat_history("s")) == ["a"]

    def test_lists_and_counts(
        self, subject: Subject, store: SessionStore, other: SessionStore
    ) -> None:
        """Lists, pages, counts and checks are one tenant's."""
        for number in range(3):
            store.create_session(f"s{number}", user_id="u")
            other.create_session(f"s{number}", user_id="u", title="theirs")
            subject.script.advance()
        store.add_messages("s0", users("a"))
        other.add_messages("s0", users("b c"))
        assert [s.title for s in store.list_sessions(user_id="u")] == [None] * 3
        page = store.list_sessions(1)
        assert [s.title for s in other.list_sessions(cursor=page.next_cursor)] == ["theirs"] * 2
        assert (store.stats().sessions, store.stats().messages) == (3, 1)
        assert (other.stats().sessions, other.stats().messages) == (3, 2)
        assert other.stats("s0").messages == 2
        assert store.verify().sessions == 3

    def test_changes(self, store: SessionStore, other: SessionStore) -> None:
        """Renaming, clearing and deleting touch one tenant's session only."""
        for each in (store, other):
            each.add_messages("s", users("a"))
        before = other.get_session("s"), other.read_entries("s")
        store.rename_session("s", "x")
        store.update_session_metadata("s", a=1)
        store.clear_session("s")
        store.set_chat_history("s", users("y"))
        store.delete_session("s")
        assert (other.get_session("s"), other.read_entries("s")) == before
        assert not store.session_exists("s")

    def test_names_that_join(self, subject: Subject) -> None:
        """Tenant and id are never glued together: no pair of names collides with another."""
        pairs = [("a", "bc"), ("ab", "c"), ("a/b", "c"), ("a", "b/c"), ("a:b", "c"), ("a", "b:c")]
        for tenant, session in pairs:
            subject.open(tenant).add_messages(session, [user(f"{tenant}|{session}")])
        for tenant, session in pairs:
            history = subject.open(tenant).get_chat_history(session)
            assert texts(history) == [f"{tenant}|{session}"]
