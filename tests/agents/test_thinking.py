"""Signed thinking of a provider goes back to it with the results of the calls that it led to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import (
    ModelMessagesTypeAdapter,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
)

import holdfast
from holdfast.agents import Agent, needs_approval
from holdfast.agents.conversion import to_model_messages, verbatim
from holdfast.model.message import VerbatimMessage
from holdfast.testing.fakes import anthropic, google
from holdfast.testing.fakes.serving import FakeCall, FakeServer, Scripted

SESSION = "telegram:42"
SCRIPT = (
    Scripted(thinking="Is it due?", pieces=("Let me ask.",), calls=(FakeCall("pay", "{}", "c1"),)),
    Scripted(pieces=("Done.",)),
    Scripted(pieces=("You asked for it.",)),
)
ANTHROPIC = "anthropic:claude-haiku-4-5"
GOOGLE = "google:gemini-3.5-flash-lite"
THOUGHT = {"type": "thinking", "thinking": "Is it due?", "signature": anthropic.SIGNATURE}
CALL = {"id": "c1", "type": "function", "function": {"name": "pay", "arguments": "{}"}}


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are there, as users have them."""
    for name in ("ANTHROPIC_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.setenv(name, "none")


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Agent]:
    """Makes an agent as another process would, whose model is at a fake server."""

    def make(model: str, fake: FakeServer, tool: Callable[..., Any]) -> Agent:
        for name in ("ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL"):
            monkeypatch.setenv(name, fake.base_url)
        path = str(tmp_path / "chats.db")
        return Agent(model=model, session=SESSION, store=path, tools=[tool])

    return make


@needs_approval
def pay() -> str:
    """Pay."""
    return "paid"


def test_after_an_approval(agent: Callable[..., Agent]) -> None:
    """Whoever approves, in any process, sends back what was thought, in its place and signed."""
    with anthropic.FakeAnthropic(SCRIPT) as fake:
        with agent(ANTHROPIC, fake, pay) as asked:
            assert asked.start("Pay it", stream=True).waiting
        with agent(ANTHROPIC, fake, pay) as later:
            assert later.approve("c1").text == "Done."
            assert all("metadata" not in message for message in later.chat_history)
            assert later.start("What did I ask?") == "You asked for it."
        _, on, after = fake.requests
    assert [block["type"] for block in on["messages"][1]["content"]] == [
        "thinking",
        "text",
        "tool_use",
    ]
    assert on["messages"][1]["content"][0] == THOUGHT
    assert on["messages"][2]["content"][0]["tool_use_id"] == "c1"
    assert anthropic.SIGNATURE not in str(after), "later turns do without"


def test_after_an_approval_by_google(agent: Callable[..., Agent]) -> None:
    """A signature that stands on the call itself goes back with the call."""
    with google.FakeGoogle(SCRIPT) as fake:
        with agent(GOOGLE, fake, pay) as asked:
            assert asked.start("Pay it", stream=True).waiting
        with agent(GOOGLE, fake, pay) as later:
            assert later.approve("c1").text == "Done."
        (called,) = [p for p in fake.requests[1]["contents"][1]["parts"] if "functionCall" in p]
    assert called["thoughtSignature"] == google.SIGNATURE


def test_in_a_new_attempt(agent: Callable[..., Agent]) -> None:
    """An attempt that goes on behind a tool's result sends back what the one before had thought."""

    def pay() -> str:
        """Pay."""
        return "paid"

    script = (SCRIPT[0], Scripted(status=400), Scripted(pieces=("Done.",)))
    with anthropic.FakeAnthropic(script) as fake:
        with agent(ANTHROPIC, fake, pay) as first, pytest.raises(Exception, match="scripted"):
            first.start("Pay it", key="k")
        with agent(ANTHROPIC, fake, pay) as second:
            assert second.start("Pay it", key="k") == "Done."
        again = fake.requests[2]["messages"]
    assert again[1]["content"][0] == THOUGHT
    assert "paid" in str(again[2])


def test_with_another_provider(agent: Callable[..., Agent]) -> None:
    """A signature is not sent to another provider than the one that gave it."""
    with anthropic.FakeAnthropic(SCRIPT[:1]) as fake, agent(ANTHROPIC, fake, pay) as asked:
        assert asked.start("Pay it", stream=True).waiting
    with google.FakeGoogle(SCRIPT[1:]) as other, agent(GOOGLE, other, pay) as later:
        assert later.approve("c1").text == "Done."
        assert anthropic.SIGNATURE not in str(other.requests[0])


def answer(*parts: Any) -> ModelResponse:
    """Return an answer that ends with a call."""
    return ModelResponse([*parts, ToolCallPart("pay", "{}", "c1")], provider_name="openai")


def test_encrypted_reasoning() -> None:
    """What OpenAI's Responses encrypt, and how they name their items, comes back as it was."""
    thought = ThinkingPart("", id="rs_1", signature="gAAAA", provider_name="openai")
    text = TextPart("Let me ask.", id="msg_1", provider_name="openai")
    said = answer(thought, text)
    message = {"role": "assistant", "content": "Let me ask.", "tool_calls": [CALL]}
    (found,) = to_model_messages([VerbatimMessage(message, verbatim(said))])
    assert found.parts == said.parts
    assert ModelMessagesTypeAdapter.dump_json([found]) == ModelMessagesTypeAdapter.dump_json([said])


def test_what_the_neutral_form_holds_is_not_kept_twice() -> None:
    """An answer of text and calls alone leaves nothing beside its message."""
    assert verbatim(answer(TextPart("Let me ask."))) is None


@pytest.mark.parametrize(
    "kept",
    [
        verbatim(answer(ThinkingPart("Hm."), TextPart("Another text."))),
        {"kind": "of another version"},
        "another runner's",
        None,
    ],
)
def test_what_does_not_fit_is_left_out(kept: Any) -> None:
    """If the message says something else, or the runner is another, the message counts."""
    message = {"role": "assistant", "content": "Let me ask.", "tool_calls": [CALL]}
    (found,) = to_model_messages([VerbatimMessage(message, kept)])
    assert [part.part_kind for part in found.parts] == ["text", "tool-call"]


def test_a_message_with_more_is_like_any_other() -> None:
    """It can be added to another session, where it holds what a provider takes."""
    message = VerbatimMessage({"role": "assistant", "content": "Hello"}, {"kind": "response"})
    with holdfast.connect("memory://") as store:
        store.add_messages("s", [message])
        assert store.get_chat_history("s") == [message]
        assert "metadata" not in store.get_messages("s")[0]
