"""Purging: earlier generations go for good, and everything else stays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from holdfast.errors import Conflict, InvalidArgument, Purged, SessionNotFound
from holdfast.model.commit import Purge
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, texts, user, users

HOUR_MS = 3_600_000


class Purging(Conformance):
    """`purge` removes whole generations below the current one, and nothing besides."""

    def test_purge(self, subject: Subject, store: SessionStore) -> None:
        """The current history, metadata, labels and keys stay; what was before is gone."""
        store.create_session("s", title="T", metadata={"a": 1})
        past: list[int | str] = [store.add_messages("s", users("a b"), key="k").revision]
        store.label("s", "old")
        store.set_chat_history("s", users("c"))
        past.append(store.get_session("s").revision)
        store.set_chat_history("s", users("d e"))
        store.add_messages("s", users("f"))
        current, before = store.get_messages("s"), store.get_session("s")
        assert store.purge("s") == Purge(1, 2, 3, subject.erased)
        assert store.get_messages("s") == current
        assert store.get_session("s") == before
        assert [entry.kind for entry in store.read_entries("s")] == [
            "meta",
            "meta",
            "reset",
            "message",
            "message",
        ]
        for at in [*past, "old", before.labels["old"]]:
            for read in (store.get_chat_history, store.get_messages):
                with pytest.raises(Purged) as caught:
                    read("s", at=at)
                assert caught.value.code == "purged"
        assert store.add_messages("s", users("a b"), key="k").replayed
        assert store.verify().problems == []

    def test_every_revision(self, store: SessionStore) -> None:
        """Each revision is readable as it was, or purged: no reader sees a part of the past."""
        for round_ in "xyz":
            store.set_chat_history("s", users(f"{round_}1 {round_}2"))
            store.rename_session("s", round_)
            store.add_messages("s", users(f"{round_}3"))
        last = store.get_session("s").revision
        revisions = range(store.read_entries("s")[0].revision - 1, last + 1)
        states = {at: texts(store.get_messages("s", at=at)) for at in revisions}
        store.purge("s")
        first = next(at for at, state in states.items() if state == ["z1", "z2"])
        for at, state in states.items():
            if at < first:
                with pytest.raises(Purged):
                    store.get_messages("s", at=at)
            else:
                assert texts(store.get_messages("s", at=at)) == state
        assert first < last

    def test_nothing_to_purge(self, store: SessionStore) -> None:
        """Purging where there is one generation only, or none is left, changes nothing."""
        assert store.purge() == Purge(0, 0, 0, "none")
        store.add_messages("s", users("a"))
        assert store.purge("s") == Purge(0, 0, 0, "none")
        assert texts(store.get_chat_history("s", at=store.get_session("s").revision)) == ["a"]
        store.clear_session("s")
        assert store.purge("s").generations == 1
        assert store.purge("s") == Purge(0, 0, 0, "none")
        assert store.verify().problems == []

    def test_older_than(self, subject: Subject, store: SessionStore) -> None:
        """Only generations that ended that long ago go; when they began does not matter."""
        ends: dict[str, int] = {}
        for text in "abc":
            store.set_chat_history("s", users(text))
            ends[text] = store.get_session("s").revision
            subject.script.advance(HOUR_MS)
        # a ended two hours ago, b one hour ago; c is current
        nearly = timedelta(hours=2, milliseconds=1)
        assert store.purge("s", older_than=nearly) == Purge(
            1, 1, 0, subject.erased
        )  # empty, before a
        assert texts(store.get_chat_history("s", at=ends["a"])) == ["a"]
        assert store.purge("s", older_than=timedelta(hours=2)) == Purge(1, 1, 1, subject.erased)
        with pytest.raises(Purged):
            store.get_chat_history("s", at=ends["a"])
        assert texts(store.get_chat_history("s", at=ends["b"])) == ["b"]
        assert store.verify().problems == []
        assert store.purge("s", older_than=timedelta(0)) == Purge(1, 1, 1, subject.erased)
        assert texts(store.get_chat_history("s")) == ["c"]
        assert not store.purge("s", older_than=timedelta.max).sessions

    def test_all_of_a_tenant(self, subject: Subject, store: SessionStore) -> None:
        """Without a session all of the tenant's are purged, and nobody else's."""
        other = subject.open("other")
        for owner in (store, other):
            for number in range(70):
                owner.set_chat_history(f"s{number}", users("a b"))
                owner.set_chat_history(f"s{number}", users("c"))
        store.add_messages("fresh", users("d"))
        assert store.purge() == Purge(70, 140, 140, subject.erased)
        assert (store.stats().generations, other.stats().generations) == (71, 210)
        for owner in (store, other):
            assert texts(owner.get_chat_history("s69")) == ["c"]
            assert owner.verify().problems == []

    def test_counts(self, store: SessionStore) -> None:
        """Statistics and verification speak of what is left."""
        store.add_messages("s", users("a b"))
        store.rename_session("s", "title")
        store.rewind_session("s", -1)
        assert (store.stats("s").generations, store.stats("s").entries) == (2, 4)
        store.purge("s")
        stats = store.stats("s")
        assert (stats.generations, stats.entries, stats.messages) == (1, 3, 1)
        found = store.verify("s")
        assert (found.entries, found.messages) == (3, 1)

    def test_goes_on(self, store: SessionStore) -> None:
        """A purged session goes on like any other: saving, rewinding, purging again."""
        store.add_messages("s", users("a b"))
        stale = store.get_chat_history("s")
        store.set_chat_history("s", users("c d"))
        store.label("s", "later")
        store.purge("s")
        rewrite = [user("x"), *stale]
        with pytest.raises(Conflict):
            store.set_chat_history("s", stale[1:])
        with pytest.raises(Purged):
            store.set_chat_history("s", rewrite, base_revision=stale.revision)
        with pytest.raises(Purged):
            store.compact_session("s", "sum", keep_last=1, base=stale)
        with pytest.raises(Purged):
            store.rewind_session("s", stale.revision)
        with pytest.raises(Purged):
            store.fork_session("s", "t", at=stale.revision)
        stale.append(user("e"))
        store.set_chat_history("s", stale)
        assert texts(store.get_chat_history("s")) == ["c", "d", "e"]
        store.rewind_session("s", "later")
        assert texts(store.get_chat_history("s")) == ["c", "d"]
        assert store.purge("s").messages == 3
        assert texts(store.get_chat_history("s", 1)) == ["d"]
        assert store.verify().problems == []

    def test_entries_below_the_floor(self, store: SessionStore) -> None:
        """A follower that is below the floor goes on with what is left."""
        first = store.add_messages("s", users("a")).revision
        store.add_messages("s", users("b"))
        store.set_chat_history("s", users("c"))
        store.purge("s")
        assert [entry.kind for entry in store.read_entries("s", first)] == ["reset", "message"]

    def test_in_another_engine(self, subject: Subject, store: SessionStore) -> None:
        """A store that knew the session before it was purged knows it afterwards."""
        elsewhere = subject.open_elsewhere()
        elsewhere.add_messages("s", users("a"))
        elsewhere.set_chat_history("s", users("b"))
        store.purge("s")
        elsewhere.add_messages("s", users("c"))
        assert texts(store.get_chat_history("s")) == ["b", "c"]
        assert store.purge("s") == Purge(0, 0, 0, "none")
        assert store.verify().problems == []

    def test_order_of_change(self, store: SessionStore) -> None:
        """Purging is no change of a conversation: lists stay in their order."""
        store.set_chat_history("s", users("a"))
        store.set_chat_history("s", users("b"))
        store.add_messages("t", users("c"))
        store.purge("s")
        assert [info.id for info in store.list_sessions()] == ["t", "s"]

    @pytest.mark.parametrize("older_than", [timedelta(-1), 30, "30d", True])
    def test_bad_input(self, store: SessionStore, older_than: Any) -> None:
        """An age is a timedelta of 0 or more; an unknown session is not found."""
        store.set_chat_history("s", users("a"))
        store.set_chat_history("s", users("b"))
        with pytest.raises(InvalidArgument):
            store.purge(older_than=older_than)
        with pytest.raises(InvalidArgument):
            store.purge("")
        with pytest.raises(SessionNotFound):
            store.purge("nobody")
        assert store.stats().generations == 3
