"""`edit_history`: read, apply, save, again if another rewrite came first."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.errors import SessionNotFound
from holdfast.model.message import Message
from holdfast.rules.history import History
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, texts, user, users


class Editing(Conformance):
    """The right way to redact or compact."""

    def test_returned_list(self, subject: Subject, store: SessionStore) -> None:
        """The history becomes what the function returns: a list, a History, a slice."""

        def redacted(history: History) -> list[Message]:
            return [{**message, "content": "-"} for message in history]

        def shortened(history: History) -> list[Message]:
            return history[1:]

        for edit, left in ((redacted, ["-", "-"]), (shortened, ["b"])):
            for number, form in enumerate(subject.edits(edit)):
                session = f"{edit.__name__}-{number}"
                store.add_messages(session, users("a b"))
                store.edit_history(session, form)
                assert texts(store.get_chat_history(session)) == left

    def test_changed_in_place(self, subject: Subject, store: SessionStore) -> None:
        """A function that changes its History and returns None has edited it."""
        for number, form in enumerate(subject.edits(lambda history: history.append(user("c")))):
            store.add_messages(f"s{number}", users("a b"))
            store.edit_history(f"s{number}", form)
            assert texts(store.get_chat_history(f"s{number}")) == ["a", "b", "c"]

    def test_repeats_on_conflict(self, subject: Subject, store: SessionStore) -> None:
        """A rewrite that comes between reading and saving makes the function run again."""
        elsewhere = subject.open_elsewhere()
        for number, _ in enumerate(subject.edits(len)):
            session = f"s{number}"
            store.add_messages(session, users("a b"))
            seen: list[list[Any]] = []

            def edit(
                history: History, *, session: str = session, seen: list[list[Any]] = seen
            ) -> list[Message]:
                seen.append(texts(history))
                if len(seen) < 3:
                    elsewhere.set_chat_history(session, users(f"rewritten {len(seen)}"))
                return [user("edited"), *history[1:]]

            commit = store.edit_history(session, subject.edits(edit)[number])
            assert seen == [["a", "b"], ["rewritten", "1"], ["rewritten", "2"]]
            assert texts(store.get_chat_history(session)) == ["edited", "2"]
            assert commit.history_revision == store.get_chat_history(session).revision

    def test_keeps_what_came_between(self, subject: Subject, store: SessionStore) -> None:
        """A message that was added between reading and saving is kept, at the first try."""
        elsewhere = subject.open_elsewhere()
        store.add_messages("s", users("a b"))
        calls: list[int] = []

        def edit(history: History) -> list[Message]:
            calls.append(len(history))
            elsewhere.add_user_message("s", "other")
            return history[1:]

        assert store.edit_history("s", edit).kept == 1
        assert calls == [2]
        assert texts(store.get_chat_history("s")) == ["b", "other"]

    def test_failing_function(self, store: SessionStore) -> None:
        """An exception of the function comes out as it is, and nothing is written."""

        def edit(history: History) -> list[Message]:
            history.clear()
            raise ZeroDivisionError

        store.add_messages("s", users("a"))
        before = store.read_entries("s")
        with pytest.raises(ZeroDivisionError):
            store.edit_history("s", edit)
        assert store.read_entries("s") == before

    def test_deleted_between(self, subject: Subject, store: SessionStore) -> None:
        """A session that is deleted between reading and saving is not brought back."""
        elsewhere = subject.open_elsewhere()
        store.add_messages("s", users("a"))

        def edit(history: History) -> list[Message]:
            elsewhere.delete_session("s")
            return [*history, user("b")]

        with pytest.raises(SessionNotFound):
            store.edit_history("s", edit)
        assert not store.session_exists("s")

    def test_unknown_session(self, store: SessionStore) -> None:
        """Editing an unknown session edits an empty history."""
        store.edit_history("s", lambda history: [*history, user("a")])
        assert texts(store.get_chat_history("s")) == ["a"]
