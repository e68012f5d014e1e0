"""Tools that a person has to agree to: the turn waits, and goes on anywhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pydantic_ai
import pytest

import holdfast
from holdfast.agents import (
    Agent,
    Event,
    ManagedAgent,
    ManagedConfig,
    Text,
    ToolCall,
    ToolCalls,
    ToolResult,
    Waiting,
    idempotent,
    needs_approval,
)
from holdfast.errors import ConfigError, Conflict, NotSupported, SessionBusy
from holdfast.rules.history import History
from holdfast.testing.fakes.openai import FakeCall, FakeOpenAI, Scripted
from tests.agents.scene import MODEL, endings, pydantic_agent

ASK = FakeCall("refund", '{"amount": 5}', "c1")
ASK_MORE = FakeCall("refund", '{"amount": 7}', "c2")


class Till:
    """A tool that needs approval, and what it did."""

    def __init__(self) -> None:
        self.paid: list[int] = []

    @property
    def tools(self) -> list[Callable[..., Any]]:
        """The tool, and one that needs none."""

        @needs_approval
        def refund(amount: int) -> str:
            """Pay money back."""
            self.paid.append(amount)
            return f"paid {amount}"

        def clock() -> str:
            """Return the time."""
            return "noon"

        return [refund, clock]


@pytest.fixture
def till() -> Till:
    """A till that has paid nothing."""
    return Till()


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where the store is."""
    return str(tmp_path / "chats.db")


@pytest.fixture
def store(path: str) -> Iterator[holdfast.SessionStore]:
    """A store in a file."""
    with holdfast.connect(path) as opened:
        yield opened


def managed_agent(store: Any, fake: FakeOpenAI, tools: Any = ()) -> ManagedAgent:
    """Return a managed agent that talks to a fake provider."""
    config = ManagedConfig(model=MODEL, base_url=fake.base_url, tools=tools)
    return ManagedAgent(config=config, store=store)


def test_approved_in_another_process(path: str, till: Till) -> None:
    """The turn waits, over a restart, and whoever approves has the tool called, once."""
    script = [Scripted(pieces=("Let me ask.",), calls=(ASK,)), Scripted(pieces=("Done.",))]
    with FakeOpenAI(script) as fake:
        with holdfast.connect(path) as store:
            managed = managed_agent(store, fake, till.tools)
            assert asyncio.run(managed.execute("My money")) == "Let me ask."
            assert managed.retrieve_session()["status"] == "waiting"
            assert managed.pending_calls == (ToolCall("c1", "refund", '{"amount":5}'),)
            with pytest.raises(SessionBusy) as busy:
                asyncio.run(managed.execute("Hello?"))
            assert busy.value.waiting
            assert till.paid == []
        with holdfast.connect(path) as store:
            later = managed_agent(store, fake, till.tools)
            later.resume_session(managed.session_id)
            reply = later.approve("c1")
            assert (reply.text, till.paid) == ("Done.", [5])
            assert later.retrieve_session()["status"] == "idle"
            assert later.pending_calls == ()
            history = store.get_chat_history(later.session_id)
            assert [m["role"] for m in history] == ["user", "assistant", "tool", "assistant"]
            assert history[2]["content"] == "paid 5"
            assert endings(store.read_entries(later.session_id)) == ["waiting", "completed"]
            with pytest.raises(Conflict) as refused:
                later.approve("c1")
            assert refused.value.code == "not_waiting"
            assert store.verify().problems == []
        sent = [(m["role"], m["content"]) for m in fake.requests[1]["messages"]]
        assert sent == [("user", "My money"), ("assistant", "Let me ask."), ("tool", "paid 5")]


@pytest.mark.parametrize("reason", [None, "too much"])
def test_denied(store: holdfast.SessionStore, till: Till, reason: str | None) -> None:
    """A call that is denied is not made, and the model is told, with the reason."""
    with FakeOpenAI([Scripted(calls=(ASK,)), Scripted(pieces=("I see.",))]) as fake:
        agent = Agent(model=MODEL, base_url=fake.base_url, tools=till.tools, store=store)
        reply = agent.start("My money", stream=True)
        assert reply.waiting
        (call,) = agent.pending_calls
        assert agent.deny(call.id, reason).text == "I see."
        assert till.paid == []
        told = fake.requests[1]["messages"][-1]["content"]
    assert told.startswith("Denied: ")
    assert reason is None or reason in told


def test_every_call_is_decided_on(store: holdfast.SessionStore, till: Till) -> None:
    """With several calls the turn waits for all; one that needs no approval runs at once."""
    calls = (ASK, ASK_MORE, FakeCall("clock", "{}", "c3"))
    with FakeOpenAI([Scripted(calls=calls), Scripted(pieces=("Done.",))]) as fake:
        managed = managed_agent(store, fake, till.tools)
        asyncio.run(managed.execute("My money"))
        assert [call.id for call in managed.pending_calls] == ["c1", "c2"]
        first = managed.approve("c2")
        assert (first.waiting, first.text, till.paid) == (True, "", [])
        assert managed.deny("c1").text == "Done."
        assert till.paid == [7]
        assert len(fake.requests) == 2
    history = store.get_chat_history(managed.session_id)
    results = {m["tool_call_id"]: m["content"] for m in history if m["role"] == "tool"}
    assert results["c2"] == "paid 7"
    assert results["c3"] == "noon"
    assert results["c1"].startswith("Denied")


def test_both_are_approved_at_once(path: str, till: Till) -> None:
    """Two people who decide at the same moment, in two processes, are both heard."""
    with (
        FakeOpenAI([Scripted(calls=(ASK, ASK_MORE)), Scripted(pieces=("Done.",))]) as fake,
        holdfast.connect(path) as store,
        holdfast.connect(path) as elsewhere,
    ):
        managed = managed_agent(store, fake, till.tools)
        asyncio.run(managed.execute("My money"))
        other = managed_agent(elsewhere, fake, till.tools)
        other.resume_session(managed.session_id)
        replies = [managed.approve("c1"), other.approve("c2")]
        for reply in replies:
            assert reply.wait(30)
        assert sorted(till.paid) == [5, 7]
        assert [reply.waiting for reply in replies].count(False) == 1
        assert store.get_chat_history(managed.session_id)[-1]["content"] == "Done."


def test_two_decide_on_one_call(path: str) -> None:
    """Of two who decide on a call at the same moment, the one who was not heard is told so."""
    called, go_on = threading.Event(), threading.Event()

    class Asking:
        async def answer(self, history: History) -> AsyncIterator[Event]:  # noqa: ARG002 - any
            yield ToolCalls((ToolCall("c1", "refund", "{}"),))
            yield Waiting(("c1",))

        async def resume(
            self,
            history: History,  # noqa: ARG002 - any
            approved: frozenset[str],
        ) -> AsyncIterator[Event]:
            for call in approved:
                called.set()
                await asyncio.to_thread(go_on.wait, 30)
                yield ToolResult(call, "paid", "refund")
            yield Text("Done.")

    with holdfast.connect(path) as store, holdfast.connect(path) as elsewhere:
        agent = Agent(runner=Asking(), session="s", store=store)
        agent.start("My money")
        other = Agent(runner=Asking(), session="s", store=elsewhere)
        approved = agent.approve("c1")
        assert called.wait(30)
        denied = other.deny("c1")
        go_on.set()
        assert approved.text == "Done."
        with pytest.raises(Conflict) as refused:
            list(denied)
        assert refused.value.code == "not_waiting"
        assert [m["content"] for m in store.get_messages("s")][2:] == ["paid", "Done."]


def test_a_task_approves(store: holdfast.SessionStore, till: Till) -> None:
    """In a task an approval is awaited, and runs on the task's event loop."""

    async def run() -> None:
        with FakeOpenAI([Scripted(calls=(ASK,)), Scripted(pieces=("Done.",))]) as fake:
            managed = managed_agent(store, fake, till.tools)
            agent = Agent(backend=managed)
            await agent.astart("My money")
            assert await agent.approve("c1") == "Done."

    asyncio.run(run())
    assert till.paid == [5]


def test_what_cannot_be_approved(store: holdfast.SessionStore, till: Till) -> None:
    """An unknown call, or a tool that is not here, is refused, and the turn goes on waiting."""
    with FakeOpenAI([Scripted(calls=(ASK,)), Scripted(pieces=("Done.",))]) as fake:
        managed = managed_agent(store, fake, till.tools)
        with pytest.raises(Conflict, match="no call 'c1' waits"):
            managed.approve("c1")
        asyncio.run(managed.execute("My money"))
        with pytest.raises(Conflict, match="no call 'c9' waits"):
            managed.approve("c9").wait() and managed.approve("c9").text
        bare = ManagedAgent(store=store)
        bare.resume_session(managed.session_id)
        with pytest.raises(ConfigError, match="no tool 'refund'"):
            bare.approve("c1").text  # noqa: B018 - reading it raises
        assert managed.retrieve_session()["status"] == "waiting"
        assert managed.approve("c1").text == "Done."


def test_the_conversation_goes_on_without(store: holdfast.SessionStore, till: Till) -> None:
    """A prompt that does not want to wait closes the turn, and its call cannot be approved."""
    with FakeOpenAI([Scripted(calls=(ASK,)), Scripted(pieces=("Fine.",))]) as fake:
        managed = managed_agent(store, fake, till.tools)
        asyncio.run(managed.execute("My money"))
        assert asyncio.run(managed.execute("Never mind", on_busy="interrupt")) == "Fine."
        with pytest.raises(Conflict, match="no call 'c1' waits"):
            managed.approve("c1")
    assert till.paid == []


def test_a_waiting_session_is_told(store: holdfast.SessionStore, till: Till) -> None:
    """The events say that somebody has to act, and on what."""
    with FakeOpenAI([Scripted(calls=(ASK,))]) as fake:
        managed = managed_agent(store, fake, till.tools)
        asyncio.run(managed.execute("My money"))
    for event in managed.events():
        if event.type == "agent.tool_use":
            assert event.tool_use_id == "c1"
        if event.type == "session.status_idle":
            assert event.stop_reason == "requires_action"
            break


def test_an_agent_of_pydantic_ai(store: holdfast.SessionStore, till: Till) -> None:
    """An agent that has its own tools which require approval waits in the same way."""
    with FakeOpenAI([Scripted(calls=(ASK,)), Scripted(pieces=("Done.",))]) as fake:
        refund = pydantic_ai.Tool(till.tools[0], requires_approval=True)
        theirs = pydantic_ai.Agent(
            pydantic_agent(fake).model,
            tools=[refund],
            output_type=[str, pydantic_ai.DeferredToolRequests],
        )
        agent = Agent(runner=theirs, store=store)
        agent.start("My money")
        assert agent.approve("c1").text == "Done."
    assert till.paid == [5]


@pytest.mark.parametrize("mark", [None, idempotent])
def test_an_approved_call_is_cut_off(store: holdfast.SessionStore, mark: Any) -> None:
    """The next attempt does not call it: the model is told, or an idempotent one waits again."""
    tries: list[int] = []

    @needs_approval
    def refund(amount: int) -> str:
        """Pay money back."""
        tries.append(amount)
        if len(tries) == 1:
            raise OSError("gone")
        return f"paid {amount}"

    tools = [mark(refund) if mark else refund]
    with FakeOpenAI([Scripted(calls=(ASK,)), Scripted(pieces=("Done.",))]) as fake:
        agent = Agent(model=MODEL, base_url=fake.base_url, tools=tools, store=store)
        agent.start("My money", key="r1")
        with pytest.raises(OSError, match="gone"):
            agent.approve("c1").text  # noqa: B018 - reading it raises
        reply = agent.start("My money", key="r1", stream=True)
        assert reply.wait(30)
        assert (reply.waiting, tries) == (mark is not None, [5])
        text = agent.approve("c1").text if mark else reply.text
        told = fake.requests[1]["messages"][-1]["content"]
    assert text == "Done."
    assert tries == ([5, 5] if mark else [5])
    assert told == "paid 5" if mark else "may or may not" in told


def test_a_value_after_an_approval(store: holdfast.SessionStore, till: Till) -> None:
    """While a turn with an output type waits it has no value, its key gives none, then it has."""
    script = [
        Scripted(pieces=("Let me ask.",), calls=(ASK,)),
        Scripted(calls=(FakeCall("final_result", '{"response": 5}', "f1"),)),
    ]
    with FakeOpenAI(script) as fake:
        agent = Agent(
            model=MODEL, base_url=fake.base_url, tools=till.tools, output_type=int, store=store
        )
        for _ in range(2):
            reply = agent.start("My money", key="r1", stream=True)
            assert (reply.text, reply.output, reply.waiting) == ("Let me ask.", None, True)
        assert agent.approve("c1").output == 5
        assert agent.start("My money", key="r1") == 5


def test_a_runner_that_cannot_go_on(store: holdfast.SessionStore) -> None:
    """A runner that asks for approval and cannot resume is told so; the turn goes on waiting."""

    async def asks(history: History) -> AsyncIterator[Event]:
        yield ToolCalls((ToolCall("c1", "refund"),))
        yield Waiting(("c1",))

    agent = Agent(runner=asks, store=store)
    agent.start("My money")
    with pytest.raises(NotSupported, match="cannot go on"):
        agent.approve("c1").text  # noqa: B018 - reading it raises
    assert store.get_session(agent.session_id).status == "waiting"


@pytest.mark.parametrize("mark", [None, idempotent])
@pytest.mark.parametrize("beside", [None, idempotent])
def test_a_new_attempt_asks_first(store: holdfast.SessionStore, mark: Any, beside: Any) -> None:
    """A call that nobody has agreed to waits also in a turn whose first attempt was cut off."""
    paid: list[int] = []

    @needs_approval
    def refund(amount: int) -> str:
        """Pay money back."""
        paid.append(amount)
        return f"paid {amount}"

    def look() -> str:
        """Look, and fail."""
        raise OSError("gone")

    tools = [mark(refund) if mark else refund, beside(look) if beside else look]
    calls = (ASK, FakeCall("look", "{}", "c2"))
    with FakeOpenAI([Scripted(calls=calls), Scripted(pieces=("Done.",))]) as fake:
        agent = Agent(model=MODEL, base_url=fake.base_url, tools=tools, store=store)
        with pytest.raises(OSError, match="gone"):
            agent.start("My money", key="r1")
        reply = agent.start("My money", key="r1", stream=True)
        assert reply.wait(30)
        assert (reply.waiting, reply.text, paid) == (True, "", [])
        assert [call.id for call in agent.pending_calls] == ["c1"]
        assert agent.approve("c1").text == "Done."
        told = {m["tool_call_id"]: m["content"] for m in fake.requests[1]["messages"][2:]}
    assert paid == [5]
    assert told["c1"] == "paid 5"
    assert "may or may not" in told["c2"]
    assert endings(store.read_entries(agent.session_id)) == ["failed", "waiting", "completed"]
    assert store.verify().problems == []
