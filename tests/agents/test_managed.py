"""Managed agents: their sessions, in whatever process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.models.test import TestModel

import holdfast
from holdfast.agents import Agent, ManagedAgent, ManagedConfig, Notice
from holdfast.errors import ConfigError, InvalidArgument, SessionNotFound, WrongUser
from holdfast.model.entry import UsageEntry
from holdfast.rules.history import History
from holdfast.store.faces import async_face
from holdfast.store.sources import Sources
from holdfast.testing.fakes.openai import FakeCall, FakeOpenAI, Scripted
from tests.agents.scene import MODEL, endings, said, shown

IDLE = "session.status_idle"
NO_FUNCTION: dict[str, Any] = {"tools": ["bash"]}


@pytest.fixture
def store() -> Iterator[holdfast.SessionStore]:
    """A store in memory."""
    with holdfast.connect("memory://") as opened:
        yield opened


def offline(store: holdfast.SessionStore, **config: Any) -> ManagedAgent:
    """Return a managed agent that needs no key."""
    return ManagedAgent(config=ManagedConfig(model="offline", **config), store=store)


def online(store: holdfast.SessionStore, fake: FakeOpenAI, **config: Any) -> ManagedAgent:
    """Return a managed agent that talks to a fake provider."""
    config = {"model": MODEL, "base_url": fake.base_url} | config
    return ManagedAgent(provider="local", config=ManagedConfig(**config), store=store)


def until_idle(managed: ManagedAgent, after: Any = None) -> list[Notice]:
    """Return what happened up to the end of a turn."""
    found = []
    for notice in managed.events(after):
        found.append(notice)
        if notice.type == IDLE:
            return found
    raise AssertionError("it ends when it is told that the session is idle")


def test_execute_and_stream_keep_the_same(store: holdfast.SessionStore) -> None:
    """Both ways of asking store the prompt, the reply, tool exchanges and usage alike."""

    async def run() -> list[Any]:
        def clock() -> str:
            """Return the time."""
            return "noon"

        left = []
        for how in ("execute", "stream"):
            script = [Scripted(calls=(FakeCall("clock"),)), Scripted(pieces=("It is ", "noon."))]
            with FakeOpenAI(script) as fake:
                managed = online(store, fake, tools=[clock], system="Be brief.")
                if how == "execute":
                    assert await managed.execute("When?") == "It is noon."
                else:
                    pieces = [piece async for piece in managed.stream("When?")]
                    assert pieces == ["It is ", "noon."]
            history = store.get_chat_history(managed.session_id)
            left.append((list(history), managed.retrieve_session()["usage"]))
        return left

    executed, streamed = asyncio.run(run())
    assert executed == streamed
    assert [m["role"] for m in executed[0]] == ["user", "assistant", "tool", "assistant"]
    assert (executed[1]["input_tokens"], executed[1]["output_tokens"]) == (20, 10)


@pytest.mark.parametrize("wishes", [{}, {"stream": True}])
def test_an_agent_with_a_backend(store: holdfast.SessionStore, wishes: dict[str, Any]) -> None:
    """An agent whose backend is managed answers in the managed session, streaming or not."""
    managed = offline(store)
    agent = Agent(name="coder", backend=managed)
    agent.start("My name is Alice", **wishes)
    assert "Alice" in str(agent.start("What is my name?", **wishes))
    assert agent.session_id == managed.session_id
    assert len(agent.chat_history) == 4
    with pytest.raises(ConfigError, match="backend= decides"):
        Agent(name="coder", backend=managed, model="offline")


@pytest.mark.parametrize("first", ["execute", "stream"])
def test_resume_then_one_more_turn(tmp_path: Path, first: str) -> None:
    """A resumed session has its history, model and title, and its usage is summed up further."""
    path = str(tmp_path / "chats.db")

    async def begin(managed: ManagedAgent) -> None:
        if first == "execute":
            await managed.execute("My name is Alice")
        else:
            async for _ in managed.stream("My name is Alice"):
                pass

    with holdfast.connect(path) as store:
        managed = offline(store, session_title="Names", system="Be kind.", name="Helper")
        asyncio.run(begin(managed))
        ids, before = managed.save_ids(), managed.retrieve_session()
    with holdfast.connect(path) as store:
        again = ManagedAgent(store=store)
        again.resume_session(ids["session_id"])
        assert again.retrieve_session() == before
        assert before["title"] == "Names"
        assert again.save_ids() == ids
        assert (again.config.model, again.config.system) == ("offline", "Be kind.")
        assert "Alice" in asyncio.run(again.execute("What is my name?"))
        usage = again.retrieve_session()["usage"]
        entries = store.read_entries(again.session_id)
        calls = [entry.usage for entry in entries if isinstance(entry, UsageEntry)]
        assert len(calls) == 2
        assert again.total_input_tokens == sum(c.input_tokens for c in calls)
        assert again.total_output_tokens == sum(c.output_tokens for c in calls)
        assert usage["input_tokens"] > before["usage"]["input_tokens"] > 0
        assert [s["id"] for s in again.list_sessions()] == [ids["session_id"]]


def test_an_unknown_session_is_not_resumed(store: holdfast.SessionStore) -> None:
    """Resuming what is not there says so, and the agent keeps the session that it had."""
    managed = offline(store)
    asyncio.run(managed.execute("My name is Alice"))
    had = managed.session_id
    with pytest.raises(SessionNotFound, match="nonexistent"):
        managed.resume_session("nonexistent")
    assert managed.session_id == had
    assert not store.session_exists("nonexistent")


def test_a_servers_address_in_a_session_gets_no_key(
    store: holdfast.SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment's key goes to no server that only a session names, until somebody says so."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with FakeOpenAI(lambda _: Scripted(pieces=("Hello",))) as fake:
        kept = {"model": MODEL, "base_url": fake.base_url}
        store.create_session("theirs", metadata={"managed_agent": kept})

        def resumed() -> ManagedAgent:
            managed = ManagedAgent(store=store)
            managed.resume_session("theirs")
            return managed

        assert asyncio.run(resumed().execute("Without any key")) == "Hello"
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        managed = resumed()
        with pytest.raises(ConfigError, match="is not given the key"):
            managed.update_agent(system="Be brief.")
        with pytest.raises(ConfigError, match="is not given the key") as refused:
            asyncio.run(managed.execute("Hi"))
        assert refused.value.code == "foreign_server"
        assert "pass base_url or api_key" in refused.value.hint
        assert len(fake.requests) == 1
        managed.update_agent(base_url=fake.base_url)
        assert asyncio.run(managed.execute("That server is ours")) == "Hello"
        managed = resumed()
        managed.update_agent(api_key="theirs")
        assert asyncio.run(managed.execute("With its own key")) == "Hello"
        monkeypatch.setenv("OPENAI_BASE_URL", f"{fake.base_url}/")
        assert asyncio.run(resumed().execute("It is the one that is set")) == "Hello"


def test_six_executes_at_once(store: holdfast.SessionStore) -> None:
    """Six prompts at once on one session are answered one turn after the other."""

    async def run(managed: ManagedAgent) -> list[str]:
        return await asyncio.gather(*(managed.execute(f"prompt {n}") for n in range(6)))

    managed = offline(store)
    answers = asyncio.run(run(managed))
    history = store.get_chat_history(managed.session_id)
    assert len(history) == 12
    for prompt, answer in zip(history[::2], history[1::2], strict=True):
        assert (prompt["role"], answer["role"]) == ("user", "assistant")
        assert answer["content"].endswith(prompt["content"])
        assert answer["content"] in answers


@pytest.mark.alone
def test_interrupt_stops_within_a_second(tmp_path: Path) -> None:
    """An interrupt, of whatever process, stops the call of the model and keeps the text."""

    async def run() -> tuple[float, str, str]:
        path = str(tmp_path / "chats.db")
        held = FakeOpenAI([Scripted(pieces=("One ", "two"), hold_after=1)])
        with held as fake, holdfast.connect(path) as store, holdfast.connect(path) as elsewhere:
            managed = online(store, fake)
            other = ManagedAgent(store=elsewhere, session_id=managed.session_id)
            assert not managed.interrupt()
            managed.events()  # which begins the session
            answering = asyncio.create_task(managed.execute("Count"))
            await shown(async_face(elsewhere), managed.session_id, "One ")
            status = other.retrieve_session()["status"]
            started = time.monotonic()
            assert other.interrupt()
            text = await answering
            took = time.monotonic() - started
            fake.release()
            assert managed.retrieve_session()["status"] == "idle"
            messages = said(store.get_messages(managed.session_id))
            assert messages[-1] == ("assistant", "One ", "interrupted")
            assert until_idle(managed)[-1].stop_reason == "interrupted"
        return took, text, status

    took, text, status = asyncio.run(run())
    assert took < 1.0
    assert (text, status) == ("One ", "running")


def test_a_reader_that_leaves_stops_nothing(store: holdfast.SessionStore) -> None:
    """Whoever leaves a stream early leaves the answer to be finished and stored."""

    async def run() -> None:
        with FakeOpenAI([Scripted(pieces=("One ", "two"), hold_after=1)]) as fake:
            managed = online(store, fake)
            async for piece in managed.stream("Count"):
                assert piece == "One "
                break
            fake.release()
            async for notice in managed.events():
                if notice.type == IDLE:
                    assert notice.stop_reason == "end_turn"
                    break
            assert said(store.get_messages(managed.session_id))[-1][1] == "One two"

    asyncio.run(run())


def test_statuses_are_true(tmp_path: Path) -> None:
    """A session is idle, running or terminated; one whose worker died is not running."""
    path = str(tmp_path / "chats.db")
    with holdfast.connect(path) as store:
        managed = offline(store, session_title="Mine")
        facts = managed.retrieve_session()
        assert facts == {
            "id": managed.session_id,
            "status": "idle",
            "title": "Mine",
            "usage": {"input_tokens": 0, "output_tokens": 0, "cached_tokens": 0, "unknown": 0},
        }
        asyncio.run(managed.execute("Hello"))
        with store.turn(managed.session_id, "Wait"):
            assert managed.retrieve_session()["status"] == "running"
            later = Sources(now_ms=lambda: time.time_ns() // 1_000_000 + 3_600_000)
            with holdfast.connect(path, sources=later) as tomorrow:
                theirs = ManagedAgent(store=tomorrow)
                theirs.resume_session(managed.session_id)
                assert theirs.retrieve_session()["status"] == "idle"
        assert managed.retrieve_session()["status"] == "idle"
        store.delete_session(managed.session_id)
        assert managed.retrieve_session()["status"] == "terminated"
        assert managed.total_input_tokens == 0


def test_sessions_are_listed_by_agent(store: holdfast.SessionStore) -> None:
    """Sessions of other agents are not listed, and a listing tells what retrieving tells."""
    one, two = offline(store, name="One"), offline(store, name="Two")
    for managed in (one, one, two):
        managed.reset_session()
        asyncio.run(managed.execute("Hello"))
    assert len(one.list_sessions()) == 2
    assert two.list_sessions() == [two.retrieve_session()]
    assert one.list_sessions(1) == [one.retrieve_session()]


def test_sessions_of_users(store: holdfast.SessionStore) -> None:
    """An agent for one user neither resumes nor lists another user's sessions."""
    mine, theirs = (
        ManagedAgent(config=ManagedConfig(model="offline"), store=store, user_id=user)
        for user in ("alice", "eve")
    )
    asyncio.run(mine.execute("My name is Alice"))
    had = theirs.session_id
    with pytest.raises(WrongUser):
        theirs.resume_session(mine.session_id)
    assert theirs.session_id == had
    assert theirs.list_sessions() == []
    assert mine.list_sessions() == [mine.retrieve_session()]


def test_an_updated_agent_keeps_the_conversation(store: holdfast.SessionStore) -> None:
    """Another model and system text go on in the same session; the update is resumed, too."""
    with FakeOpenAI([Scripted(pieces=("Hello Alice",))]) as fake:
        managed = offline(store, name="Tutor")
        asyncio.run(managed.execute("My name is Alice"))
        managed.update_agent(model=MODEL, base_url=fake.base_url, system="Be brief.", name="New")
        assert managed.agent_version == 2
        assert asyncio.run(managed.execute("Who am I?")) == "Hello Alice"
        sent = [m["content"] for m in fake.requests[0]["messages"]]
        assert (sent[0], sent[1], sent[-1]) == ("Be brief.", "My name is Alice", "Who am I?")
        again = ManagedAgent(store=store)
        again.resume_session(managed.session_id)
        assert (again.config.system, again.agent_version) == ("Be brief.", 2)
    assert len(managed.list_sessions()) == 1
    with pytest.raises(ConfigError, match="has no 'modell'"):
        managed.update_agent(modell="offline")
    assert managed.agent_version == 2


def test_a_session_that_is_there_is_resumed(
    store: holdfast.SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent made with the id of a session that is there takes it up as resuming does."""
    monkeypatch.setenv("OPENAI_API_KEY", "nobody is to be asked")
    first = offline(store, name="Tutor", system="Be kind.")
    asyncio.run(first.execute("My name is Alice"))
    again = ManagedAgent(store=store, session_id=first.session_id)
    assert (again.config.model, again.config.system) == ("offline", "Be kind.")
    assert again.save_ids() == first.save_ids()
    assert "Alice" in asyncio.run(again.execute("What is my name?"))
    new = ManagedAgent(config=ManagedConfig(model="offline"), store=store, session_id="new")
    assert not store.session_exists("new")
    asyncio.run(new.execute("Hello"))
    assert store.session_exists("new")


def test_each_session_has_its_own_settings(store: holdfast.SessionStore) -> None:
    """Without a configuration of its own, an agent takes up that of each session it resumes."""
    sessions = [offline(store, system=text) for text in ("One.", "Two.")]
    managed = ManagedAgent(store=store)
    for each in sessions:
        managed.resume_session(each.save_ids()["session_id"])
        assert managed.config.system == each.config.system
    store.create_session("plain")
    managed.resume_session("plain")
    assert managed.config.system is None


def test_an_update_reaches_a_session_that_is_there(store: holdfast.SessionStore) -> None:
    """Title, metadata and configuration change in the store, also before this agent's prompt."""
    asyncio.run(offline(store, name="T", metadata={"a": 1}).execute("Hello"))
    (session,) = store.list_sessions()
    config = ManagedConfig(model="offline", name="T")
    managed = ManagedAgent(config=config, store=store, session_id=session.id)
    managed.update_agent(system="B", session_title="New", metadata={"b": 2})
    info = store.get_session(session.id)
    assert (info.title, info.metadata["a"], info.metadata["b"]) == ("New", 1, 2)
    assert info.metadata["managed_agent"]["system"] == "B"
    managed.update_agent(system="C")
    assert store.get_session(session.id).title == "New"
    managed.reset_session()
    managed.update_agent(session_title="Later")
    asyncio.run(managed.execute("Hello"))
    assert managed.retrieve_session()["title"] == "Later"


@pytest.mark.parametrize("how", ["model", "runner"])
def test_what_cannot_be_kept_is_not_replaced(
    store: holdfast.SessionStore, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A session that an object answered is not gone on with by whichever provider has a key."""
    monkeypatch.setenv("OPENAI_API_KEY", "nobody is to be asked")

    async def parrot(history: History) -> AsyncIterator[str]:
        yield "Hello"

    first = (
        ManagedAgent(config=ManagedConfig(model=TestModel()), store=store)
        if how == "model"
        else ManagedAgent(runner=parrot, store=store)
    )
    asyncio.run(first.execute("Hello"))
    again = ManagedAgent(store=store, session_id=first.session_id)
    assert again.retrieve_session()["status"] == "idle"
    with pytest.raises(ConfigError, match="cannot be kept") as refused:
        asyncio.run(again.execute("And now?"))
    assert refused.value.code == "model_not_kept"
    again.update_agent(model="offline")
    assert "And now?" in asyncio.run(again.execute("And now?"))


def test_ids_are_saved_and_restored(store: holdfast.SessionStore) -> None:
    """Saved ids are plain values with which another agent goes on, also before a first prompt."""
    managed = offline(store)
    other = offline(store)
    other.restore_ids(managed.save_ids())
    assert other.save_ids() == managed.save_ids()
    asyncio.run(managed.execute("My name is Alice"))
    assert "Alice" in asyncio.run(other.execute("What is my name?"))
    old = managed.session_id
    assert managed.reset_session() == managed.session_id != old
    assert "not told" in asyncio.run(managed.execute("What is my name?"))
    assert managed.environment_id is None
    ids: Any
    for ids in ({}, None, []):
        with pytest.raises(InvalidArgument, match="have no 'session_id'"):
            managed.restore_ids(ids)


def test_what_happens_is_told(store: holdfast.SessionStore) -> None:
    """The events of a turn are there in order, and from any of them on."""

    def clock(zone: str) -> str:
        """Return the time."""
        return "noon"

    call = FakeCall("clock", '{"zone": "UTC"}', "c1")
    script = [Scripted(pieces=("Let me look.",), calls=(call,)), Scripted(pieces=("Noon.",))]
    with FakeOpenAI([*script, Scripted(status=400)]) as fake:
        managed = online(store, fake, tools=[clock])
        asyncio.run(managed.execute("When?"))
        events = until_idle(managed)
        with pytest.raises(Exception, match="scripted"):
            asyncio.run(managed.execute("Again?"))
    # Usage joins whatever commit is next, so where it stands is a matter of time.
    told = [event for event in events if event.type != "session.usage"]
    assert [event.type for event in told] == [
        "session.status_running",
        "agent.message",
        "agent.tool_use",
        "agent.tool_result",
        "agent.message",
        IDLE,
    ]
    _, first, use, result, second, idle = told
    assert (first.text, second.text, idle.stop_reason) == ("Let me look.", "Noon.", "end_turn")
    assert (use.name, use.input, use.tool_use_id) == ("clock", {"zone": "UTC"}, "c1")
    assert (result.content, result.tool_use_id) == ("noon", "c1")
    usage = [event.usage for event in events if event.type == "session.usage"]
    assert usage == [{"input_tokens": 10, "output_tokens": 5}] * 2
    for number, event in enumerate(events[:-1]):
        assert until_idle(managed, event) == events[number + 1 :]
        assert until_idle(managed, event.id) == events[number + 1 :]
    failed = until_idle(managed, events[-1])
    assert [event.type for event in failed][-2:] == ["session.error", IDLE]
    assert failed[-1].stop_reason == "error"
    assert "scripted" in str(failed[-2].error)
    place: Any
    for place in ("yesterday", 1.5, True, []):
        with pytest.raises(InvalidArgument, match="names no place"):
            managed.events(place)


def test_a_rewrite_tells_nothing_twice(store: holdfast.SessionStore) -> None:
    """Messages that a rewrite carries over are not told again."""
    managed = offline(store)
    asyncio.run(managed.execute("Hello"))
    events = until_idle(managed)
    store.set_chat_history(managed.session_id, list(store.get_chat_history(managed.session_id)))
    asyncio.run(managed.execute("Again"))
    more = until_idle(managed, events[-1])
    assert [event.type for event in more].count("agent.message") == 1


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: ManagedConfig(packages={"pip": ["x"]}), "your own process"),
        (lambda: ManagedConfig(networking={}), "your own process"),
        (lambda: ManagedConfig(compute="docker"), "your own process"),
        (lambda: ManagedConfig(modell="offline"), "has no 'modell'"),
        (lambda: ManagedConfig(**NO_FUNCTION), "not a function"),
        (lambda: ManagedConfig(system=5), "system=5 must be text"),  # type: ignore[arg-type]
        (lambda: ManagedConfig(metadata=5), "metadata=5 has no keys"),  # type: ignore[arg-type]
        (lambda: ManagedConfig(max_turns=0), "max_turns=0 must be a whole number above 0"),
        (lambda: ManagedAgent(config=NO_FUNCTION, store="memory://"), "is no configuration"),  # type: ignore[arg-type]  # that is the test
        (lambda: ManagedAgent(provider="anthropic", store="memory://"), "no provider"),
        (
            lambda: ManagedAgent(config=ManagedConfig(model="nobody:knows"), store="memory://"),
            "Unknown model",
        ),
    ],
)
def test_what_is_not_done_is_refused(make: Any, complaint: str) -> None:
    """Settings that would do nothing are refused, with the reason."""
    with pytest.raises(ConfigError, match=complaint):
        make()


@pytest.mark.parametrize("most", [1, 3])
def test_max_turns_limits_the_calls(store: holdfast.SessionStore, most: int) -> None:
    """A model that only calls tools is stopped, the caller is told, and usage is what was made."""

    def clock() -> str:
        """Return the time."""
        return "noon"

    with FakeOpenAI(lambda _: Scripted(calls=(FakeCall("clock"),))) as fake:
        managed = online(store, fake, tools=[clock], max_turns=most)
        with pytest.raises(Exception, match=f"request_limit of {most}"):
            asyncio.run(managed.execute("When?"))
    assert len(fake.requests) == most
    usage = store.stats(managed.session_id).usage
    assert (usage.requests, usage.unknown) == (most, 0)
    assert endings(store.read_entries(managed.session_id)) == ["failed"]
