"""What outlives a closed store, and what another engine on the same data sees."""

from __future__ import annotations

import pytest

from holdfast.errors import Unavailable
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, texts, user, users


class Endurance(Conformance):
    """The data is more than the object that opened it."""

    def test_reopened(self, subject: Subject, store: SessionStore) -> None:
        """A store that was closed and opened again has everything: the log, keys, bases."""
        subject.need("durable")
        store.create_session("s", title="title", metadata={"a": 1})
        store.add_messages("s", users("a b"), key="k")
        history = store.get_chat_history("s")
        before = store.get_session("s"), store.read_entries("s"), store.get_messages("s")
        store.close()
        subject.reopen()
        again = subject.open()
        assert (again.get_session("s"), again.read_entries("s"), again.get_messages("s")) == before
        assert again.add_messages("s", users("a b"), key="k").replayed
        again.add_user_message("s", "other")
        again.set_chat_history("s", history[1:])
        assert texts(again.get_chat_history("s")) == ["b", "other"]

    def test_numbers_are_not_used_again(self, subject: Subject, store: SessionStore) -> None:
        """A deleted session's revisions fit no later session, also after opening anew."""
        subject.need("durable")
        old = store.add_messages("s", users("a")).revision
        store.delete_session("s")
        store.close()
        subject.reopen()
        assert subject.open().add_messages("s", users("a")).revision > old

    def test_two_engines(self, subject: Subject, store: SessionStore) -> None:
        """Two engines that write by turns see each other's commits at once."""
        subject.need("cross_process")
        elsewhere = subject.open_elsewhere()
        for number in range(4):
            store.add_messages("s", users(f"a{number}"))
            elsewhere.add_messages("s", users(f"b{number}"), expected_revision=None)
            history = elsewhere.get_chat_history("s")
            history.append(user(f"c{number}"))
            store.set_chat_history("s", history)
        found = texts(store.get_chat_history("s"))
        assert found == [f"{letter}{number}" for number in range(4) for letter in "abc"]
        assert texts(elsewhere.get_chat_history("s")) == found
        assert store.verify().problems == []

    def test_closed(self, store: SessionStore) -> None:
        """A closed store says so, whatever is called; closing twice is harmless."""
        store.add_messages("s", users("a"))
        store.close()
        store.close()
        for call in (
            lambda: store.add_messages("s", users("b")),
            lambda: store.get_chat_history("s"),
            store.list_sessions,
            lambda: store.delete_session("s"),
        ):
            with pytest.raises(Unavailable) as caught:
                call()
            assert caught.value.code == "closed"
            assert not caught.value.retryable
