"""Where replies of one session stand in line: behind others, for so long, on loops that go away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

import holdfast
from holdfast.agents import Agent, ManagedAgent, Reply
from holdfast.errors import InvalidArgument, SessionBusy
from tests.agents.scene import wait_for

SESSION = "telegram:42"
PATIENCE_S = 60.0


@pytest.fixture
def store() -> Iterator[holdfast.SessionStore]:
    """A store in memory."""
    with holdfast.connect("memory://") as opened:
        yield opened


@pytest.fixture
def agent(store: holdfast.SessionStore) -> Agent:
    """An agent that needs no key."""
    return Agent("Helper", model="offline", session=SESSION, store=store)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs only when it is told to."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def answered(reply: Reply) -> str:
    """Return what was answered; a reply that never is fails the test."""
    assert reply.wait(PATIENCE_S), "it is never answered"
    return reply.text


def prompts(agent: Agent) -> list[str]:
    """Return what was asked."""
    return [m["content"] for m in agent.chat_history if m["role"] == "user"]


async def read(reply: Reply) -> str:
    """Wait for a reply in a task."""
    return await reply


def test_a_loop_that_was_closed(agent: Agent, loop: asyncio.AbstractEventLoop) -> None:
    """A reply whose event loop was closed is over, and nobody waits for it."""
    lost = loop.run_until_complete(agent.astart("Lost", stream=True))
    loop.close()
    assert answered(agent.start("Next", stream=True))
    assert lost.done
    with pytest.raises(asyncio.CancelledError):
        _ = lost.text


def test_a_loop_that_stands_still(agent: Agent, loop: asyncio.AbstractEventLoop) -> None:
    """Whoever stands behind a reply whose event loop pauses waits for no longer than it says."""
    first = loop.run_until_complete(agent.astart("First", stream=True))
    with pytest.raises(SessionBusy):
        answered(agent.start("Second", stream=True, timeout=0.1))
    third = agent.start("Third", stream=True)
    assert loop.run_until_complete(read(first))
    assert answered(third)
    assert prompts(agent) == ["First", "Third"]


def test_a_reply_that_cannot_begin(store: holdfast.SessionStore) -> None:
    """A reply that did not begin, for want of an event loop, is in nobody's way."""
    managed = ManagedAgent(store=store, runner=_quick, session_id=SESSION)
    with pytest.raises(RuntimeError):
        managed.reply_to("Never").begin_here()
    assert answered(Agent(backend=managed).start("Next", stream=True)) == "Yes"


async def _quick(history: holdfast.History) -> AsyncIterator[str]:
    yield "Yes"


def test_standing_behind_a_reply_that_waits(store: holdfast.SessionStore, agent: Agent) -> None:
    """Whoever is behind a waiting reply is refused at once, or in time, and nobody overtakes."""
    with store.turn(SESSION, "Held"):
        first = agent.start("First", stream=True)
        rejected = agent.start("Rejected", stream=True, on_busy="reject")
        impatient = agent.start("Impatient", stream=True, timeout=0.1)
        last = agent.start("Last", stream=True)
        for refused in (rejected, impatient):
            with pytest.raises(SessionBusy):
                answered(refused)
        assert not first.done
        assert not last.done
    assert answered(first)
    assert answered(last)
    assert prompts(agent) == ["Held", "First", "Last"]


def test_waiting_counts(store: holdfast.SessionStore, agent: Agent) -> None:
    """The time for which a reply stood in line here is no time that it may wait at the store."""
    with store.turn(SESSION, "Held"):
        first = agent.start("First", stream=True, timeout=1)
        second = agent.start("Second", stream=True, timeout=1.2)
        for refused in (first, second):
            with pytest.raises(SessionBusy):
                answered(refused)


@pytest.mark.parametrize("timeout", ["2", -1.0, float("nan")])
def test_a_timeout_that_is_none(store: holdfast.SessionStore, agent: Agent, timeout: float) -> None:
    """What is no number of seconds is refused, also behind another reply."""
    with store.turn(SESSION, "Held"):
        first = agent.start("First", stream=True)
        with pytest.raises(InvalidArgument):
            answered(agent.start("Second", stream=True, timeout=timeout))
        first.interrupt()
        wait_for(lambda: first.done, "the end of the first")
