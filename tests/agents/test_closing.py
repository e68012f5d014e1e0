"""Closing a store, or leaving an agent, while replies are under way; and a program's end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import holdfast
from holdfast.agents import Agent, Reply
from holdfast.errors import NotSupported
from holdfast.rules.history import History
from holdfast.testing.fakes.openai import FakeCall, FakeOpenAI, Scripted
from tests.agents.scene import MODEL, endings, said

SESSION = "telegram:42"


@pytest.fixture
def store() -> Iterator[holdfast.SessionStore]:
    """A store in memory."""
    with holdfast.connect("memory://") as opened:
        yield opened


def offline(store: holdfast.SessionStore) -> Agent:
    """Return an agent that needs no key."""
    return Agent("Helper", model="offline", session=SESSION, store=store)


SLOW = """
import asyncio, sys
import holdfast
from holdfast.agents import Agent

async def slow(history):
    for number in range(10):
        yield f"{number} "
        await asyncio.sleep(0.02)

path = sys.argv[1]
"""


IN_AGENT = """
with Agent(runner=slow, session="s", store=path) as agent:
    agent.start("Hi", stream=True)
"""

IN_STORE = """
with holdfast.connect(path) as store:
    Agent(runner=slow, session="s", store=store).start("Hi", stream=True)
"""

IN_ASYNC_STORE = """
async def main():
    async with await holdfast.connect_async(path) as store:
        await Agent(runner=slow, session="s", store=store).astart("Hi", stream=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("closing", [IN_AGENT, IN_STORE, IN_ASYNC_STORE])
def test_closing_waits_for_replies(tmp_path: Path, closing: str) -> None:
    """An answer that is under way is finished and stored before its store is closed."""
    path = str(tmp_path / "chats.db")
    run_program(SLOW + closing, path)
    with holdfast.connect(path) as store:
        shown = "".join(f"{number} " for number in range(10))
        assert said(store.get_messages("s")) == [("user", "Hi", None), ("assistant", shown, None)]


def run_program(text: str, *arguments: str) -> str:
    """Run a program to its end, and return what it wrote to standard error."""
    ran = subprocess.run(
        [sys.executable, "-c", text, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return ran.stderr


def test_ctrl_c_while_closing(
    store: holdfast.SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while a store waits for a reply stops that, keeps what was said, and closes it."""

    async def endless(history: History) -> AsyncIterator[str]:
        yield "One "
        await asyncio.Event().wait()

    reply = Agent(runner=endless, session=SESSION, store=store).start("Hi", stream=True)
    assert next(iter(reply)) == "One "
    waiting = Reply.wait

    def ctrl_c(self: Reply, timeout: float | None = None) -> bool:
        monkeypatch.setattr(Reply, "wait", waiting)
        raise KeyboardInterrupt

    monkeypatch.setattr(Reply, "wait", ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        store.close()
    assert store.closed
    assert reply.interrupted
    assert reply.text == "One "


def test_closing_on_the_loop_that_answers(store: holdfast.SessionStore) -> None:
    """Where a store cannot wait for a reply it says so, stays open, and loses nothing."""

    async def run(agent: Agent) -> None:
        reply = await agent.astart("Hi", stream=True)
        with pytest.raises(NotSupported) as caught:
            store.close()
        assert caught.value.code == "would_block"
        assert await reply

    asyncio.run(run(offline(store)))
    loop = asyncio.new_event_loop()
    reply = loop.run_until_complete(offline(store).astart("Again", stream=True))
    with pytest.raises(NotSupported):
        store.close()
    loop.run_until_complete(_read(reply))
    loop.close()

    def shut() -> str:
        """Close the store."""
        store.close()
        return ""

    script = [Scripted(calls=(FakeCall("shut", "{}"),))]
    with FakeOpenAI(script) as fake, pytest.raises(NotSupported):
        Agent(
            model=MODEL, base_url=fake.base_url, session=SESSION, store=store, tools=[shut]
        ).start("Close it")
    assert len(store.get_messages(SESSION)) >= 5


async def _read(reply: Reply) -> str:
    return await reply


IN_THREAD = """
import threading
from holdfast.errors import Unavailable

agent = Agent(runner=slow, session="s", store=path)

def ask():
    threading.main_thread().join()
    try:
        while True:
            agent.start("Hi")
    except Unavailable as error:
        sys.stderr.write(error.code)
"""


@pytest.mark.parametrize("before", ["", "agent.start('Hi', stream=True)"], ids=["new", "used"])
def test_asking_when_the_program_is_over(tmp_path: Path, before: str) -> None:
    """A thread that asks once the main thread has ended is told to be joined."""
    program = f"{SLOW}{IN_THREAD}{before}\nthreading.Thread(target=ask).start()\n"
    path = str(tmp_path / "chats.db")
    assert run_program(program, path) == "program_over"
    with holdfast.connect(path) as store:
        entries = store.read_entries("s") if store.session_exists("s") else []
        assert all(turn == "completed" for turn in endings(entries))
