"""What rewrites do to turns, and attempts to histories that were rewritten since."""

from __future__ import annotations

import contextlib

import pytest

from holdfast.errors import Purged
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, texts, user
from holdfast.testing.conformance.tools import call
from holdfast.testing.conformance.turning import fail, first_delta

CALLS = call("c1")["tool_calls"]
SYSTEM = {"role": "system", "content": "sum"}


def fails(store: SessionStore, text: str = "", prompt: str = "Hello") -> None:
    """Run a turn with the key `k` that shows some text and fails."""
    with contextlib.suppress(RuntimeError):
        fail(store.turn("s", prompt, key="k"), text)


class Carrying(Conformance):
    """Wherever a rewrite puts a prompt it is the turn's, once, and its answer follows it."""

    def test_again_and_again(self, store: SessionStore) -> None:
        """A prompt that left, and was added again by an attempt, is there for the next one."""
        fails(store)
        store.clear_session("s")
        fails(store)
        with store.turn("s", "Hello", key="k") as turn:
            assert (turn.attempt, texts(turn.history)) == (3, ["Hello"])
            turn.write("whole")
        assert texts(store.get_chat_history("s")) == ["Hello", "whole"]

    def test_rewritten(self, store: SessionStore) -> None:
        """An attempt answers the history as it was rewritten, not what was taken out of it."""
        store.add_user_message("s", "secret")
        fails(store, "half")
        store.set_chat_history("s", [SYSTEM, *store.get_chat_history("s")[1:]])
        with store.turn("s", "Hello", key="k") as turn:
            assert texts(turn.history) == ["sum", "Hello"]
            turn.write("whole")
        assert texts(store.get_chat_history("s")) == ["sum", "Hello", "half", "whole"]

    def test_purged(self, store: SessionStore) -> None:
        """Purging what a rewrite left behind makes an attempt neither fail nor ask again."""
        store.add_user_message("s", "before")
        fails(store)
        store.set_chat_history("s", [SYSTEM, *store.get_chat_history("s")[1:]])
        store.purge("s")
        with store.turn("s", "Hello", key="k") as turn:
            assert texts(turn.history) == ["sum", "Hello"]
            turn.write("whole")
        assert texts(store.get_chat_history("s")) == ["sum", "Hello", "whole"]

    def test_purged_meanwhile(self, store: SessionStore) -> None:
        """Purging during a turn leaves what the turn has said, whatever became of the history."""
        store.add_user_message("s", "long ago")
        store.clear_session("s")
        with store.turn("s", "Hello", key="k") as turn:
            turn.add_message("assistant", "first")
            store.set_chat_history("s", [SYSTEM, *store.get_chat_history("s")])
            assert store.purge("s").generations == 1
            store.clear_session("s")
            assert store.purge("s").generations == 0
            assert texts(store.get_chat_history("s")) == ["Hello", "first"]
            assert texts(turn.messages) == ["first"]
            turn.write("second")
        assert texts(store.get_chat_history("s")) == ["Hello", "first", "second"]
        assert store.purge("s").generations == 2
        assert store.verify().problems == []

    def test_replay_after_a_purge(self, store: SessionStore) -> None:
        """A turn whose prompt and answer were purged is not given back as if it said nothing."""
        with store.turn("s", "Hello", key="k") as turn:
            turn.write("whole")
        store.clear_session("s")
        with store.turn("s", "Hello", key="k") as again:
            assert (texts(again.history), again.text) == (["Hello"], "whole")
        store.purge("s")
        with pytest.raises(Purged), store.turn("s", "Hello", key="k"):
            pass
        assert store.get_session("s").status == "idle"

    def test_result_of_an_earlier_call(self, store: SessionStore, subject: Subject) -> None:
        """A result that an attempt finds for an earlier one's call takes its place, once."""
        gone = store.turn("s", "Time?", key="k", ttl=5)
        gone.__enter__()
        gone.add_message("assistant", None, tool_calls=CALLS)
        subject.script.advance(60_000)
        with store.turn("s", "Time?", key="k") as turn:
            assert "may or may not" in turn.history[-1]["content"]
            turn.add_message("tool", "noon", tool_call_id="c1")
            assert texts(turn.history) == ["Time?", None, "noon"]
            assert texts(turn.messages) == [None, "noon"]

    def test_text_before_a_result(self, store: SessionStore) -> None:
        """Text between a call and its result follows them in what a model is to answer."""
        with store.turn("s", "Time?") as turn:
            turn.add_message("assistant", None, tool_calls=CALLS)
            turn.write("Wait...")
            turn.add_message("tool", "noon", tool_call_id="c1")
            assert texts(turn.history) == ["Time?", None, "noon", "Wait..."]

    def test_result_of_a_call_outside(self, store: SessionStore) -> None:
        """A turn may find the result of a call that stands before it."""
        store.add_messages("s", [user("Time?"), call("c1")])
        with store.turn("s") as turn:
            assert "may or may not" in turn.history[-1]["content"]
            turn.add_message("tool", "noon", tool_call_id="c1")
            assert texts(turn.history) == ["Time?", None, "noon"]

    def test_cleared_meanwhile(self, store: SessionStore, subject: Subject) -> None:
        """A prompt that a clear carried over is a prompt still, not something that was said."""
        store.add_user_message("s", "before")
        gone = store.turn("s", "Time?", key="k", ttl=5)
        gone.__enter__()
        gone.add_message("assistant", None, tool_calls=CALLS)
        gone.add_message("tool", "noon", tool_call_id="c1")
        store.clear_session("s")
        subject.script.advance(60_000)
        with store.turn("s", "Time?", key="k") as turn:
            assert texts(turn.history) == ["Time?", None, "noon"]
            assert texts(turn.messages) == [None, "noon"]
            turn.write("Noon.")
        assert texts(store.get_chat_history("s")) == ["Time?", None, "noon", "Noon."]
        with store.turn("s", "Time?", key="k") as again:
            assert texts(again.messages) == [None, "noon", "Noon."]

    def test_rewritten_then_cleared(self, store: SessionStore) -> None:
        """What a running turn said stays through a rewrite and a clear after it."""
        with store.turn("s", "Time?") as turn:
            turn.add_message("assistant", None, tool_calls=CALLS)
            turn.add_message("tool", "noon", tool_call_id="c1")
            store.set_chat_history("s", [SYSTEM, *store.get_chat_history("s")])
            store.clear_session("s")
            assert texts(store.get_chat_history("s")) == ["Time?", None, "noon"]
            turn.write("Noon.")
        assert texts(store.get_chat_history("s")) == ["Time?", None, "noon", "Noon."]

    def test_prompt_of_two_messages(self, store: SessionStore) -> None:
        """A rewind that holds a running turn's prompt does not get it twice."""
        with store.turn("s", [user("a"), user("b")]) as turn:
            store.rewind_session("s", store.get_session("s").revision)
            assert texts(store.get_chat_history("s")) == ["a", "b"]
            turn.write("c")
        assert texts(store.get_chat_history("s")) == ["a", "b", "c"]
        assert store.verify().problems == []

    @pytest.mark.parametrize("purged", [False, True])
    def test_cleared_while_streaming(
        self, store: SessionStore, subject: Subject, *, purged: bool
    ) -> None:
        """What a worker had shown before a clear is kept when it dies after it."""
        gone = store.turn("s", "Hello", ttl=5)
        gone.__enter__()
        gone.add_message("assistant", "first")
        gone.write("half")
        first_delta(store)
        store.clear_session("s")
        if purged:
            store.purge("s")
        subject.script.advance(60_000)
        assert store.recover() == 1
        assert texts(store.get_chat_history("s")) == ["Hello", "first", "half"]
