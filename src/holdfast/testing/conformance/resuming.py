"""Turns that wait for an answer: who may go on with them, and who may not."""

from __future__ import annotations

import threading

import pytest

from holdfast.errors import Conflict, InvalidArgument, LeaseLost, SessionBusy
from holdfast.model.entry import TurnEntry
from holdfast.model.usage import TurnStatus
from holdfast.rules.partial import SUPERSEDED
from holdfast.store.sync_store import SessionStore
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, texts
from holdfast.testing.conformance.tools import call
from holdfast.testing.conformance.turning import first_delta

CALL = call("c1")["tool_calls"]
LONG_S = 20.0


class Resuming(Conformance):
    """A turn that waits keeps its session until it is answered, by whichever worker."""

    def test_waiting(self, store: SessionStore) -> None:
        """A turn that waits is not closed, and its open call stands with an invented result."""
        turn = wait(store)
        assert store.get_session("s").status == "waiting"
        assert statuses(store) == ["running", "waiting"]
        assert [m["role"] for m in store.get_chat_history("s")] == ["user", "assistant", "tool"]
        assert store.recover() == 0
        with pytest.raises(SessionBusy) as busy, store.turn("s", "Another"):
            pass
        assert (busy.value.waiting, busy.value.turn) == (True, turn)
        assert store.verify().problems == []

    def test_resumed(self, store: SessionStore) -> None:
        """Another worker goes on: the same turn, the next attempt, one prompt, and its messages."""
        waiting = wait(store)
        with store.turn("s", resume=waiting) as turn:
            assert (turn.id, turn.attempt, turn.replayed) == (waiting, 2, False)
            assert turn.waited
            assert [m["role"] for m in turn.history] == ["user", "assistant", "tool"]
            turn.add_message("tool", "noon", tool_call_id="c1")
            turn.write("It is noon.")
        assert texts(store.get_chat_history("s")) == ["When?", "Let me ask.", "noon", "It is noon."]
        assert statuses(store) == ["running", "waiting", "running", "completed"]
        assert store.verify().problems == []

    def test_approvals(self, store: SessionStore) -> None:
        """What was approved while a turn waits is there for whoever goes on with it."""
        waiting = wait(store)
        with store.turn("s", resume=waiting) as turn:
            assert turn.approved == ()
            turn.wait_for_approval(approved=["c1"])
        entry = store.read_entries("s")[-1]
        assert isinstance(entry, TurnEntry)
        assert entry.approved == ("c1",)
        with store.turn("s", resume=waiting) as turn:
            assert (turn.attempt, turn.approved) == (3, ("c1",))

    def test_over(self, store: SessionStore) -> None:
        """A turn that was answered meanwhile is given back as it was recorded."""
        waiting = wait(store)
        with store.turn("s", resume=waiting) as turn:
            turn.add_message("tool", "noon", tool_call_id="c1")
            turn.write("It is noon.")
        with store.turn("s", resume=waiting) as turn:
            assert (turn.replayed, turn.status) == (True, TurnStatus.COMPLETED)
            assert turn.messages[-1]["content"] == "It is noon."

    def test_two_resume(self, store: SessionStore) -> None:
        """Of two that go on with a turn one does, and the other waits and sees how it went."""
        waiting = wait(store)
        found: list[bool] = []

        def other() -> None:
            with store.turn("s", resume=waiting) as turn:
                found.append(turn.replayed)

        with store.turn("s", resume=waiting) as turn:
            thread = threading.Thread(target=other)
            thread.start()
            assert not turn.wait_interrupted(0.05)
            turn.add_message("tool", "noon", tool_call_id="c1")
            assert found == []
        thread.join(LONG_S)
        assert found == [True]

    def test_key(self, store: SessionStore) -> None:
        """The key of a turn that waits gives it back, waiting."""
        with store.turn("s", "When?", key="r1") as turn:
            turn.add_message("assistant", "Let me ask.", tool_calls=CALL)
            turn.wait_for_approval()
        with store.turn("s", "When?", key="r1") as turn:
            assert (turn.replayed, turn.status) == (True, TurnStatus.WAITING)

    def test_superseded(self, store: SessionStore) -> None:
        """Whoever does not want to wait closes it, and it cannot be resumed any more."""
        waiting = wait(store)
        with store.turn("s", "Never mind", on_busy="interrupt") as turn:
            turn.write("Fine.")
        assert texts(store.get_chat_history("s"))[2:] == [SUPERSEDED, "Never mind", "Fine."]
        with store.turn("s", resume=waiting) as turn:
            assert (turn.replayed, turn.status) == (True, TurnStatus.INTERRUPTED)

    def test_worker_died(self, store: SessionStore, subject: Subject) -> None:
        """A turn whose resuming worker died can be resumed again, and what it showed is kept."""
        waiting = wait(store)
        turn = store.turn("s", resume=waiting, ttl=5)
        turn.__enter__()
        turn.write("It is")
        first_delta(store)
        subject.script.advance(60_000)
        with store.turn("s", resume=waiting) as again:
            assert (again.attempt, again.replayed, again.waited) == (3, False, False)
            again.add_message("tool", "noon", tool_call_id="c1")
        with pytest.raises(LeaseLost):
            turn.__exit__(None, None, None)
        assert texts(store.get_chat_history("s"))[2:] == ["noon", "It is"]
        assert store.verify().problems == []

    def test_interrupted_does_not_wait(self, store: SessionStore) -> None:
        """A turn that is asked to stop is interrupted, and does not wait."""
        with store.turn("s", "When?") as turn:
            turn.wait_for_approval()
            store.interrupt("s")
            assert turn.wait_interrupted(LONG_S)
        assert statuses(store) == ["running", "interrupted"]

    def test_refused(self, store: SessionStore) -> None:
        """There must be such a turn, and it has its prompt already."""
        wait(store)
        with pytest.raises(Conflict, match="no turn"), store.turn("s", resume="turn_nope"):
            pass
        with pytest.raises(InvalidArgument, match="has its prompt"):
            store.turn("s", "Hello", resume="turn_nope")


def wait(store: SessionStore) -> str:
    """Leave a turn waiting, and return its id."""
    with store.turn("s", "When?") as turn:
        turn.add_message("assistant", "Let me ask.", tool_calls=CALL)
        turn.wait_for_approval()
    return turn.id


def statuses(store: SessionStore) -> list[str]:
    """Return what the log says of the session's turns."""
    entries = store.read_entries("s")
    return [entry.status.value for entry in entries if isinstance(entry, TurnEntry)]
