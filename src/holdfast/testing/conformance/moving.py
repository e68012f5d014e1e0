"""Copying all sessions into another store, of another kind, and back again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.errors import Conflict, InvalidArgument
from holdfast.model.moving import Moved, TroubleKind
from holdfast.store import moving
from holdfast.store.engine import Engine
from holdfast.store.memory import MemoryBackend
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance import exporting_turns
from holdfast.testing.conformance.exporting import assert_twins, fill
from holdfast.testing.conformance.subject import TIMEOUT_S, Subject
from holdfast.testing.conformance.suite import Conformance, texts, users
from holdfast.testing.conformance.turning import echo, first_delta, reasons


class Elsewhere:
    """Another store, and the way there and back."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._sources = subject.script.sources()
        self.engine = Engine(MemoryBackend(self._sources), self._sources)

    def open(self, tenant: str = "default") -> SessionStore:
        """Return its sessions."""
        return SessionStore(self.engine, tenant, self._sources, TIMEOUT_S)

    def bring(self, *tenants: str) -> Moved:
        """Copy the subject's sessions here."""
        ours = self._subject.engine.backend
        return moving.Moving(ours, self.engine, tenants=tenants or None).run()

    def give_back(self) -> Moved:
        """Copy the sessions here to the subject's store."""
        return moving.Moving(self.engine.backend, self._subject.engine).run()


def counts(moved: Moved) -> tuple[int, int, int]:
    """Return how many sessions were copied, brought up to date, and there already."""
    return moved.copied, moved.updated, moved.unchanged


def troubles(moved: Moved) -> dict[str, str]:
    """Return which sessions have trouble, and of which kind."""
    return {trouble.session_id: trouble.kind for trouble in moved.troubles}


def order(store: SessionStore) -> list[str]:
    """Return sessions in the order of change, the last one first."""
    return [info.id for info in store.list_sessions(1000)]


class Moving(Conformance):
    """Every session is in the other store as it was, and once."""

    @pytest.fixture
    def other(self, subject: Subject) -> Iterator[Elsewhere]:
        """Another store, in memory."""
        other = Elsewhere(subject)
        yield other
        other.engine.close()

    def test_everything(self, subject: Subject, store: SessionStore, other: Elsewhere) -> None:
        """Of every tenant, every session comes across with all that it has, in the same order."""
        stores = [store, subject.open("b"), subject.open("a/b")]
        for each in stores:
            fill(subject, each, "s")
            subject.script.advance(-5)
            exporting_turns.fill(each, "turns")
            each.create_session("empty")
            fill(subject, each, "purged")
            each.purge("purged")
            each.add_messages("s", users(each.tenant))
        moved = other.bring()
        assert moved
        assert (counts(moved), moved.checked) == ((12, 0, 0), 12)
        for each in stores:
            there = other.open(each.tenant)
            for name in ("s", "turns", "empty", "purged"):
                assert_twins(each, name, there, name, purged=name == "purged")
            assert order(there) == order(each) == ["s", "purged", "empty", "turns"]
            assert there.stats().usage == each.stats().usage
        assert counts(other.bring()) == (0, 0, 12)

    def test_one_tenant(self, subject: Subject, store: SessionStore, other: Elsewhere) -> None:
        """Of tenants that are named, and of no other, sessions are copied."""
        store.add_messages("s", users("a"))
        subject.open("b").add_messages("s", users("b"))
        assert counts(other.bring("b")) == (1, 0, 0)
        assert not other.open().session_exists("s")
        assert texts(other.open("b").get_chat_history("s")) == ["b"]
        assert counts(other.bring("nobody")) == (0, 0, 0)
        with pytest.raises(InvalidArgument):
            other.bring("")

    def test_keys(self, store: SessionStore, other: Elsewhere) -> None:
        """A request that is sent again after the move is recognised, whatever it wrote."""
        store.add_messages("s", users("a"), key="add")
        store.set_chat_history("s", users("b c"), key="save")
        with store.turn("s", "Time?", key="turn") as turn:
            list(turn.stream(echo))
        said = texts(store.get_chat_history("s"))
        other.bring()
        there = other.open()
        commit = there.add_messages("s", users("a"), key="add")
        assert (commit.replayed, commit.revision) == (True, there.read_entries("s")[0].revision)
        assert there.set_chat_history("s", users("b c"), key="save").replayed
        with there.turn("s", "Time?", key="turn") as turn:
            assert turn.replayed
        with pytest.raises(Conflict) as caught:
            there.add_messages("s", users("a"), key="turn")
        assert caught.value.code == "key_reused"
        assert texts(there.get_chat_history("s")) == said
        assert other.bring()

    def test_goes_on(self, subject: Subject, store: SessionStore, other: Elsewhere) -> None:
        """What came since an earlier run is added, once, and the order of change follows."""
        for name in ("a", "b", "c"):
            fill(subject, store, name)
        other.bring()
        store.set_chat_history("b", users("x y"), key="k2")
        store.add_messages("new", users("n"))
        store.rewind_session("a", -1)
        store.label("a", "again")
        moved = other.bring()
        assert (bool(moved), counts(moved)) == (True, (1, 2, 1))
        assert moved.messages < 2 * len(store.get_messages("a"))
        there = other.open()
        for name in ("a", "b", "c", "new"):
            assert_twins(store, name, there, name)
        assert order(there) == order(store)
        assert there.set_chat_history("b", users("x y"), key="k2").replayed

    def test_empty_session_grows(self, store: SessionStore, other: Elsewhere) -> None:
        """A session that had no entry when it was copied goes on like any other."""
        store.create_session("s")
        other.bring()
        store.add_messages("s", users("a"))
        assert counts(other.bring()) == (0, 1, 0)
        assert_twins(store, "s", other.open(), "s")

    def test_order(self, subject: Subject, store: SessionStore, other: Elsewhere) -> None:
        """Sessions that were copied in another order are put in the source's."""
        for name in ("a", "b", "c"):
            store.add_messages(name, users(name))
            subject.script.advance()
        other.bring()
        there = other.open()
        store.add_messages("a", users("x"))
        store.add_messages("b", users("x"))
        store.add_messages("a", users("y"))
        other.bring()
        assert order(there) == order(store) == ["a", "b", "c"]
        before = {info.id: info for info in there.list_sessions()}
        assert counts(other.bring()) == (0, 0, 3)
        assert {info.id: info for info in there.list_sessions()} == before

    def test_purged_since(self, subject: Subject, store: SessionStore, other: Elsewhere) -> None:
        """What was purged in the source since it was copied goes from the copy too."""
        fill(subject, store, "s")
        other.bring()
        store.purge("s")
        moved = other.bring()
        assert (bool(moved), counts(moved)) == (True, (0, 1, 0))
        assert_twins(store, "s", other.open(), "s", purged=True)
        store.rewind_session("s", -1)
        store.add_messages("s", users("z"))
        store.purge("s")
        assert other.bring()
        assert_twins(store, "s", other.open(), "s", purged=True)
        other.open().clear_session("s")
        other.open().purge("s")
        assert troubles(other.bring()) == {"s": TroubleKind.CONFLICT}

    def test_purged_in_the_target(
        self, subject: Subject, store: SessionStore, other: Elsewhere
    ) -> None:
        """Purging a copy is no writing to it: it goes on, and what went does not come back."""
        fill(subject, store, "s")
        other.bring()
        other.open().purge("s")
        assert counts(other.bring()) == (0, 0, 1)
        store.add_messages("s", users("x"))
        moved = other.bring()
        assert (bool(moved), counts(moved)) == (True, (0, 1, 0))
        there = other.open()
        assert there.get_chat_history("s") == store.get_chat_history("s")
        assert there.stats("s").generations == 1
        assert there.verify().problems == []

    @pytest.mark.parametrize("change", ["add", "rename", "clear", "turn"])
    def test_written_to(self, store: SessionStore, other: Elsewhere, change: str) -> None:
        """A copy that somebody wrote to is a conflict, and stays as it is; the others go on."""
        for name in ("s", "t"):
            store.add_messages(name, users("a"))
        other.bring()
        there = other.open()
        changes: dict[str, Any] = {
            "add": lambda: there.add_messages("s", users("b")),
            "rename": lambda: there.rename_session("s", "T"),
            "clear": lambda: there.clear_session("s"),
            "turn": lambda: there.turn("s", "Time?").__enter__().__exit__(None, None, None),
        }
        changes[change]()
        before = there.get_session("s"), there.read_entries("s")
        for name in ("s", "t"):
            store.add_messages(name, users("c"))
        moved = other.bring()
        assert (counts(moved), troubles(moved)) == ((0, 1, 0), {"s": TroubleKind.CONFLICT})
        assert (there.get_session("s"), there.read_entries("s")) == before
        assert texts(there.get_chat_history("t")) == ["a", "c"]

    def test_no_copy(self, store: SessionStore, other: Elsewhere) -> None:
        """A session of the target that only has the same id is a conflict, even if it is equal."""
        for each in (store, other.open()):
            each.add_messages("s", [{**users("a")[0], "id": "m", "created_at": "x"}])
        moved = other.bring()
        assert troubles(moved) == {"s": TroubleKind.CONFLICT}
        assert texts(other.open().get_chat_history("s")) == ["a"]

    def test_deleted(self, store: SessionStore, other: Elsewhere) -> None:
        """A copy whose session was deleted, also if another has its id now, is named, and stays."""
        for name in ("gone", "again"):
            store.add_messages(name, users("a"))
        other.open().add_messages("own", users("x"))
        other.bring()
        for name in ("gone", "again"):
            store.delete_session(name)
        store.add_messages("again", users("b"))
        moved = other.bring()
        assert troubles(moved) == {"again": TroubleKind.CONFLICT, "gone": TroubleKind.DELETED}
        there = other.open()
        assert texts(there.get_chat_history("again")) == ["a"]
        there.delete_session("again")
        there.delete_session("gone")
        assert counts(other.bring()) == (1, 0, 0)
        assert texts(there.get_chat_history("again")) == ["b"]

    def test_back(self, subject: Subject, store: SessionStore, other: Elsewhere) -> None:
        """What was said after a move goes back to where it came from, and then forth again."""
        fill(subject, store, "s")
        store.add_messages("t", users("t"), key="t")
        other.bring()
        there = other.open()
        there.add_messages("s", users("elsewhere"), key="e")
        there.add_messages("new", users("n"))
        moved = other.give_back()
        assert (bool(moved), counts(moved)) == (True, (1, 1, 1))
        for name in ("s", "t", "new"):
            assert_twins(there, name, store, name)
        assert order(store) == order(there)
        assert store.add_messages("s", users("elsewhere"), key="e").replayed
        store.add_messages("new", users("m"))
        assert counts(other.bring()) == (0, 1, 2)
        assert texts(there.get_chat_history("new")) == ["n", "m"]
        there.add_messages("s", users("one"))
        store.add_messages("s", users("other"))
        for moved in (other.bring(), other.give_back()):
            assert troubles(moved) == {"s": TroubleKind.CONFLICT}

    def test_back_after_a_deletion(self, store: SessionStore, other: Elsewhere) -> None:
        """A copy that was brought back where its session was deleted is of that one from now on."""
        home = other.open()
        home.add_messages("s", users("a"))
        other.give_back()
        home.delete_session("s")
        other.bring()
        for text in ("b", "c"):
            home.add_messages("s", users(text))
            moved = other.give_back()
            assert (troubles(moved), counts(moved)) == ({}, (0, 1, 0))
        assert texts(store.get_chat_history("s")) == ["a", "b", "c"]

    def test_open_turn(self, store: SessionStore, other: Elsewhere) -> None:
        """An open turn comes without a worker, and its end comes with the next run."""
        with store.turn("s", "one", key="k") as turn:
            turn.write("shown")
            first_delta(store)
            assert other.bring()
            there = other.open()
            assert there.get_session("s").status == "running"
        assert counts(other.bring()) == (0, 1, 0)
        assert_twins(store, "s", there, "s")
        assert there.recover() == 0

    def test_repeated_turn(self, subject: Subject, store: SessionStore, other: Elsewhere) -> None:
        """A turn that was open in the copy, and is run again in the source, is so in the copy."""
        there = other.open()
        there.turn("s", "one", key="k", ttl=5).__enter__()
        assert other.give_back()
        subject.script.advance(60_000)
        with there.turn("s", "one", key="k") as again:
            assert other.give_back()
            subject.script.advance(60_000)
            with store.turn("s", "one", key="k") as mine:
                assert (again.attempt, mine.attempt) == (2, 3)
        assert texts(store.get_chat_history("s")) == ["one"]
        assert store.verify().problems == []

    def test_recovered_turn(self, store: SessionStore, other: Elsewhere) -> None:
        """Who closes an open turn in the target has written there; nothing of either is lost."""
        with store.turn("s", "one") as turn:
            turn.write("shown")
            first_delta(store)
            other.bring()
            there = other.open()
            assert there.recover() == 1
        assert reasons(there) == [None, "crashed"]
        assert troubles(other.bring()) == {"s": TroubleKind.CONFLICT}
        assert texts(there.get_chat_history("s")) == ["one", "shown"]

    def test_same_store(self, subject: Subject) -> None:
        """A store is not copied into itself."""
        with pytest.raises(InvalidArgument) as caught:
            moving.Moving(subject.engine.backend, subject.engine)
        assert caught.value.code == "same_store"

    def test_tenants(self, subject: Subject) -> None:
        """Tenants are those that have sessions."""
        for tenant in ("b", "a/b", "default", "é"):
            subject.open(tenant).create_session("s")
        subject.open("b").delete_session("s")
        assert sorted(subject.engine.backend.tenants()) == ["a/b", "default", "é"]
