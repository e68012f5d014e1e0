"""The same key again: what a turn's key gives back, and when the turn is run once more."""

from __future__ import annotations

import threading

import pytest

from holdfast.errors import Conflict, SessionBusy
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, texts
from holdfast.testing.conformance.tools import call
from holdfast.testing.conformance.turning import (
    LONG_S,
    echo,
    endless,
    fail,
    first_delta,
    statuses,
)


class Repeating(Conformance):
    """A prompt that is sent again under its key stands in the history once."""

    def test_completed(self, store: SessionStore) -> None:
        """A completed turn is given back, and the model is not called."""
        with store.turn("s", "Hello", key="k") as first:
            list(first.stream(echo))
        with store.turn("s", "whatever", key="k") as again:
            assert (again.replayed, again.id, again.status.value) == (True, first.id, "completed")
            assert list(again.stream(endless)) == ["You said: Hello"]
            assert texts(again.messages) == ["You said: Hello"]
            with pytest.raises(Conflict, match="replayed"):
                again.write("more")
            with pytest.raises(Conflict, match="replayed"):
                again.add_message("assistant", "more")
        assert texts(store.get_chat_history("s")) == ["Hello", "You said: Hello"]
        assert statuses(store) == ["running", "completed"]

    def test_stopped(self, store: SessionStore) -> None:
        """A turn that was stopped on request is given back as it was left."""
        with store.turn("s", "Hello", key="k") as turn:
            turn.write("half")
            store.interrupt("s")
            assert turn.wait_interrupted(LONG_S)
        with store.turn("s", "Hello", key="k") as again:
            assert (again.replayed, again.status.value) == (True, "interrupted")
            assert list(again.stream(endless)) == ["half"]

    def test_failed(self, store: SessionStore) -> None:
        """A turn that failed is run again: the same turn, the next attempt, one prompt."""
        first = store.turn("s", "Hello", key="k")
        with pytest.raises(RuntimeError):
            fail(first, "half")
        with store.turn("s", "Hello", key="k") as again:
            assert (again.id, again.attempt, again.replayed) == (first.id, 2, False)
            assert texts(again.history) == ["Hello"]
            again.write("whole")
        assert texts(store.get_chat_history("s")) == ["Hello", "half", "whole"]
        assert statuses(store) == ["running", "failed", "running", "completed"]

    def test_crashed(self, store: SessionStore, subject: Subject) -> None:
        """A turn whose worker died goes on from its finished tool exchanges."""
        gone = store.turn("s", "Time?", key="k", ttl=5)
        gone.__enter__()
        gone.add_message("assistant", None, tool_calls=call("c1")["tool_calls"])
        gone.add_message("tool", "noon", tool_call_id="c1")
        gone.write("It is")
        first_delta(store)
        subject.script.advance(60_000)
        with store.turn("s", "Time?", key="k") as again:
            assert again.attempt == 2
            assert texts(again.history) == ["Time?", None, "noon"]
            again.write("It is noon.")
        assert texts(store.get_chat_history("s")) == [
            "Time?",
            None,
            "noon",
            "It is",
            "It is noon.",
        ]
        with store.turn("s", "Time?", key="k") as third:
            assert texts(third.messages) == [None, "noon", "It is noon."]
        assert store.verify().problems == []

    def test_crashed_in_a_call(self, store: SessionStore, subject: Subject) -> None:
        """A call that a crash left without a result is shown as one that may have happened."""
        gone = store.turn("s", "Time?", key="k", ttl=5)
        gone.__enter__()
        gone.add_message("assistant", None, tool_calls=call("c1")["tool_calls"])
        subject.script.advance(60_000)
        with store.turn("s", "Time?", key="k") as again:
            assert [message["role"] for message in again.history] == ["user", "assistant", "tool"]
            assert "may or may not" in again.history[-1]["content"]

    def test_running(self, store: SessionStore, subject: Subject) -> None:
        """The key of a turn that runs waits for it, and is given what it came to."""
        other = subject.open_elsewhere()
        given: list[tuple[bool, str]] = []
        with store.turn("s", "Hello", key="k") as turn:

            def run() -> None:
                with other.turn("s", "Hello", key="k") as again:
                    given.append((again.replayed, again.text))

            thread = threading.Thread(target=run)
            thread.start()
            thread.join(0.2)
            assert given == []
            turn.write("done")
        thread.join(LONG_S)
        assert given == [(True, "done")]
        assert texts(store.get_chat_history("s")) == ["Hello", "done"]

    def test_place_in_line(self, store: SessionStore) -> None:
        """Whoever dies while waiting and comes back with its key has its place in the line."""
        with store.turn("s", "one"):
            with pytest.raises(SessionBusy), store.turn("s", "two", key="k", timeout=0.05):
                pass
            with pytest.raises(SessionBusy), store.turn("s", "three", key="l", timeout=0.05):
                pass
        with store.turn("s", "two", key="k", timeout=0) as turn:
            turn.write("mine")
        assert texts(store.get_chat_history("s")) == ["one", "two", "mine"]

    def test_prompt_that_left(self, store: SessionStore) -> None:
        """A prompt that is no longer in the history is added again with the next attempt."""
        with pytest.raises(RuntimeError):
            fail(store.turn("s", "Hello", key="k"), "")
        store.clear_session("s")
        with store.turn("s", "Hello", key="k") as again:
            assert texts(again.history) == ["Hello"]
            again.write("whole")
        assert texts(store.get_chat_history("s")) == ["Hello", "whole"]

    def test_prompt_that_was_carried_over(self, store: SessionStore) -> None:
        """A prompt that a rewrite kept is not added again."""
        with pytest.raises(RuntimeError):
            fail(store.turn("s", "Hello", key="k"), "")
        history = store.get_chat_history("s")
        store.set_chat_history("s", [{"role": "system", "content": "Be brief."}, *history])
        with store.turn("s", "Hello", key="k") as again:
            again.write("whole")
        assert texts(store.get_chat_history("s")) == ["Be brief.", "Hello", "whole"]

    def test_another_kind(self, store: SessionStore) -> None:
        """A key that was used to add messages is none for a turn, and the other way round."""
        store.add_user_message("s", "a", key="k1")
        with pytest.raises(Conflict) as caught, store.turn("s", "b", key="k1"):
            pass
        assert caught.value.code == "key_reused"
        with store.turn("s", "b", key="k2"):
            pass
        with pytest.raises(Conflict):
            store.add_user_message("s", "c", key="k2")
