"""Agents: one call answers, and the conversation is there afterwards."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pydantic_ai
import pytest
from pydantic import BaseModel
from pydantic_ai.exceptions import ModelAPIError

import holdfast
from holdfast.agents import (
    Agent,
    ManagedAgent,
    ManagedConfig,
    MemoryConfig,
    PydanticAIRunner,
    Reply,
    idempotent,
    needs_approval,
)
from holdfast.agents.models import DEFAULTS
from holdfast.errors import ConfigError, InvalidArgument, NotSupported, SessionBusy, WrongUser
from holdfast.rules.history import History
from holdfast.store.faces import async_face
from holdfast.testing.fakes.openai import FakeCall, FakeOpenAI, Scripted
from tests.agents.scene import MODEL, endings, pydantic_agent, said, shown, wait_for

SESSION = "telegram:42"


@pytest.fixture
def store() -> Iterator[holdfast.SessionStore]:
    """A store in memory."""
    with holdfast.connect("memory://") as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's key is used."""
    for variable in DEFAULTS:
        monkeypatch.delenv(variable, raising=False)


def offline(store: holdfast.SessionStore, session: str = SESSION) -> Agent:
    """Return an agent that needs no key."""
    return Agent("Helper", model="offline", session=session, store=store)


def test_the_conversation_is_there_tomorrow(tmp_path: Path) -> None:
    """Another agent on another connection goes on where the first one stopped."""
    path = str(tmp_path / "chats.db")
    with Agent("A", model="offline", session=SESSION, store=path) as first:
        assert "Alice" in first.start("My name is Alice")
    with Agent("A", model="offline", memory={"session_id": SESSION, "db": path}) as second:
        assert "Your name is Alice" in second.start("What is my name?")
        assert len(second.chat_history) == 4
        assert second.store.get_session(SESSION).agent_name == "A"


def test_a_stream_shows_what_is_stored(store: holdfast.SessionStore) -> None:
    """Pieces, text and the stored message are one and the same, for any number of readers."""
    reply = offline(store).start("Hello", stream=True)
    first, second = list(reply), list(reply)
    assert len(first) > 1
    assert first == second
    assert "".join(first) == reply.text == reply.output == str(reply)
    assert store.get_chat_history(SESSION)[-1]["content"] == reply.text
    assert reply.usage.requests == 1
    assert reply.usage == store_usage(store)
    assert not reply.interrupted


def store_usage(store: holdfast.SessionStore) -> Any:
    """Return a session's usage as a reply tells it: without the models."""
    usage = store.stats(SESSION).usage
    return type(usage)(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        requests=usage.requests,
        unknown=usage.unknown,
    )


def test_a_stream_that_nobody_reads_is_stored(store: holdfast.SessionStore) -> None:
    """An answer that is never iterated is finished and stored all the same."""
    with FakeOpenAI([Scripted(pieces=("One ", "two"))]) as fake:
        fake_agent(store, fake).start("Count", stream=True)
        wait_for(lambda: endings_of(store) == ["completed"], "the end of the turn")
    assert said(store.get_messages(SESSION))[-1] == ("assistant", "One two", None)


def endings_of(store: holdfast.SessionStore) -> list[str]:
    """Return how the session's turns went, if it is there yet."""
    return endings(store.read_entries(SESSION)) if store.session_exists(SESSION) else []


def fake_agent(store: holdfast.SessionStore, fake: FakeOpenAI, **more: Any) -> Agent:
    """Return an agent that talks to a fake provider."""
    return Agent(
        "Helper", model=MODEL, base_url=fake.base_url, session=SESSION, store=store, **more
    )


def test_a_stream_begins_at_once(store: holdfast.SessionStore) -> None:
    """The first pieces can be read while the provider still holds the rest back."""
    with FakeOpenAI([Scripted(pieces=("One ", "two"), hold_after=1)]) as fake:
        pieces = iter(fake_agent(store, fake).start("Count", stream=True))
        assert next(pieces) == "One "
        fake.release()
        assert list(pieces) == ["two"]


def test_prompts_are_answered_in_order(store: holdfast.SessionStore) -> None:
    """Replies that were begun one after the other are answered in that order, read or not."""
    agent = offline(store)
    replies = [agent.start(f"prompt {number}", stream=True) for number in range(8)]
    for reply in replies:
        assert reply.text
    prompts = [m["content"] for m in store.get_chat_history(SESSION) if m["role"] == "user"]
    assert prompts == [f"prompt {number}" for number in range(8)]


def test_a_reply_may_be_refused(store: holdfast.SessionStore) -> None:
    """Whoever does not want to wait for the reply before is refused, or takes its place."""
    with FakeOpenAI([Scripted(pieces=("One ",), hold_after=1), Scripted(pieces=("Two",))]) as fake:
        agent = fake_agent(store, fake)
        first = agent.start("Count", stream=True)
        with pytest.raises(SessionBusy):
            agent.start("Again", on_busy="reject")
        assert next(iter(first)) == "One "
        assert agent.start("Now", on_busy="interrupt") == "Two"
        assert first.interrupted
        fake.release()


def test_tools_and_instructions_reach_the_model(store: holdfast.SessionStore) -> None:
    """Plain typed functions are tools, sync or async, and the instructions come first."""

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    async def double(a: int) -> int:
        """Double a number."""
        return 2 * a

    calls = (FakeCall("add", '{"a": 1, "b": 2}', "c1"), FakeCall("double", '{"a": 4}', "c2"))
    with FakeOpenAI([Scripted(calls=calls), Scripted(pieces=("3 and 8",))]) as fake:
        agent = fake_agent(store, fake, instructions="Be brief.", tools=[add, double])
        assert agent.start("Compute") == "3 and 8"
    assert fake.requests[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert {tool["function"]["name"] for tool in fake.requests[0]["tools"]} == {"add", "double"}
    results = [m["content"] for m in store.get_chat_history(SESSION) if m["role"] == "tool"]
    assert sorted(results) == ["3", "8"]


class City(BaseModel):
    """A place."""

    name: str


@pytest.mark.parametrize("before", [(), ("Let me ", "think.")])
def test_an_answer_can_be_a_value(store: holdfast.SessionStore, before: tuple[str, ...]) -> None:
    """With an output type the answer is a value of it, its JSON is stored, and a replay equals.

    That is so whether or not the model says something first, which is a message of its own.
    """
    call = FakeCall("final_result", '{"name": "Paris"}')
    with FakeOpenAI([Scripted(pieces=before, calls=(call,)), Scripted(pieces=("Ok",))]) as fake:
        agent = fake_agent(store, fake, output_type=City)
        reply = agent.start("Which city?", key="r1", stream=True)
        assert list(reply) == [*before, '{"name":"Paris"}']
        assert (reply.text, reply.output) == ('{"name":"Paris"}', City(name="Paris"))
        again = agent.start("Which city?", key="r1", stream=True)
        assert (again.text, again.output) == (reply.text, reply.output)
        assert [text for _, text, _ in said(store.get_messages(SESSION))[1:]] == [
            *(["".join(before)] if before else []),
            '{"name":"Paris"}',
        ]
        assert fake_agent(store, fake).start("Thanks") == "Ok"
        sent = [m["role"] for m in fake.requests[-1]["messages"]]
    assert sent == ["user", "assistant", "user"]


def test_an_error_of_the_provider_reaches_the_caller(store: holdfast.SessionStore) -> None:
    """A stream that fails after three pieces raises, after those, and they are kept and marked."""
    cut = Scripted(pieces=("a", "b", "c", "d"), cut_after=3)
    with FakeOpenAI([cut, cut]) as fake:
        agent = fake_agent(store, fake)
        reply = agent.start("Go", stream=True)
        pieces: list[str] = []
        with pytest.raises(Exception, match="Connection error"):
            pieces.extend(reply)
        assert pieces == ["a", "b", "c"]
        with pytest.raises(Exception, match="Connection error"):
            reply.text  # noqa: B018 - reading it raises
        with pytest.raises(Exception, match="Connection error"):
            agent.start("Go")
    assert (
        said(store.get_messages(SESSION))
        == [
            ("user", "Go", None),
            ("assistant", "abc", "interrupted"),
        ]
        * 2
    )
    assert endings(store.read_entries(SESSION)) == ["failed", "failed"]


@pytest.mark.parametrize("exit_", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_a_tool_that_exits(store: holdfast.SessionStore, exit_: BaseException) -> None:
    """What would end the program reaches the caller, and agents answer after it as before."""

    async def exits(_: History) -> AsyncIterator[str]:
        yield "One "
        raise exit_

    with pytest.raises(type(exit_)):
        Agent(runner=exits, session=SESSION, store=store).start("Go")
    assert offline(store).start("Go on")
    assert said(store.get_messages(SESSION))[1] == ("assistant", "One ", "interrupted")
    assert endings(store.read_entries(SESSION)) == ["interrupted", "completed"]


def test_an_interrupted_reply_keeps_its_text(store: holdfast.SessionStore) -> None:
    """A reply can be stopped: it ends without an error, with what was shown."""
    with FakeOpenAI([Scripted(pieces=("One ", "two"), hold_after=1)]) as fake:
        reply = fake_agent(store, fake).start("Count", stream=True)
        assert next(iter(reply)) == "One "
        reply.interrupt()
        assert reply.text == "One "
        assert reply.interrupted
        fake.release()
    assert said(store.get_messages(SESSION))[-1] == ("assistant", "One ", "interrupted")
    assert store.stats(SESSION).usage.unknown == 1


def test_a_reply_stopped_in_the_line_leaves_others_alone(store: holdfast.SessionStore) -> None:
    """Stopping a reply whose turn has not come stops no other turn, and says nothing."""
    agent = offline(store)
    with store.turn(SESSION, "Mine") as turn:
        reply = agent.start("Theirs", stream=True)
        assert not reply.wait(0.05)
        reply.interrupt()
        assert (reply.text, reply.turn, reply.interrupted) == ("", None, True)
        assert not turn.interrupted
    assert [m["content"] for m in store.get_messages(SESSION)] == ["Mine"]


def test_tasks_are_answered_on_their_own_loop(store: holdfast.SessionStore) -> None:
    """An asynchronous tool runs on the caller's event loop, whose things it may use."""

    async def run() -> None:
        loops: list[object] = []

        async def clock() -> str:
            """Return the time."""
            loops.append(asyncio.get_running_loop())
            return "noon"

        script = [Scripted(calls=(FakeCall("clock"),)), Scripted(pieces=("It is ", "noon"))]
        with FakeOpenAI(script) as fake:
            agent = fake_agent(store, fake, tools=[clock])
            reply = await agent.astart("When?", stream=True)
            with pytest.raises(NotSupported, match="event loop"):
                reply.text  # noqa: B018 - reading it raises
            assert [piece async for piece in reply] == ["It is ", "noon"]
            assert await reply == reply.text == "It is noon"
        assert loops == [asyncio.get_running_loop()]

    asyncio.run(run())


def test_loops_one_after_the_other(store: holdfast.SessionStore) -> None:
    """An agent may be used on many event loops, also at the same time, and from threads."""
    with FakeOpenAI(lambda body: Scripted(pieces=(body["messages"][-1]["content"],))) as fake:
        agent = fake_agent(store, fake)
        asked = [
            threading.Thread(target=lambda n=n: asyncio.run(agent.astart(f"task {n}")))
            for n in range(3)
        ]
        for thread in asked:
            thread.start()
        agent.start("thread")
        for thread in asked:
            thread.join()
    messages = store.get_chat_history(SESSION)
    assert len(messages) == 8
    for prompt, answer in zip(messages[::2], messages[1::2], strict=True):
        assert (prompt["role"], answer["role"]) == ("user", "assistant")
        assert prompt["content"] == answer["content"]


def test_a_cancelled_task_stops_its_answer(store: holdfast.SessionStore) -> None:
    """Cancelling whoever awaits an answer stops it, and what was said is kept."""

    async def run() -> None:
        store.create_session(SESSION)
        with FakeOpenAI([Scripted(pieces=("One ", "two"), hold_after=1)]) as fake:
            asking = asyncio.create_task(fake_agent(store, fake).astart("Count"))
            await shown(async_face(store), SESSION, "One ")
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            fake.release()

    asyncio.run(run())
    assert said(store.get_messages(SESSION))[-1] == ("assistant", "One ", "interrupted")


def test_any_runner_answers(store: holdfast.SessionStore) -> None:
    """A generator function, an agent of Pydantic AI, and a runner answer for an agent."""

    async def parrot(history: History) -> AsyncIterator[str]:
        yield f"You said: {history[-1]['content']}"

    assert Agent("P", runner=parrot, session="p", store=store).start("Hi") == "You said: Hi"
    with FakeOpenAI(lambda _: Scripted(pieces=("Hi",))) as fake:
        theirs = pydantic_agent(fake)
        for runner in (theirs, PydanticAIRunner(theirs)):
            assert Agent("Q", runner=runner, session="q", store=store).start("Hello") == "Hi"


def test_ids_are_used_exactly(store: holdfast.SessionStore) -> None:
    """Two ids that look alike are two conversations."""
    offline(store, "telegram:42").start("My name is Alice")
    assert "not told" in offline(store, "telegram_42").start("What is my name?")
    assert "Alice" in offline(store, "telegram:42").start("What is my name?")


@pytest.mark.parametrize("session", ["", 5, "\0"])
def test_an_id_that_names_nothing(store: holdfast.SessionStore, session: Any) -> None:
    """An id that cannot be one, such as an empty variable, is refused and none is made up."""
    for make in (
        lambda: Agent("A", model="offline", session=session, store=store),
        lambda: Agent("A", model="offline", memory={"session_id": session, "db": store}),
        lambda: Agent("A", model="offline", user_id=session, store=store),
        lambda: ManagedAgent(session_id=session, store=store),
        lambda: ManagedAgent(user_id=session, store=store),
    ):
        with pytest.raises(InvalidArgument):
            make()


def test_a_deleted_session_begins_anew(store: holdfast.SessionStore) -> None:
    """After its session was deleted, an agent goes on in one that has its name and its title."""
    agent = offline(store, "one")
    managed = ManagedAgent(
        config=ManagedConfig(model="offline", name="N", session_title="T"),
        store=store,
        session_id="two",
    )
    for each in (agent, Agent("N", backend=managed)):
        each.start("Hello")
        store.delete_session(each.session_id)
        each.start("Hello again")
        assert len(each.chat_history) == 2
    assert store.get_session("one").agent_name == "Helper"
    assert store.get_session("two").title == "T"
    assert [session["id"] for session in managed.list_sessions()] == ["two"]


def test_an_id_is_made_up_and_told(
    store: holdfast.SessionStore,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a session one is made up, told to whoever sits at a terminal, and can be resumed."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    agent = Agent("A", model="offline", store=store)
    assert f"session={agent.session_id!r}" in capsys.readouterr().err
    agent.start("My name is Alice")
    assert "Alice" in offline(store, agent.session_id).start("What is my name?")
    assert agent.session_id in repr(agent)
    assert Agent("A", model="offline", store=store).session_id != agent.session_id


def test_another_users_session_is_refused(store: holdfast.SessionStore) -> None:
    """An agent for one user does not talk in another user's session."""
    mine = Agent("A", model="offline", session=SESSION, store=store, user_id="alice")
    mine.start("My name is Alice")
    theirs = MemoryConfig(session_id=SESSION, db=store, user_id="eve")
    with pytest.raises(WrongUser):
        Agent("A", model="offline", memory=theirs).start("What is my name?")


def test_no_model_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a model and a key nothing is chosen silently: the error names what to do."""
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as refused:
        Agent("A", store="memory://")
    assert refused.value.code == "no_model"
    assert 'model="offline"' in refused.value.hint


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"model": "openai:gpt-4o"}, "needs a key, and OPENAI_API_KEY is not set"),
        ({"model": "nobody:knows"}, "Unknown model"),
        ({"model": "mistral/mistral-small"}, "not installed"),
        ({"memory": {"session": "s"}}, "MemoryConfig has no 'session'"),
        ({"memory": {"backend": "sqlite"}}, "use db="),
        ({"memory": False}, "says nothing"),
        ({"session": "a", "memory": {"session_id": "b"}}, "both given"),
        ({"model": "offline", "output_type": City}, "text only"),
        ({"model": "offline", "base_url": "http://localhost:1/v1"}, "is at no server"),
        ({"model": "offline", "tools": [len]}, "calls no tools"),
        ({"model": 5}, "model=5 is no model"),
        ({"model": 5, "base_url": "http://localhost:1/v1"}, "model=5 is no model"),
        ({"tools": ["bash"]}, "tool 'bash' is not a function"),
        ({"tools": "bash"}, "tools='bash' is no list of functions"),
        ({"tools": None}, "tools=None is no list of functions"),
        ({"tools": [partial(max, 1)]}, "is not a function"),
        ({"tools": [object()]}, "is not a function"),
        ({"tools": [len, len]}, "two tools are called 'len'"),
        ({"instructions": 5}, "instructions=5 must be text"),
        ({"base_url": 5}, "base_url=5 must be text"),
        ({"max_calls": 0}, "max_calls=0 must be a whole number above 0"),
        ({"max_calls": "x"}, "max_calls='x' must be a whole number above 0"),
        ({"backend": "x"}, "backend='x' is no managed agent"),
        ({"backend": ManagedAgent}, "is no managed agent"),
        ({"memory": {1: 2}}, "MemoryConfig has no 1"),
        ({"runner": print}, "cannot answer"),
        ({"runner": pytest, "model": "offline"}, "belong to it"),
    ],
)
def test_what_is_wrong_is_known_at_once(settings: dict[str, Any], complaint: str) -> None:
    """Settings that cannot work are refused when the agent is made, with the reason."""
    with pytest.raises(ConfigError, match=complaint):
        Agent("A", **settings)


def test_a_tool_of_pydantic_ai(store: holdfast.SessionStore) -> None:
    """A tool that is one of Pydantic AI's is taken as it is."""

    def clock() -> str:
        """Return the time."""
        return "noon"

    tool: Any = pydantic_ai.Tool(clock)
    script = [Scripted(calls=(FakeCall("clock"),)), Scripted(pieces=("Noon.",))]
    with FakeOpenAI(script) as fake:
        assert fake_agent(store, fake, tools=[tool]).start("When?") == "Noon."


@pytest.mark.parametrize("mark", [needs_approval, idempotent])
def test_what_cannot_be_marked(mark: Any) -> None:
    """A method of an object cannot hold a mark, and the error says what can."""
    with pytest.raises(ConfigError, match="cannot be marked") as refused:
        mark("".join)
    assert "where it is defined" in refused.value.hint


@pytest.mark.parametrize("prompt", [None, []])
def test_a_prompt_that_asks_nothing(store: holdfast.SessionStore, prompt: Any) -> None:
    """Without a prompt no model is asked, and no session begins."""
    managed = ManagedAgent(config=ManagedConfig(model="offline"), store=store)
    for agent in (offline(store), Agent(backend=managed)):
        with pytest.raises(InvalidArgument, match="asks nothing"):
            agent.start(prompt)
    assert store.list_sessions() == []


@pytest.mark.parametrize(
    ("missing", "model", "remedy"),
    [
        ("pydantic_ai", "openai:gpt-4o-mini", "holdfast[agents]"),
        ("anthropic", "anthropic:claude-haiku-4-5", "pydantic-ai-slim[anthropic]"),
        ("google.genai", "google:gemini-3.5-flash-lite", "pydantic-ai-slim[google]"),
    ],
)
def test_a_package_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, missing: str, model: str, remedy: str
) -> None:
    """The hint installs what is missing, and not the extra that is there already."""
    for name in [each for each in sys.modules if each.split(".")[-1] in ("anthropic", "google")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    for variable in DEFAULTS:
        monkeypatch.setenv(variable, "none")
    with pytest.raises(ConfigError) as refused:
        Agent(model=model, store="memory://")
    assert refused.value.code == "missing_extra"
    assert remedy in refused.value.hint


def test_no_banner(store: holdfast.SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library behind an agent writes no banner of its own into a terminal."""
    monkeypatch.setattr(pydantic_ai, "BANNER_ENABLED", True)
    Agent(model="m", base_url="http://localhost:1/v1", api_key="none", store=store)
    assert pydantic_ai.BANNER_ENABLED is False


def test_a_key_chooses_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a model, the key that is there decides; the name of a model may stand alone."""
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with holdfast.connect("memory://") as store:
        for model in (None, "gpt-4o-mini", "openai/gpt-4o-mini", "openai:gpt-4o-mini"):
            assert isinstance(Agent("A", model=model, store=store), Agent)


def test_an_error_says_where_it_asked(
    store: holdfast.SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a model's client raises has a note with the address, without any password in it."""
    with FakeOpenAI([Scripted(status=401)] * 2) as fake:
        secret = fake.base_url.replace("//", "//me:hidden@")
        for variable, named in (("NO", ""), ("OPENAI_BASE_URL", " (from OPENAI_BASE_URL)")):
            monkeypatch.setenv(variable, secret)
            agent = Agent(model="m", base_url=secret, api_key="none", store=store)
            with pytest.raises(ModelAPIError) as failed:
                agent.start("Hello")
            assert failed.value.__notes__ == [f"this asked the server at {fake.base_url}{named}"]


def test_names_are_there_when_asked_for() -> None:
    """The package offers the names of agents, and says so of none that it has not."""
    assert holdfast.Agent is Agent
    assert holdfast.MemoryConfig is MemoryConfig
    assert issubclass(Reply, object)
    with pytest.raises(AttributeError, match="no attribute 'Nobody'"):
        holdfast.Nobody  # noqa: B018 - asking is the test
    with pytest.raises(AttributeError, match="no attribute 'Nobody'"):
        holdfast.agents.Nobody  # noqa: B018 - the same
