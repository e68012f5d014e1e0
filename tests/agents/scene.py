"""What the tests of agents share: a store, a fake provider, and an agent that talks to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

from holdfast.model.entry import DeltaEntry, Entry, TurnEntry
from holdfast.model.message import Message
from holdfast.store.async_store import AsyncSessionStore
from holdfast.testing.fakes.openai import FakeOpenAI

PATIENCE_S = 30.0
MODEL = "fake-1"


def pydantic_agent(fake: FakeOpenAI, tools: Sequence[Callable[..., Any]] = ()) -> Agent[Any, str]:
    """Return an agent of Pydantic AI that talks to the fake provider with the real client."""
    provider = OpenAICompatibleProvider("fake", base_url=fake.base_url, api_key="none")
    return Agent(OpenAIChatModel(MODEL, provider=provider), tools=list(tools))


def said(messages: Sequence[Message]) -> list[tuple[str, Any, str | None]]:
    """Return what messages say, and whether they were cut off."""
    return [(m["role"], m["content"], (m.get("metadata") or {}).get("state")) for m in messages]


def endings(entries: Sequence[Entry]) -> list[str]:
    """Return how turns went, without their beginnings."""
    found = [entry.status.value for entry in entries if isinstance(entry, TurnEntry)]
    return [status for status in found if status != "running"]


async def shown(store: AsyncSessionStore, session_id: str, end: str) -> None:
    """Wait until streamed text that ends so is in the log; its session is created before."""
    async for entry in store.follow(session_id):
        if isinstance(entry, DeltaEntry) and entry.text.endswith(end):
            return


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until something has come true; a test that never sees it fails."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(0.002)
