"""Rewinding and forking: the past becomes the present, here or in a session of its own."""

from __future__ import annotations

import pytest

from holdfast.errors import Conflict, InvalidArgument, SessionNotFound
from holdfast.model.entry import MessageEntry, MetaEntry, ResetEntry
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.points import BACK, TALK
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, texts, user, users

MANY = " ".join(map(str, range(150)))


class Rewinding(Conformance):
    """`rewind_session` begins a generation that is what the history was."""

    @pytest.mark.parametrize("split", range(len(TALK) + 1))
    @pytest.mark.parametrize("back", BACK)
    def test_back(self, store: SessionStore, split: int, back: int) -> None:
        """-n takes the last n user messages and what followed them out of the history."""
        store.add_messages("s", TALK[:split])
        store.add_messages("s", TALK[split:])
        before = store.get_messages("s")
        revision = store.get_session("s").revision
        commit = store.rewind_session("s", back)
        assert texts(store.get_chat_history("s")) == BACK[back]
        assert store.get_messages("s") == before[: len(BACK[back])]
        assert commit.removed == len(TALK) - len(BACK[back])
        assert commit.history_revision == store.get_chat_history("s").revision
        assert store.get_messages("s", at=revision) == before

    def test_to_revision_and_label(self, subject: Subject, store: SessionStore) -> None:
        """Ids, times and metadata of what was said are what they were."""
        store.add_messages("s", [{**user(text), "metadata": {"about": text}} for text in "ab"])
        store.label("s", "draft")
        revision = store.get_session("s").revision
        wanted = store.get_messages("s")
        for to in ("draft", revision):
            subject.script.advance(1000)
            store.add_messages("s", users("c d e"))
            assert store.rewind_session("s", to).removed == 3
            assert store.get_messages("s") == wanted
        reasons = [e.reason for e in store.read_entries("s") if isinstance(e, ResetEntry)]
        assert reasons == ["rewind", "rewind"]
        assert store.verify().problems == []

    def test_across_generations(self, store: SessionStore) -> None:
        """An earlier generation comes back whole; what the current one has of it stays."""
        revision = store.add_messages("s", users("a b")).revision
        store.set_chat_history("s", users("x y z"))
        assert store.rewind_session("s", revision).removed == 3
        assert texts(store.get_chat_history("s")) == ["a", "b"]
        store.rewind_session("s", -2)
        store.add_messages("s", users("c"))
        assert store.rewind_session("s", revision).removed == 1
        assert texts(store.get_chat_history("s")) == ["a", "b"]
        store.add_messages("s", users("d"))
        assert store.rewind_session("s", revision).removed == 1

    def test_inside_of_a_reset(self, store: SessionStore) -> None:
        """A revision inside of a rewrite's commit means the generation before it."""
        store.add_messages("s", users("a b"))
        store.set_chat_history("s", users("x y z"))
        reset = next(e for e in store.read_entries("s") if isinstance(e, ResetEntry))
        assert store.rewind_session("s", reset.revision).removed == 3
        assert texts(store.get_chat_history("s")) == ["a", "b"]

    def test_many(self, store: SessionStore) -> None:
        """A long history comes back in entries of up to 64, and the log is sound."""
        store.add_messages("s", users(MANY))
        store.rewind_session("s", -10)
        assert texts(store.get_chat_history("s")) == MANY.split()[:140]
        sizes = [len(e.messages) for e in store.read_entries("s") if isinstance(e, MessageEntry)]
        assert sizes == [150, 64, 64, 12]
        assert store.verify().problems == []

    def test_leaves_what_others_added(self, subject: Subject, store: SessionStore) -> None:
        """To a revision is exact: what others added since is left behind, and no base is kept."""
        revision = store.add_messages("s", users("a")).revision
        history = store.get_chat_history("s")
        subject.open_elsewhere().add_messages("s", users("b c"))
        assert store.rewind_session("s", revision).removed == 2
        assert texts(store.get_chat_history("s")) == ["a"]
        with pytest.raises(Conflict):
            store.set_chat_history("s", [user("x"), *history], base_revision=history.revision)

    def test_goes_on(self, store: SessionStore) -> None:
        """A rewound session goes on, and a list that was read before still appends to it."""
        store.add_messages("s", users("a b"))
        history = store.get_chat_history("s")
        store.rewind_session("s", -1)
        history.append(user("c"))
        store.set_chat_history("s", history)
        assert texts(store.get_chat_history("s")) == ["a", "c"]

    def test_refused(self, store: SessionStore) -> None:
        """An unknown session, revision, label or -n is refused, and nothing is written."""
        for to in (1 << 40, "x", -1):
            with pytest.raises(SessionNotFound):
                store.rewind_session("s", to)
        assert not store.session_exists("s")
        old = store.add_messages("s", users("a")).revision
        store.delete_session("s")
        store.add_messages("s", users("b"))
        before = store.read_entries("s")
        with pytest.raises(SessionNotFound):
            store.rewind_session("s", old)
        for to in ("x", -2, store.get_session("s").revision + 1):
            with pytest.raises(InvalidArgument):
                store.rewind_session("s", to)
        assert store.read_entries("s") == before


class Forking(Conformance):
    """`fork_session` makes a session of its own out of another one's history."""

    def test_fork(self, subject: Subject, store: SessionStore) -> None:
        """A fork has the messages as stored, the descriptions, and says where it comes from."""
        store.create_session("s", title="T", user_id="u", agent_name="g", metadata={"a": 1})
        store.add_messages("s", [{**user("a"), "metadata": {"n": 1}}, user("b")])
        store.add_messages("s", users("c"), key="k")
        subject.script.advance(1000)
        info = store.fork_session("s", "t")
        original = store.get_session("s")
        assert (info.id, info.message_count) == ("t", 3)
        for name in ("title", "user_id", "agent_name", "metadata"):
            assert getattr(info, name) == getattr(original, name)
        assert info.created_at > original.created_at
        assert store.get_messages("t") == store.get_messages("s")
        meta, *rest = store.read_entries("t")
        assert isinstance(meta, MetaEntry)
        assert meta.changes["forked_from"] == {
            "session": "s",
            "revision": store.get_chat_history("s").revision,
            "messages": 3,
        }
        assert [entry.kind for entry in rest] == ["message"]
        assert not store.add_messages("t", users("c"), key="k").replayed
        assert store.verify().problems == []

    def test_apart(self, store: SessionStore) -> None:
        """Fork and original go on apart; labels stay with the original."""
        store.add_messages("s", users("a"))
        store.label("s", "x")
        fork = store.fork_session("s").id
        store.add_messages("s", users("b"))
        store.add_messages(fork, users("c"))
        assert texts(store.get_chat_history("s")) == ["a", "b"]
        assert texts(store.get_chat_history(fork)) == ["a", "c"]
        assert store.get_session(fork).labels == {}
        store.delete_session("s")
        assert texts(store.get_chat_history(fork)) == ["a", "c"]

    @pytest.mark.parametrize("back", BACK)
    def test_at(self, store: SessionStore, back: int) -> None:
        """A fork begins at a revision, at a label, or so many back, exactly there."""
        store.add_messages("s", TALK)
        store.fork_session("s", f"t{back}", at=back)
        assert texts(store.get_chat_history(f"t{back}")) == BACK[back]
        store.label("s", "x")
        revision = store.get_session("s").revision
        store.clear_session("s")
        points: tuple[int | str, ...] = ("x", revision)
        for number, at in enumerate(points):
            info = store.fork_session("s", f"u{number}", at=at)
            assert info.message_count == len(TALK)

    def test_many(self, store: SessionStore) -> None:
        """A long history is forked in entries of up to 64."""
        store.add_messages("s", users(MANY))
        assert store.fork_session("s", "t").message_count == 150
        sizes = [len(e.messages) for e in store.read_entries("t") if isinstance(e, MessageEntry)]
        assert sizes == [64, 64, 22]
        assert store.verify().problems == []

    def test_refused(self, store: SessionStore) -> None:
        """A fork never touches a session that exists, and there must be something to fork."""
        store.add_messages("s", users("a"))
        store.add_messages("t", users("b"))
        for new_id in ("s", "t"):
            with pytest.raises(Conflict) as caught:
                store.fork_session("s", new_id)
            assert caught.value.code == "session_exists"
        with pytest.raises(SessionNotFound):
            store.fork_session("nobody", "u")
        with pytest.raises(InvalidArgument):
            store.fork_session("s", "")
        assert texts(store.get_chat_history("t")) == ["b"]
        assert {info.id for info in store.list_sessions()} == {"s", "t"}

    def test_tenants(self, subject: Subject, store: SessionStore) -> None:
        """A fork stays with its tenant."""
        store.add_messages("s", users("a"))
        store.fork_session("s", "t")
        assert not subject.open("another").session_exists("t")
