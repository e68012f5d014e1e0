"""Turns: what is committed when, how they end, and what they leave."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import pytest

from holdfast.errors import Conflict, LeaseLost, SessionBusy, WrongUser
from holdfast.model.entry import DeltaEntry, MessageEntry, TurnEntry, UsageEntry
from holdfast.model.usage import TurnStatus
from holdfast.rules.history import History
from holdfast.store.sync_store import SessionStore
from holdfast.store.sync_turn import Turn
from holdfast.testing.conformance.subject import Subject
from holdfast.testing.conformance.suite import Conformance, texts
from holdfast.testing.conformance.tools import call

CALL = call("c1")["tool_calls"]
LONG_S = 20.0


class Turning(Conformance):
    """A prompt and all that follows from it are one thing that a crash does not take apart."""

    def test_prompt_first(self, store: SessionStore) -> None:
        """The prompt is in the log before the block starts, and ends the history to be answered."""
        store.add_user_message("s", "before")
        with store.turn("s", "Now?") as turn:
            assert texts(store.get_chat_history("s")) == ["before", "Now?"]
            assert texts(turn.history) == ["before", "Now?"]
            assert store.get_session("s").status == "running"
            assert (turn.attempt, turn.replayed, turn.messages) == (1, False, [])
        assert store.get_session("s").status == "idle"
        assert statuses(store) == ["running", "completed"]
        assert store.verify().problems == []

    def test_text(self, store: SessionStore) -> None:
        """What was streamed is one message of the assistant when the turn ends."""
        with store.turn("s", "Hello") as turn:
            for piece in ("Hel", "lo ", "you"):
                turn.write(piece)
        assert store.get_chat_history("s") == [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hello you"},
        ]
        assert turn.text == "Hello you"

    def test_no_text(self, store: SessionStore) -> None:
        """A turn without text leaves no empty message."""
        with store.turn("s", "Hello") as turn:
            turn.write("")
        assert texts(store.get_chat_history("s")) == ["Hello"]

    def test_stream(self, store: SessionStore) -> None:
        """`stream` yields what the generator yields and keeps it; the latter sees the history."""
        with store.turn("s", "Hello") as turn:
            assert list(turn.stream(echo)) == ["You said: ", "Hello"]
        assert texts(store.get_chat_history("s")) == ["Hello", "You said: Hello"]

    def test_flushing(self, store: SessionStore) -> None:
        """Streamed text is in the log while the turn runs; the message then takes its place."""
        with store.turn("s", "Hello", flush_interval=0.05) as turn:
            turn.write("shown")
            shown = first_delta(store)
            assert (shown.text, shown.offset, shown.turn) == ("shown", 0, turn.id)
            turn.write(" later")
        said = [e for e in store.read_entries("s") if isinstance(e, MessageEntry)]
        assert texts(list(said[-1].messages)) == ["shown later"]
        assert said[-1].turn == turn.id

    def test_much_text(self, store: SessionStore) -> None:
        """Text that comes faster than the disk takes it waits, and none of it is lost."""
        piece = "0123456789abcdef" * 1024
        with store.turn("s", "Hello") as turn:
            for _ in range(200):
                turn.write(piece)
        assert store.get_chat_history("s")[-1]["content"] == piece * 200

    def test_tools(self, store: SessionStore) -> None:
        """A call is in the log before it is carried out, its result before the model goes on."""
        with store.turn("s", "Time?") as turn:
            turn.write("Let me see. ")
            turn.add_message("assistant", "Let me see.", tool_calls=CALL)
            assert store.get_messages("s")[-1]["tool_calls"] == CALL
            turn.add_message("tool", "noon", tool_call_id="c1")
            assert store.get_messages("s")[-1]["content"] == "noon"
            assert texts(turn.history) == ["Time?", "Let me see.", "noon"]
            turn.write("It is noon.")
        assert texts(store.get_chat_history("s")) == [
            "Time?",
            "Let me see.",
            "noon",
            "It is noon.",
        ]

    def test_text_before_a_result(self, store: SessionStore) -> None:
        """Text that was streamed before a tool's message becomes a message in front of it."""
        with store.turn("s", "Time?") as turn:
            turn.add_message("assistant", None, tool_calls=CALL)
            turn.write("Wait...")
            turn.add_message("tool", "noon", tool_call_id="c1")
        assert texts(store.get_messages("s")) == ["Time?", None, "Wait...", "noon"]

    def test_usage(self, store: SessionStore) -> None:
        """Each model call's tokens are one record, in the log by the time that the turn ends."""
        with store.turn("s", "Hello") as turn:
            turn.record_usage(model="m", input_tokens=3, output_tokens=5, cached_tokens=1)
            turn.write("x")
            turn.record_usage(unknown=True)
        usages = [e.usage for e in store.read_entries("s") if isinstance(e, UsageEntry)]
        assert [(u.model, u.input_tokens, u.unknown) for u in usages] == [
            ("m", 3, False),
            (None, 0, True),
        ]
        assert len({u.call for u in usages}) == 2

    def test_usage_of_a_message(self, store: SessionStore) -> None:
        """A call's tokens are in the log with the message that came of it, before the turn ends."""
        with store.turn("s", "Hello") as turn:
            turn.record_usage(input_tokens=3)
            turn.add_message("assistant", "first")
            usages = [e.usage for e in store.read_entries("s") if isinstance(e, UsageEntry)]
            assert [usage.input_tokens for usage in usages] == [3]
        assert len([e for e in store.read_entries("s") if isinstance(e, UsageEntry)]) == 1

    def test_failure(self, store: SessionStore) -> None:
        """An exception leaves the turn failed and is raised again; what was shown is kept."""
        with pytest.raises(RuntimeError, match="boom"):
            fail(store.turn("s", "Hello"), "half")
        last = store.get_messages("s")[-1]
        assert (last["content"], last["metadata"]["state"]) == ("half", "interrupted")
        closing = [e for e in store.read_entries("s") if isinstance(e, TurnEntry)][-1]
        assert closing.status is TurnStatus.FAILED
        assert closing.error == "RuntimeError: boom"

    def test_leaving_early(self, store: SessionStore) -> None:
        """Leaving the loop over a stream early interrupts the turn, and keeps what was shown."""
        with store.turn("s", "Hello") as turn:
            for _ in turn.stream(endless):
                break
        assert statuses(store) == ["running", "interrupted"]
        assert reasons(store)[-1] == "abandoned"
        assert store.get_messages("s")[-1]["metadata"]["state"] == "interrupted"

    def test_interrupt(self, store: SessionStore) -> None:
        """`interrupt` stops the running turn, keeps its text, and says whether one was running."""
        store.add_user_message("s", "before")
        assert not store.interrupt("s")
        with store.turn("s", "Hello") as turn:
            turn.write("half")
            assert store.interrupt("s")
            assert turn.wait_interrupted(LONG_S)
            assert turn.interrupted
        assert reasons(store)[-1] == "requested"
        assert store.get_messages("s")[-1]["metadata"]["state"] == "interrupted"

    def test_interrupted_stream(self, store: SessionStore) -> None:
        """A stream ends by itself when its turn is asked to stop."""
        with store.turn("s", "Hello") as turn:
            count = 0
            for _ in turn.stream(endless):
                count += 1
                if count == 1:
                    store.interrupt("s")
        assert count > 0
        assert reasons(store)[-1] == "requested"

    def test_busy(self, store: SessionStore) -> None:
        """With `reject` a second turn is refused with the holder's name, and writes nothing."""
        with store.turn("s", "one") as turn:
            with pytest.raises(SessionBusy) as caught, store.turn("s", "two", on_busy="reject"):
                pass
            assert caught.value.turn == turn.id
            assert caught.value.worker
            with store.turn("other", "free", on_busy="reject"):
                pass
        assert texts(store.get_chat_history("s")) == ["one"]

    def test_waiting(self, store: SessionStore, subject: Subject) -> None:
        """With `wait` turns run one after the other, in the order in which they came."""
        other = subject.open_elsewhere()
        ran: list[str] = []
        first = store.turn("s", "first")
        first.__enter__()

        def run(name: str) -> None:
            with other.turn("s", name):
                ran.append(name)

        threads = [threading.Thread(target=run, args=(f"t{number}",)) for number in range(3)]
        for number, thread in enumerate(threads):
            thread.start()
            subject.wait_for(partial(stands_in_line, subject, number + 1))
        assert ran == []
        first.__exit__(None, None, None)
        for thread in threads:
            thread.join(LONG_S)
        assert ran == ["t0", "t1", "t2"]
        assert texts(store.get_chat_history("s")) == ["first", "t0", "t1", "t2"]
        assert statuses(store) == ["running", "completed"] * 4

    def test_waiting_ends(self, store: SessionStore) -> None:
        """Whoever waits longer than `timeout` is refused, and the turn that runs goes on."""
        with store.turn("s", "one") as turn:
            with pytest.raises(SessionBusy), store.turn("s", "two", timeout=0.05):
                pass
            turn.write("still here")
        assert texts(store.get_chat_history("s")) == ["one", "still here"]

    def test_leaving_the_line(self, store: SessionStore) -> None:
        """Whoever gave up waiting stands in nobody's way, with a key or without."""
        for key in (None, "k"):
            with (
                store.turn("s", "one"),
                pytest.raises(SessionBusy),
                store.turn("s", "two", key=key, timeout=0.05),
            ):
                pass
            with store.turn("s", "three", on_busy="reject"):
                pass
        assert texts(store.get_chat_history("s")) == ["one", "three"] * 2

    def test_interrupting(self, store: SessionStore) -> None:
        """With `interrupt` the running turn is asked to stop, then ours runs."""
        started, ended = threading.Event(), threading.Event()

        def run() -> None:
            with store.turn("s", "one") as turn:
                turn.write("half")
                started.set()
                turn.wait_interrupted(LONG_S)
            ended.set()

        thread = threading.Thread(target=run)
        thread.start()
        assert started.wait(LONG_S)
        with store.turn("s", "two", on_busy="interrupt") as turn:
            turn.write("whole")
        thread.join(LONG_S)
        assert ended.is_set()
        assert texts(store.get_chat_history("s")) == ["one", "half", "two", "whole"]
        assert statuses(store) == ["running", "interrupted", "running", "completed"]

    def test_owner(self, store: SessionStore) -> None:
        """The first turn that names a user sets the session's; another user is refused."""
        with store.turn("s", "mine", user_id="ada"):
            pass
        assert store.get_session("s").user_id == "ada"
        with pytest.raises(WrongUser), store.turn("s", "yours", user_id="eve"):
            pass
        with store.turn("s", "anybody's"):
            pass
        assert texts(store.get_chat_history("s")) == ["mine", "anybody's"]

    def test_expired_but_not_taken(self, store: SessionStore, subject: Subject) -> None:
        """A worker whose lease ran out, and that nobody relieved, goes on."""
        with store.turn("s", "one", ttl=5) as turn:
            subject.script.advance(60_000)
            turn.add_message("assistant", "still mine")
        assert texts(store.get_chat_history("s")) == ["one", "still mine"]
        assert statuses(store) == ["running", "completed"]

    def test_taken_over(self, store: SessionStore, subject: Subject) -> None:
        """A worker whose session another one took over can write nothing any more."""
        lost = store.turn("s", "one", ttl=5)
        lost.__enter__()
        lost.write("shown")
        first_delta(store)
        subject.script.advance(60_000)
        with store.turn("s", "two") as turn:
            with pytest.raises(LeaseLost):
                lost.add_message("assistant", "too late")
            turn.write("mine")
        with pytest.raises(LeaseLost):
            lost.__exit__(None, None, None)
        assert texts(store.get_chat_history("s")) == ["one", "shown", "two", "mine"]
        assert reasons(store) == [None, "crashed", None, None]
        assert store.verify().problems == []

    def test_recover(self, store: SessionStore, subject: Subject) -> None:
        """`recover` closes the turns of workers that are gone, with what they had shown."""
        gone = store.turn("s", "one", ttl=5)
        gone.__enter__()
        gone.write("shown")
        first_delta(store)
        assert store.recover() == 0
        subject.script.advance(60_000)
        assert store.recover() == 1
        assert store.recover() == 0
        last = store.get_messages("s")[-1]
        assert (last["content"], last["metadata"]) == ("shown", {"state": "interrupted"})
        assert store.get_session("s").status == "idle"
        usages = [e.usage for e in store.read_entries("s") if isinstance(e, UsageEntry)]
        assert [usage.unknown for usage in usages] == [True]
        with pytest.raises(LeaseLost):
            gone.__exit__(None, None, None)

    def test_deleted(self, store: SessionStore) -> None:
        """A turn whose session is deleted, and made anew, can write nothing."""
        turn = store.turn("s", "one")
        turn.__enter__()
        store.delete_session("s")
        store.add_user_message("s", "another session")
        with pytest.raises(LeaseLost):
            turn.add_message("assistant", "too late")
        with pytest.raises(LeaseLost):
            turn.__exit__(None, None, None)
        assert texts(store.get_chat_history("s")) == ["another session"]

    def test_rewritten_meanwhile(self, store: SessionStore) -> None:
        """A history that is rewritten while a turn runs keeps the turn's messages together."""
        store.add_user_message("s", "old")
        with store.turn("s", "one") as turn:
            turn.write("half ")
            store.clear_session("s")
            assert texts(store.get_chat_history("s")) == ["one"]
            history = store.get_chat_history("s")
            store.add_user_message("s", "aside")
            store.set_chat_history("s", [{"role": "system", "content": "sum"}, *history[:0]])
            turn.write("whole")
        assert texts(store.get_chat_history("s")) == ["sum", "one", "half whole"]
        assert store.verify().problems == []

    def test_moved(self, store: SessionStore) -> None:
        """An export holds the turns; one that was running has no worker where it is imported."""
        with store.turn("s", "one", key="k") as turn:
            turn.write("answer")
            turn.record_usage(input_tokens=1)
        running = store.turn("s", "two")
        running.__enter__()
        running.write("half")
        first_delta(store)
        store.import_session(store.export_session("s"), "copy")
        assert store.get_messages("copy") == store.get_messages("s")
        assert store.get_session("copy").status == "running"
        assert store.verify().problems == []
        assert store.recover() == 1
        assert texts(store.get_chat_history("copy"))[:3] == ["one", "answer", "two"]
        assert store.verify().problems == []
        running.__exit__(None, None, None)
        assert texts(store.get_chat_history("s")) == ["one", "answer", "two", "half"]

    def test_writing_outside(self, store: SessionStore) -> None:
        """A running turn does not keep others from adding messages."""
        with store.turn("s", "one") as turn:
            store.add_user_message("s", "aside")
            turn.write("answer")
            assert texts(turn.history) == ["one"]
        assert texts(store.get_chat_history("s")) == ["one", "aside", "answer"]

    def test_closed(self, store: SessionStore) -> None:
        """A turn that is over takes nothing more."""
        with store.turn("s", "one") as turn:
            pass
        with pytest.raises(Conflict, match="closed"):
            turn.write("more")


def stands_in_line(subject: Subject, count: int) -> bool:
    """Say whether so many wait for the session's turn."""
    return subject.waiting("s") == count


def echo(history: History) -> Iterator[str]:
    """Answer with the last message."""
    yield "You said: "
    yield history[-1]["content"]


def endless(history: History) -> Iterator[str]:
    """Answer for ever."""
    while True:
        yield f"{len(history)} "


def first_delta(store: SessionStore) -> DeltaEntry:
    """Return the session's first streamed text, as soon as it is in the log."""
    for entry in store.follow("s"):
        if isinstance(entry, DeltaEntry):
            return entry
    raise AssertionError("a follower does not end")


def turn_entries(store: SessionStore) -> list[TurnEntry]:
    """Return what the log says of its turns."""
    return [entry for entry in store.read_entries("s") if isinstance(entry, TurnEntry)]


def statuses(store: SessionStore) -> list[str]:
    """Return how the session's turns went."""
    return [entry.status.value for entry in turn_entries(store)]


def reasons(store: SessionStore) -> list[str | None]:
    """Return why they were interrupted."""
    return [entry.reason for entry in turn_entries(store)]


def fail(turn: Turn, text: str) -> None:
    """Run a turn that shows some text and then fails."""
    with turn:
        turn.write(text)
        raise RuntimeError("boom")
