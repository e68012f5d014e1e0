"""Every provider's own client, through an agent: text, tools, tokens, and a stream that breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import pytest
from msgspec import Struct

import holdfast
from holdfast.agents import Agent
from holdfast.testing.fakes.anthropic import FakeAnthropic
from holdfast.testing.fakes.google import FakeGoogle
from holdfast.testing.fakes.openai import FakeOpenAI
from holdfast.testing.fakes.serving import FakeCall, FakeServer, Script, Scripted
from tests.agents.scene import endings, said

SESSION = "telegram:42"
WEATHER = FakeCall("weather", '{"city": "Paris"}', "call_1")

Serve: TypeAlias = Callable[[Script], AbstractContextManager[FakeServer]]


class Provider(Struct, frozen=True):
    """A provider as users name it: a model, and where the key and the address are looked for."""

    model: str
    key: str
    address: str
    serve: Serve


PROVIDERS = [
    Provider("openai:gpt-5.6-luna", "OPENAI_API_KEY", "OPENAI_BASE_URL", FakeOpenAI),
    Provider(
        "anthropic:claude-haiku-4-5", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", FakeAnthropic
    ),
    Provider(
        "google:gemini-3.5-flash-lite", "GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL", FakeGoogle
    ),
]


@pytest.fixture(params=PROVIDERS, ids=lambda provider: provider.model.partition(":")[0])
def provider(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Provider:
    """One provider, with a key."""
    provider: Provider = request.param
    monkeypatch.setenv(provider.key, "none")
    return provider


@pytest.fixture
def store() -> Iterator[holdfast.SessionStore]:
    """A store in memory."""
    with holdfast.connect("memory://") as opened:
        yield opened


@pytest.fixture
def agent(
    provider: Provider, store: holdfast.SessionStore, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Agent]:
    """Makes an agent whose model is at a fake server, named as users name it."""

    def make(fake: FakeServer, *tools: Callable[..., Any]) -> Agent:
        monkeypatch.setenv(provider.address, fake.base_url)
        return Agent(model=provider.model, tools=tools, session=SESSION, store=store)

    return make


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"sunny in {city}"


def test_text_is_streamed(provider: Provider, agent: Callable[..., Agent]) -> None:
    """The pieces come as they are streamed, and the tokens are those that the provider told."""
    with provider.serve([Scripted(pieces=("Hel", "lo"), usage=(7, 3))]) as fake:
        talker = agent(fake)
        reply = talker.start("Hi", stream=True)
        assert list(reply) == ["Hel", "lo"]
        assert (reply.usage.input_tokens, reply.usage.output_tokens) == (7, 3)
        assert said(talker.store.get_messages(SESSION))[-1] == ("assistant", "Hello", None)
        assert talker.store.stats(SESSION).usage.input_tokens == 7


def test_a_tool_is_called(provider: Provider, agent: Callable[..., Agent]) -> None:
    """A tool's call and result are in the log, and the provider is shown both in its own form."""
    script = [
        Scripted(pieces=("Let me see.",), calls=(WEATHER,), usage=(7, 3)),
        Scripted(pieces=("It is sunny.",), usage=(20, 4)),
        Scripted(pieces=("You asked about Paris.",), usage=(30, 5)),
    ]
    with provider.serve(script) as fake:
        talker = agent(fake, weather)
        assert talker.start("How is Paris?") == "It is sunny."
        call = talker.chat_history[1]["tool_calls"][0]
        assert (call["id"], call["function"]["name"]) == ("call_1", "weather")
        assert talker.chat_history[2]["content"] == "sunny in Paris"
        assert "sunny in Paris" in str(fake.requests[1])
        # The next turn's history comes from the log alone.
        assert talker.start("What did I ask?") == "You asked about Paris."
        assert "sunny in Paris" in str(fake.requests[2])
        usage = talker.store.stats(SESSION).usage
        assert (usage.requests, usage.input_tokens, usage.output_tokens) == (3, 57, 12)


def test_a_stream_that_breaks(provider: Provider, agent: Callable[..., Agent]) -> None:
    """A stream that is cut is an error that names the server; its text is kept and marked."""
    with provider.serve([Scripted(pieces=("One ", "two ", "three"), cut_after=2)]) as fake:
        talker = agent(fake)
        reply = talker.start("Count", stream=True)
        with pytest.raises(Exception) as failed:  # noqa: PT011 - each client has its own
            list(reply)
        assert f"{fake.base_url} (from {provider.address})" in str(failed.value.__notes__)
        messages = talker.store.get_messages(SESSION)
        assert said(messages)[-1] == ("assistant", "One two ", "interrupted")
        assert endings(list(talker.store.read_entries(SESSION))) == ["failed"]
        assert talker.store.stats(SESSION).usage.unknown == 1


def test_a_key_that_is_refused(provider: Provider, agent: Callable[..., Agent]) -> None:
    """What the provider refuses is raised, with its status."""
    with provider.serve([Scripted(status=401)]) as fake, pytest.raises(Exception, match="401"):
        agent(fake).start("Hi")
