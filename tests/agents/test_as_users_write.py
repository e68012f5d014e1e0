"""What users of PraisonAI write for managed agents and resuming, with only the imports changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import Agent, ManagedAgent, MemoryConfig
from holdfast import ManagedConfig as LocalManagedConfig
from holdfast.testing.fakes.openai import FakeOpenAI, Scripted


def remembers(body: dict[str, Any]) -> Scripted:
    """Answer with all that the user has said so far, as a model that forgets nothing would."""
    said = [m["content"] for m in body["messages"] if m["role"] == "user"]
    return Scripted(pieces=("You said: ", " | ".join(said)))


@pytest.fixture(autouse=True)
def provider(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeOpenAI]:
    """The usual variables point to a fake provider, and the default store is a new file."""
    with FakeOpenAI(remembers) as fake:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_BASE_URL", fake.base_url)
        monkeypatch.setenv("HOLDFAST_URL", str(tmp_path / "default.db"))
        monkeypatch.setattr("holdfast.store.connect._default", None)
        monkeypatch.chdir(tmp_path)
        yield fake


def managed_agent() -> ManagedAgent:
    """Return what their examples begin with."""
    return ManagedAgent(
        provider="local",
        config=LocalManagedConfig(
            model="gpt-4o-mini",
            system="You are a helpful assistant. Remember all facts the user tells you.",
            name="MemoryAgent",
        ),
    )


def test_many_turns_on_one_backend() -> None:
    """Each call uses the same session, and the agent remembers."""
    agent = Agent(name="multi-turn", backend=managed_agent())
    agent.start("My dog's name is Biscuit.")
    agent.run("He is a golden retriever.")
    result = agent.chat("What do you know about my dog?")
    assert "Biscuit" in result
    assert "golden retriever" in result
    assert len(agent.chat_history) == 6


def test_streams_that_are_never_iterated() -> None:
    """`stream=True` without a loop answers all the same, in order, and usage is there to print."""
    managed = managed_agent()
    agent = Agent(name="coder", backend=managed)
    result = agent.start("Remember this: my favourite number is 42.", stream=True)
    result = agent.start("What is my favourite number?", stream=True)
    assert "42" in str(result)
    assert managed.total_input_tokens == 20
    assert managed.total_output_tokens == 10
    info = managed.retrieve_session()
    assert info.get("id") == managed.session_id
    assert info["usage"]["input_tokens"] == 20


def test_ids_in_a_file() -> None:
    """Ids saved as JSON by one program are what another one resumes."""
    ids_file = Path("managed_ids.json")
    managed = managed_agent()
    Agent(name="coder", backend=managed).start("My favourite number is 42.", stream=True)
    ids_file.write_text(json.dumps(managed.save_ids(), indent=2))

    saved = json.loads(ids_file.read_text())
    managed = ManagedAgent()
    managed.resume_session(saved["session_id"])
    agent = Agent(name="coder", backend=managed)
    assert "42" in agent.start("What is my favourite number?")
    assert managed.agent_id == saved["agent_id"]

    restored = ManagedAgent(provider="local", config=LocalManagedConfig(model="gpt-4o-mini"))
    restored.restore_ids(saved)
    assert "42" in Agent(name="resumed", backend=restored).start("And again?")


def test_update_interrupt_reset_and_list() -> None:
    """The calls that manage a session do what they say."""
    managed = managed_agent()
    agent = Agent(name="tutor", backend=managed)
    agent.start("What is 17 * 23?", stream=True)
    assert (managed.agent_id, managed.agent_version) == (managed.save_ids()["agent_id"], 1)
    managed.update_agent(name="Senior Tutor", system="Show your work step by step.")
    assert managed.agent_version == 2
    assert "17 * 23" in agent.start("What is 123 + 456?")
    managed.interrupt()
    managed.reset_session()
    assert "17 * 23" not in agent.start("What was my first question?")
    sessions = managed.list_sessions()
    assert len(sessions) == 2
    for session in sessions:
        assert {"id", "status", "title"} <= set(session)


@pytest.mark.parametrize("as_config", [dict, MemoryConfig])
def test_memory_with_a_session_and_a_database(as_config: Any) -> None:
    """An agent with `memory=` goes on where another one with the same id stopped."""
    memory = as_config(session_id="user-123", db="conversations.db")
    first = Agent(name="Assistant", instructions="You are helpful.", memory=memory)
    first.start("My name is Alice")
    second = Agent(name="Assistant", instructions="You are helpful.", memory=memory)
    assert "Alice" in second.start("What is my name?")
    first.close()
    second.close()
