"""Compacting: a summary takes the place of what was said, and nobody's message is lost."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.errors import Conflict, InvalidArgument, InvalidMessage, SessionNotFound
from holdfast.model.entry import ResetEntry
from holdfast.rules.history import History
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, texts, user, users
from holdfast.testing.conformance.tools import call, result


class Compacting(Conformance):
    """`compact_session`: summary, the last messages of the base, whatever came after it."""

    def test_compact(self, subject: Subject, store: SessionStore) -> None:
        """What is kept is as it was stored, and the whole history stays readable."""
        store.add_messages("s", [{**user(text), "metadata": {"n": text}} for text in "abcd"])
        before = store.get_messages("s")
        revision = store.get_session("s").revision
        subject.script.advance(1000)
        commit = store.compact_session("s", "sum", keep_last=2)
        summary, *kept = store.get_messages("s")
        assert (summary["role"], summary["content"]) == ("system", "sum")
        assert summary["id"]
        assert summary["created_at"] > before[0]["created_at"]
        assert kept == before[2:]
        assert (commit.removed, commit.kept) == (2, 0)
        assert store.get_messages("s", at=revision) == before
        reset = next(e for e in store.read_entries("s") if isinstance(e, ResetEntry))
        assert (reset.reason, reset.base_revision) == ("compact", revision)
        assert store.verify().problems == []

    @pytest.mark.parametrize(("keep_last", "left"), [(0, ""), (1, "c"), (3, "a b c"), (9, "a b c")])
    def test_keep_last(self, store: SessionStore, keep_last: int, left: str) -> None:
        """At most that many stay; keeping all of them puts the summary in front."""
        store.add_messages("s", users("a b"))
        store.add_messages("s", users("c"))
        store.compact_session("s", "sum", keep_last=keep_last)
        assert texts(store.get_chat_history("s")) == ["sum", *left.split()]

    @pytest.mark.parametrize("form", ["history", "limited", "revision"])
    def test_keeps_what_came_after(self, subject: Subject, store: SessionStore, form: str) -> None:
        """Messages after the base follow, whatever the base was given as."""
        store.add_messages("s", users("a b c"))
        base: int | History = store.get_chat_history("s", 1 if form == "limited" else None)
        if form == "revision":
            base = store.get_chat_history("s").revision
        subject.open_elsewhere().add_messages("s", users("d e"))
        commit = store.compact_session("s", "sum", keep_last=1, base=base)
        assert texts(store.get_chat_history("s")) == ["sum", "c", "d", "e"]
        assert (commit.kept, commit.removed) == (2, 2)

    def test_earlier_base(self, store: SessionStore) -> None:
        """An earlier revision of the current generation is a base like any other."""
        first = store.add_messages("s", users("a b")).revision
        store.add_messages("s", users("c"))
        store.compact_session("s", "sum", keep_last=0, base=first)
        assert texts(store.get_chat_history("s")) == ["sum", "c"]

    def test_conflict(self, store: SessionStore) -> None:
        """A history that was rewritten since the base is left alone."""
        store.add_messages("s", users("a b"))
        history = store.get_chat_history("s")
        store.compact_session("s", "first", keep_last=1, base=history)
        before = store.read_entries("s")
        for base in (history, history.revision):
            with pytest.raises(Conflict) as caught:
                store.compact_session("s", "second", keep_last=1, base=base)
            assert caught.value.code == "conflict"
        assert store.read_entries("s") == before

    def test_tools(self, store: SessionStore) -> None:
        """What is kept never begins inside of a tool exchange: that goes into the summary whole."""
        exchange = [call("c1", "c2"), result("c1", "1"), user("x"), result("c2", "2")]
        store.add_messages("s", [user("a"), *exchange, user("b")])
        for keep_last, left in ((6, 6), (5, 5), (4, 1), (3, 1), (2, 1), (1, 1), (0, 0)):
            store.fork_session("s", f"t{keep_last}")
            store.compact_session(f"t{keep_last}", "sum", keep_last=keep_last)
            assert store.get_messages(f"t{keep_last}")[1:] == store.get_messages("s")[6 - left :]

    def test_message_as_summary(self, store: SessionStore) -> None:
        """A message is taken as it is, with a role and keys of its own."""
        store.add_messages("s", users("a b"))
        summary = {"role": "user", "content": "so far", "metadata": {"summary": True}, "id": "m1"}
        store.compact_session("s", summary, keep_last=0)
        (found,) = store.get_messages("s")
        assert found == {**summary, "created_at": found["created_at"]}

    @pytest.mark.parametrize(
        "summary",
        [
            *("", "  \n", None, 7, [], {}),
            {"role": "system"},
            {"role": "system", "content": ""},
            {"role": "robot", "content": "x"},
            {"role": "user", "content": {1}},
        ],
        ids=repr,
    )
    def test_bad_summary(self, store: SessionStore, summary: Any) -> None:
        """Without a summary that can be stored nothing changes."""
        store.add_messages("s", users("a b"))
        before = store.read_entries("s")
        with pytest.raises(InvalidMessage):
            store.compact_session("s", summary, keep_last=1)
        assert store.read_entries("s") == before

    def test_bad_base(self, store: SessionStore) -> None:
        """A base is a history of this session as it was read, or one of its revisions."""
        store.add_messages("s", users("a b"))
        store.add_messages("t", users("c"))
        revision = store.get_chat_history("s").revision
        before = store.read_entries("s")
        bad: tuple[Any, ...] = (
            store.get_chat_history("t"),
            store.get_chat_history("s", at=revision),
            store.get_chat_history("s", at=-1),
            History(users("a b")),
            revision + 1,
            -1,
            "x",
            True,
        )
        for base in bad:
            with pytest.raises(InvalidArgument):
                store.compact_session("s", "sum", keep_last=1, base=base)
        for keep_last in (-1, 1.5, None):
            with pytest.raises(InvalidArgument):
                store.compact_session("s", "sum", keep_last=keep_last)  # type: ignore[arg-type] # that is the point
        assert store.read_entries("s") == before

    def test_unknown_session(self, store: SessionStore) -> None:
        """There is nothing to summarise in an unknown session, and none is created."""
        bases: tuple[int | History | None, ...] = (None, 1 << 40, store.get_chat_history("s"))
        for base in bases:
            with pytest.raises(SessionNotFound):
                store.compact_session("s", "sum", keep_last=1, base=base)
        assert not store.session_exists("s")
