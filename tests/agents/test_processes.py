"""Agents in processes that are killed, stopped, crowded, or at their end."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import holdfast
from holdfast.agents import Agent, ManagedAgent, idempotent, needs_approval
from holdfast.agents.approving import Decision, drive_on
from holdfast.agents.driving import Stage
from holdfast.agents.offline import OfflineRunner
from holdfast.errors import Conflict
from holdfast.model.entry import DeltaEntry
from holdfast.store.faces import async_face, open_turn
from holdfast.store.sources import Sources
from holdfast.testing.fakes.openai import FakeCall, FakeOpenAI, Scripted
from tests.agents.scene import endings, said, wait_for
from tests.agents.worker import SESSION, STARTS, main
from tests.forking import Forked
from tests.started import started
from tests.turns.judging import judge

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE_S = 60.0
CHUNKS = 20
KILLS = 8
LATER_MS = 3_600_000


class Play:
    """A store, and processes that answer in it."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "chats.db")
        self.store = holdfast.connect(self.path)
        self.store.create_session(SESSION)
        self._forked: list[Forked] = []

    def fork(self, role: str, base_url: str, name: str) -> Forked:
        """Start a process that need not import anything: for those that come to no end of it."""
        forked = Forked(main, name, [role, self.path, base_url, name])
        self._forked.append(forked)
        return forked

    def start(self, role: str, base_url: str, name: str) -> subprocess.Popen[str]:
        """Start a program."""
        command = [sys.executable, "-m", "tests.agents.worker", role, self.path, base_url, name]
        return started(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))

    def shown(self) -> str:
        """Return the streamed text that is in the log."""
        entries = self.store.read_entries(SESSION)
        return "".join(entry.text for entry in entries if isinstance(entry, DeltaEntry))

    def close(self) -> None:
        """End what is left."""
        for forked in self._forked:
            forked.close()
        self.store.close()


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    """A store and no process yet."""
    play = Play(tmp_path)
    yield play
    play.close()


def chunks(**faults: int) -> Scripted:
    """Return an answer that is held back after so many chunks."""
    words = tuple(f"word{number} " for number in range(CHUNKS + 5))
    return Scripted(pieces=words, hold_after=CHUNKS)


SHOWN = "".join(f"word{number} " for number in range(CHUNKS))


def test_killed_after_twenty_chunks(play: Play) -> None:
    """A worker killed in mid-stream leaves the prompt and the flushed text, marked interrupted."""
    with FakeOpenAI([chunks(), Scripted(pieces=("Fine.",))]) as fake:
        worker = play.fork("stream", fake.base_url, "Tell me")
        wait_for(lambda: play.shown() == SHOWN, "the streamed text")
        worker.kill()
        fake.release()
        later = Sources(now_ms=lambda: time.time_ns() // 1_000_000 + LATER_MS)
        with holdfast.connect(play.path, sources=later) as store:
            assert store.recover() == 1
            assert said(store.get_messages(SESSION)) == [
                ("user", "Tell me", None),
                ("assistant", SHOWN, "interrupted"),
            ]
            assert endings(store.read_entries(SESSION)) == ["interrupted"]
            assert store.stats(SESSION).usage.unknown == 1
            agent = Agent(model="fake-1", base_url=fake.base_url, session=SESSION, store=store)
            assert agent.start("And now?") == "Fine."
        sent = [m["content"] for m in fake.requests[-1]["messages"]]
        assert sent == ["Tell me", SHOWN, "And now?"]


def test_the_status_of_a_session_whose_worker_was_killed(play: Play) -> None:
    """It runs until the lease is over, since nobody can know before, and is idle from then on."""
    with FakeOpenAI([chunks()]) as fake:
        worker = play.fork("stream", fake.base_url, "Tell me")
        wait_for(lambda: play.shown() == SHOWN, "the streamed text")
        worker.kill()
        fake.release()
    row = play.store._reading.live_row(SESSION)
    assert row is not None
    for now, status in ((row.lease_until - 1, "running"), (row.lease_until, "idle")):
        at = Sources(now_ms=partial(int, now))
        with holdfast.connect(play.path, sources=at) as store:
            managed = ManagedAgent(store=store, session_id=SESSION)
            assert managed.retrieve_session()["status"] == status
            assert store.get_session(SESSION).status == "running", "nobody has closed it"


def test_killed_at_random(play: Play) -> None:
    """Agents that are killed at any moment, and asked again, answer each prompt once, in order.

    There are as many prompts as it takes to kill eight of those who answer.
    """
    kills = answered = 0
    moments = random.Random(7)

    def script(body: dict[str, Any]) -> Scripted:
        if body["messages"][-1]["role"] == "user" and moments.random() < 0.5:
            call = FakeCall("weather", '{"city": "Paris"}', f"call_{moments.random()}")
            return Scripted(pieces=("Let me ", "look."), calls=(call,), delay=0.01)
        return Scripted(pieces=("It ", "is ", "so."), delay=0.05)

    with FakeOpenAI(script) as fake:
        while kills < KILLS:
            spared = False
            while not spared:
                requests = len(fake.requests)
                worker = play.fork("keyed", fake.base_url, f"prompt {answered}")
                # Without a request, if the one before was killed after its answer was stored.
                while len(fake.requests) == requests and worker.ended(0) is None:
                    time.sleep(0.002)
                code = worker.ended(moments.uniform(0.0, 0.4))
                assert code in (0, None)
                spared = code == 0
                if not spared:
                    worker.kill()
                    kills += 1
                    later = Sources(now_ms=lambda: time.time_ns() // 1_000_000 + LATER_MS)
                    with holdfast.connect(play.path, sources=later) as store:
                        store.recover()
            answered += 1
    assert judge(play.store.read_entries(SESSION)) == []
    assert play.store.verify().problems == []
    history = play.store.get_chat_history(SESSION)
    prompts = [m["content"] for m in history if m["role"] == "user"]
    assert prompts == [f"prompt {number}" for number in range(answered)]
    assert endings(play.store.read_entries(SESSION)).count("completed") == answered


@pytest.mark.parametrize("mark", [None, idempotent])
def test_killed_in_a_tool(play: Play, mark: Any) -> None:
    """A tool whose worker died in it is called again only if it is declared idempotent."""
    calls: list[str] = []

    def pay() -> str:
        """Pay."""
        calls.append("again")
        return "paid"

    script = [Scripted(calls=(FakeCall("pay"),)), Scripted(pieces=("Done.",))]
    with FakeOpenAI(script) as fake:
        worker = play.fork("dies_in_a_tool", fake.base_url, "r1")
        assert worker.ended() == 9
        later = Sources(now_ms=lambda: time.time_ns() // 1_000_000 + LATER_MS)
        with holdfast.connect(play.path, sources=later) as store:
            agent = Agent(
                model="fake-1",
                base_url=fake.base_url,
                session=SESSION,
                store=store,
                tools=[mark(pay) if mark else pay],
            )
            assert agent.start("Pay it", key="r1") == "Done."
        told = fake.requests[1]["messages"][-1]
    assert calls == (["again"] if mark else [])
    assert told["role"] == "tool"
    assert ("may or may not" in told["content"]) is (mark is None)
    roles = [m["role"] for m in play.store.get_chat_history(SESSION)]
    assert roles == ["user", "assistant", "tool", "assistant"]


@pytest.mark.parametrize("role", ["dies_in_a_tool", "dies_once_approved"])
def test_a_crashed_call_does_not_wait(play: Play, role: str) -> None:
    """A call whose worker died in it can be neither approved nor denied; the model is told."""
    calls: list[str] = []

    def pay() -> str:
        """Pay."""
        calls.append("again")
        return "paid"

    tool = needs_approval(pay) if role == "dies_once_approved" else pay
    script = [Scripted(calls=(FakeCall("pay", "{}", "c1"),)), Scripted(pieces=("Done.",))]
    with FakeOpenAI(script) as fake:
        worker = play.fork(role, fake.base_url, "r1")
        assert worker.ended() == 9
        turn = open_turn(play.store, SESSION)
        assert turn is not None
        later = Sources(now_ms=lambda: time.time_ns() // 1_000_000 + LATER_MS)
        with holdfast.connect(play.path, sources=later) as store:
            agent = Agent(
                model="fake-1", base_url=fake.base_url, session=SESSION, store=store, tools=[tool]
            )
            for decide in (agent.approve, agent.deny):
                with pytest.raises(Conflict) as refused:
                    decide("c1").text  # noqa: B018 - reading it raises
                assert refused.value.code == "not_waiting"
            assert endings(store.read_entries(SESSION))[-1:] != ["interrupted"], "left alone"
            # Who decides while the worker still counts as alive finds out in the turn.
            decision = Decision(session_id=SESSION, turn=turn, call="c1", approved=True)
            with pytest.raises(Conflict) as refused:
                asyncio.run(drive_on(async_face(store), OfflineRunner(), decision, Stage()))
            assert refused.value.code == "not_waiting"
            assert agent.start("Pay it", key="r1") == "Done."
            history = store.get_chat_history(SESSION)
            assert store.verify().problems == []
        told = fake.requests[1]["messages"][-1]
    assert calls == []
    assert told["role"] == "tool"
    assert "may or may not" in told["content"]
    assert [m["role"] for m in history] == ["user", "assistant", "tool", "assistant"]


def test_stopped_by_ctrl_c(play: Play) -> None:
    """Ctrl-C in mid-answer reaches the caller, and what was said is kept, marked interrupted."""
    with FakeOpenAI([chunks()]) as fake:
        worker = play.start("whole", fake.base_url, "Tell me")
        wait_for(lambda: play.shown() == SHOWN, "the streamed text")
        worker.send_signal(signal.SIGINT)
        out, _ = worker.communicate(timeout=PATIENCE_S)
        fake.release()
    assert (out, worker.returncode) == ("stopped\n", 0)
    assert said(play.store.get_messages(SESSION))[-1] == ("assistant", SHOWN, "interrupted")
    assert endings(play.store.read_entries(SESSION)) == ["interrupted"]


def test_a_program_waits_for_an_answer_that_nobody_reads(play: Play) -> None:
    """A program that comes to its end first finishes and stores the answers that it began."""
    with FakeOpenAI([chunks()]) as fake:
        worker = play.start("unread", fake.base_url, "Tell me")
        wait_for(lambda: play.shown() == SHOWN, "the streamed text")
        assert worker.poll() is None
        fake.release()
        assert worker.wait(PATIENCE_S) == 0
    assert endings(play.store.read_entries(SESSION)) == ["completed"]
    assert str(play.store.get_chat_history(SESSION)[-1]["content"]).startswith(SHOWN + "word20")


def test_six_processes_in_one_session(play: Play) -> None:
    """Six processes that ask in one session are answered one turn after the other."""
    workers = [play.start("starts", "offline", f"p{number}") for number in range(6)]
    for worker in workers:
        assert worker.wait(PATIENCE_S) == 0
    assert_in_turns(play.store, {f"p{p}:{n}" for p in range(6) for n in range(STARTS)})


def test_six_threads_in_one_session(play: Play) -> None:
    """Six threads that share an agent are answered one turn after the other."""
    with Agent("Helper", model="offline", session=SESSION, store=play.path) as agent:

        def ask(name: str) -> None:
            for number in range(STARTS):
                agent.start(f"{name}:{number}")

        threads = [threading.Thread(target=ask, args=(f"t{n}",)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert_in_turns(play.store, {f"t{t}:{n}" for t in range(6) for n in range(STARTS)})


def assert_in_turns(store: holdfast.SessionStore, prompts: set[str]) -> None:
    """Each prompt is there once, and its own answer follows it."""
    messages = store.get_chat_history(SESSION)
    asked, answers = messages[::2], messages[1::2]
    assert {m["content"] for m in asked} == prompts
    assert len(asked) == len(answers) == len(prompts)
    for prompt, answer in zip(asked, answers, strict=True):
        assert (prompt["role"], answer["role"]) == ("user", "assistant")
        assert answer["content"].endswith(f"You said: {prompt['content']}")
    assert set(endings(store.read_entries(SESSION))) == {"completed"}
