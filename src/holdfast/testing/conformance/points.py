"""Points of the past: revisions, labels, and so many user messages back."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.errors import CorruptEntry, InvalidArgument, SessionNotFound
from holdfast.model.message import Message
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.suite import Conformance, texts, user, users


def answer(text: str) -> Message:
    """Return an assistant's message."""
    return {"role": "assistant", "content": text}


TALK = [user("a"), answer("A"), user("b"), answer("B"), user("c")]
BACK: dict[int, list[str]] = {-1: ["a", "A", "b", "B"], -2: ["a", "A"], -3: []}
"""What the talk was before each of its user messages."""


class Points(Conformance):
    """`at=` takes a revision, a label, or -n, and each means one history exactly."""

    @pytest.mark.parametrize("split", range(len(TALK) + 1))
    def test_back(self, store: SessionStore, split: int) -> None:
        """-n is the history before the n-th last user message, also inside of an entry."""
        store.add_messages("s", TALK[:split])
        store.add_messages("s", TALK[split:])
        for back, left in BACK.items():
            assert texts(store.get_messages("s", at=back)) == left
            history = store.get_chat_history("s", at=back)
            assert texts(history) == left
            assert history.origin is not None
            assert history.origin.pinned
            for limit in range(4):
                shown = store.get_chat_history("s", limit, at=back)
                assert texts(shown) == left[max(0, len(left) - limit) :]

    def test_back_is_counted_in_the_current_history(self, store: SessionStore) -> None:
        """-n looks at what the history is now, not at earlier generations; metadata is no step."""
        store.add_messages("s", users("x y z"))
        store.set_chat_history("s", [*TALK])
        store.rename_session("s", "title")
        for back, left in BACK.items():
            assert texts(store.get_chat_history("s", at=back)) == left

    def test_back_among_many(self, store: SessionStore) -> None:
        """A rewrite's entries of many messages are cut at the very message."""
        store.set_chat_history("s", users(" ".join(map(str, range(200)))))
        for back in (1, 63, 64, 65, 136, 199, 200):
            found = texts(store.get_messages("s", at=-back))
            assert found == [str(number) for number in range(200 - back)]

    @pytest.mark.parametrize(("said", "hint"), [("", "nothing"), ("a b", "-2")])
    def test_too_far_back(self, store: SessionStore, said: str, hint: str) -> None:
        """Going back further than there are user messages is refused, and says how many are."""
        store.add_messages("s", [*users(said), answer("A")])
        with pytest.raises(InvalidArgument) as caught:
            store.get_chat_history("s", at=-3)
        assert f"has {len(said.split())} user messages" in caught.value.message
        assert hint in caught.value.hint

    def test_label(self, store: SessionStore) -> None:
        """A label names the history as it was, whatever becomes of it since."""
        first = store.add_messages("s", users("a b")).history_revision
        commit = store.label("s", "draft")
        assert commit.history_revision == first
        store.add_messages("s", users("c"))
        store.set_chat_history("s", users("x"))
        assert store.get_session("s").labels == {"draft": first}
        history = store.get_chat_history("s", at="draft")
        assert (texts(history), history.revision) == (["a", "b"], first)
        assert texts(store.get_messages("s", 1, at="draft")) == ["b"]
        assert store.list_sessions()[0].labels == {"draft": first}
        assert store.verify().problems == []

    def test_label_moves(self, store: SessionStore) -> None:
        """The same name again names another revision; other labels stay."""
        for text in "abc":
            store.add_messages("s", users(text))
            store.label("s", "last")
            store.label("s", text)
        assert texts(store.get_chat_history("s", at="last")) == ["a", "b", "c"]
        assert texts(store.get_chat_history("s", at="b")) == ["a", "b"]
        assert set(store.get_session("s").labels) == {"last", "a", "b", "c"}

    def test_label_at(self, store: SessionStore) -> None:
        """A label can be given to a revision, to another label's, and to so many back."""
        first = store.add_messages("s", users("a")).revision
        renamed = store.rename_session("s", "title").revision
        store.add_messages("s", users("b"))
        store.add_messages("s", users("c"))
        for name, at in (("one", first), ("two", renamed), ("three", "one"), ("four", -2)):
            store.label("s", name, at=at)
            assert store.get_session("s").labels[name] == first
        store.label("s", "empty", at=-3)
        assert store.get_chat_history("s", at="empty") == []

    def test_label_inside_of_a_commit(self, store: SessionStore) -> None:
        """Where no revision is what -n means, a label is refused rather than put near it."""
        store.add_messages("s", users("a b"))
        with pytest.raises(InvalidArgument):
            store.label("s", "x", at=-1)
        store.set_chat_history("s", users(" ".join(map(str, range(70)))))
        for back in (-6, -70):  # between a rewrite's entries, and before the first of them
            with pytest.raises(InvalidArgument):
                store.label("s", "x", at=back)
        store.clear_session("s")
        store.add_messages("s", users("c"))
        store.label("s", "x", at=-1)
        assert store.get_chat_history("s", at="x") == []

    def test_label_is_no_conflict(self, store: SessionStore) -> None:
        """A label changes no history, so it is no reason for a conflict."""
        store.add_messages("s", users("a"))
        history = store.get_chat_history("s")
        store.label("s", "x")
        store.add_messages("s", users("b"), expected_revision=history.revision)

    def test_unknown_label(self, store: SessionStore) -> None:
        """An unknown label is refused; the hint lists those that there are."""
        store.add_messages("s", users("a"))
        with pytest.raises(InvalidArgument) as caught:
            store.get_chat_history("s", at="draft")
        assert caught.value.code == "unknown_label"
        store.label("s", "final")
        with pytest.raises(InvalidArgument) as caught:
            store.get_messages("s", at="draft")
        assert "'final'" in caught.value.hint

    def test_unknown_session(self, store: SessionStore) -> None:
        """A point of an unknown session is not found, and looking creates nothing."""
        points: tuple[int | str, ...] = (1 << 40, "draft", -1)
        for at in points:
            with pytest.raises(SessionNotFound):
                store.get_chat_history("s", at=at)
            with pytest.raises(SessionNotFound):
                store.label("s", "x", at=at)
        with pytest.raises(SessionNotFound):
            store.label("s", "x")
        assert not store.session_exists("s")

    def test_label_of_a_deleted_session(self, store: SessionStore) -> None:
        """A label never names a revision of a successor, nor is one given to it."""
        old = store.add_messages("s", users("a")).revision
        store.label("s", "x")
        store.delete_session("s")
        store.add_messages("s", users("b"))
        assert store.get_session("s").labels == {}
        with pytest.raises(InvalidArgument):
            store.get_chat_history("s", at="x")
        with pytest.raises(SessionNotFound):
            store.label("s", "x", at=old)

    @pytest.mark.parametrize(
        "name", ["", "1", "-1", " 12 ", "+3", "1_000", "٣", "a\0", "x" * 513, 7]
    )
    def test_bad_labels(self, store: SessionStore, name: Any) -> None:
        """A label that is no id, or could be taken for a revision, is refused."""
        store.add_messages("s", users("a"))
        with pytest.raises(InvalidArgument):
            store.label("s", name)
        assert store.get_session("s").labels == {}

    @pytest.mark.parametrize("at", [True, 1.0, "", "12", "-1", b"x", 1 << 70, -(1 << 70), ["a"]])
    def test_bad_points(self, store: SessionStore, at: Any) -> None:
        """What is no revision, label or -n is refused everywhere; so is a number as text."""
        store.add_messages("s", users("a"))
        before = store.read_entries("s")
        for call in (
            lambda: store.get_chat_history("s", at=at),
            lambda: store.get_messages("s", at=at),
            lambda: store.fork_session("s", "t", at=at),
            lambda: store.rewind_session("s", at),
            lambda: store.label("s", "x", at=at),
        ):
            with pytest.raises(InvalidArgument) as caught:
                call()
            assert not isinstance(caught.value, CorruptEntry)
        assert store.read_entries("s") == before
        assert not store.session_exists("t")
