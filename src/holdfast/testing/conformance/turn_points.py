"""Points of the past where there are turns: the id of a turn, and so many turns back."""

from __future__ import annotations

import contextlib

import pytest

from holdfast.errors import InvalidArgument, Purged, SessionNotFound
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, texts, user, users
from holdfast.testing.conformance.turning import fail


def say(store: SessionStore, prompt: str | None, answer: str, session_id: str = "s") -> str:
    """Run a turn and return its id."""
    with store.turn(session_id, prompt) as turn:
        turn.write(answer)
    return turn.id


def shown(store: SessionStore, at: int | str | None = None) -> list[str]:
    """Return what the history says at a point."""
    return texts(store.get_chat_history("s", at=at))


class TurnPoints(Conformance):
    """`at=` takes a turn's id, and -n counts turns where there are some."""

    def test_turn(self, store: SessionStore) -> None:
        """A turn's id is the history as it was when the turn was closed, whatever came since."""
        first, second = say(store, "a", "A"), say(store, "b", "B")
        store.add_user_message("s", "aside")
        store.clear_session("s")
        third = say(store, "c", "C")
        assert shown(store, first) == ["a", "A"]
        assert shown(store, second) == ["a", "A", "b", "B"]
        assert texts(store.get_messages("s", 1, at=second)) == ["B"]
        assert shown(store, third) == ["c", "C"]
        history = store.get_chat_history("s", at=first)
        assert history.origin is not None
        assert history.origin.pinned

    def test_open_turn(self, store: SessionStore) -> None:
        """A turn that is open is now, with whatever others added."""
        with store.turn("s", "a") as turn:
            turn.add_message("assistant", "A1")
            store.add_user_message("s", "aside")
            assert shown(store, turn.id) == ["a", "A1", "aside"]
            turn.add_message("assistant", "A2")
            assert shown(store, turn.id) == ["a", "A1", "aside", "A2"]
        store.add_user_message("s", "later")
        assert shown(store, turn.id) == ["a", "A1", "aside", "A2"]

    def test_repeated_turn(self, store: SessionStore) -> None:
        """A turn that was run again is as its last attempt left it."""
        with contextlib.suppress(RuntimeError):
            fail(store.turn("s", "a", key="k"), "half")
        say(store, "b", "B")
        with store.turn("s", "a", key="k") as turn:
            turn.write("whole")
        store.add_user_message("s", "later")
        assert shown(store, turn.id) == ["a", "half", "b", "B", "whole"]

    def test_rewind_and_fork(self, store: SessionStore) -> None:
        """A session goes back to a turn, or begins with it, and a label keeps its place."""
        first = say(store, "a", "A")
        say(store, "b", "B")
        fork = store.fork_session("s", "t", at=first)
        assert (fork.message_count, texts(store.get_messages("t"))) == (2, ["a", "A"])
        store.label("s", "then", at=first)
        assert store.rewind_session("s", first).removed == 2
        assert shown(store) == shown(store, "then") == ["a", "A"]
        say(store, "c", "C")
        assert shown(store) == ["a", "A", "c", "C"]
        assert store.verify().problems == []

    def test_unknown_turn(self, store: SessionStore) -> None:
        """A turn that the session does not have is refused everywhere, also another session's."""
        other = say(store, "a", "A", "other")
        store.add_user_message("s", "x")
        for at in ("turn_0123456789abcdef", "turn_", other):
            for refused in (
                lambda at=at: store.get_chat_history("s", at=at),
                lambda at=at: store.get_messages("s", at=at),
                lambda at=at: store.fork_session("s", "t", at=at),
                lambda at=at: store.rewind_session("s", at),
                lambda at=at: store.label("s", "x", at=at),
            ):
                with pytest.raises(InvalidArgument) as caught:
                    refused()
                assert caught.value.code == "unknown_turn"
        with pytest.raises(SessionNotFound):
            store.get_chat_history("nobody", at=other)
        store.fork_session("other", "t")
        with pytest.raises(InvalidArgument):
            store.get_chat_history("t", at=other)

    def test_purged_turn(self, store: SessionStore) -> None:
        """A turn before the floor is purged."""
        turn = say(store, "a", "A")
        store.clear_session("s")
        store.purge("s")
        with pytest.raises(Purged):
            shown(store, turn)

    def test_labels(self, store: SessionStore) -> None:
        """No label looks like a turn's id."""
        store.add_user_message("s", "a")
        for name in ("turn_1", "turn_"):
            with pytest.raises(InvalidArgument):
                store.label("s", name)
        store.label("s", "turn")
        assert shown(store, "turn") == ["a"]

    def test_imported_label(self, store: SessionStore) -> None:
        """A label of an older store that looks like a turn's id stays, and names what it did."""
        store.add_user_message("s", "a")
        store.label("s", "mark_1")
        text = store.export_session("s").replace("mark_1", "turn_1")
        store.delete_session("s")
        store.import_session(text)
        store.add_user_message("s", "b")
        assert shown(store, "turn_1") == ["a"]

    def test_back(self, store: SessionStore) -> None:
        """-n is the history before the prompt of the n-th last turn, whatever follows that."""
        say(store, "a", "A")
        with store.turn("s", [user("b1"), user("b2")]) as turn:
            store.add_user_message("s", "aside")
            turn.write("B")
        store.add_messages("s", users("later still"))
        assert shown(store, -1) == ["a", "A"]
        assert shown(store, -2) == []
        assert store.rewind_session("s", -1).removed == 6
        assert shown(store) == ["a", "A"]

    def test_before_the_turns(self, store: SessionStore) -> None:
        """Beyond the first turn -n goes on with user messages."""
        store.add_messages("s", [*users("x y"), {"role": "assistant", "content": "Y"}])
        say(store, "a", "A")
        assert [shown(store, -back) for back in (1, 2, 3)] == [["x", "y", "Y"], ["x"], []]
        with pytest.raises(InvalidArgument, match="1 turns and 2 user messages before"):
            shown(store, -4)

    def test_without_prompts(self, store: SessionStore) -> None:
        """Where turns answer what was added without them, -n counts user messages."""
        for text in "ab":
            store.add_user_message("s", text)
            say(store, None, text.upper())
        assert shown(store, -1) == ["a", "A"]
        assert shown(store, -2) == []

    def test_after_rewrites(self, store: SessionStore) -> None:
        """Turns are counted wherever a rewrite has put their prompts, and not where they left."""
        for text in "abc":
            say(store, text, text.upper())
        history = store.get_chat_history("s")
        store.set_chat_history("s", [{"role": "system", "content": "sum"}, *history[2:]])
        store.add_user_message("s", "later")
        store.purge("s")
        assert shown(store, -1) == ["sum", "b", "B"]
        assert shown(store, -2) == ["sum"]
        store.compact_session("s", "shorter", keep_last=3)
        assert shown(store, -1) == ["shorter"]
        with pytest.raises(InvalidArgument):
            shown(store, -2)

    def test_several_attempts(self, store: SessionStore) -> None:
        """A turn that was run again is one step, at its prompt."""
        say(store, "a", "A")
        for _ in range(2):
            with contextlib.suppress(RuntimeError):
                fail(store.turn("s", "b", key="k"), "half")
        with store.turn("s", "b", key="k") as turn:
            turn.write("B")
        assert shown(store, -1) == ["a", "A"]
        store.clear_session("s")
        assert shown(store) == []
        with pytest.raises(InvalidArgument, match="has 0 user messages"):
            shown(store, -1)

    def test_running(self, store: SessionStore) -> None:
        """A running turn counts too; to rewind past it leaves what it said, for it goes on."""
        say(store, "a", "A")
        with store.turn("s", "b") as turn:
            turn.write("B")
            assert shown(store, -1) == ["a", "A"]
            store.rewind_session("s", -2)
            assert shown(store) == ["b"]
        assert shown(store) == ["b", "B"]
        assert store.verify().problems == []

    def test_export(self, store: SessionStore, subject: Subject) -> None:
        """An imported session has its turns as points."""
        first = say(store, "a", "A")
        say(store, "b", "B")
        other = subject.open("other")
        other.import_session(store.export_session("s"))
        assert shown(other, first) == shown(other, -1) == ["a", "A"]
        other.rewind_session("s", -2)
        assert shown(other) == []
