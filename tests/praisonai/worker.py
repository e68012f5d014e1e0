"""What runs in PraisonAI's environment: its agents and bots on the drop-in.

Run as `python -m tests.praisonai.worker ROLE ARGUMENT...`; the last line said is JSON.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from holdfast.integrations.praisonai import DefaultSessionStore, install

THINKING_S = 0.005
"""A model thinks for so long, between the load and the save."""


def signatures() -> dict[str, list[str]]:
    """Return the public methods of PraisonAI's store, and their parameters."""
    from praisonaiagents.session.store import DefaultSessionStore as Theirs

    return {
        name: list(inspect.signature(method).parameters)
        for name, method in inspect.getmembers(Theirs, inspect.isfunction)
        if not name.startswith("_") or name == "__init__"
    }


def protocols(path: str) -> list[bool]:
    """Return whether PraisonAI takes the drop-in for each kind of store that it knows."""
    from praisonaiagents.session import protocols as known

    store = DefaultSessionStore(path)
    return [
        isinstance(store, getattr(known, name))
        for name in (
            "SessionStoreProtocol",
            "IncrementalSessionStoreProtocol",
            "PortableSessionStoreProtocol",
            "SearchableSessionStoreProtocol",
            "RuntimeStateMirroringProtocol",
        )
    ]


def saver(path: str, session_id: str, name: str, count: str) -> int:
    """Load, think, save, so many times, without any lock; return how many saves were true."""
    store = DefaultSessionStore(path)
    done = 0
    for number in range(int(count)):
        messages = list(store.get_chat_history(session_id))
        time.sleep(THINKING_S)
        messages.append({"role": "user", "content": f"{name}-{number}"})
        done += store.set_chat_history(session_id, messages)
    return done


def bot(place: str, path: str, name: str, turns: str, max_history: str) -> int:
    """Run turns of one user through PraisonAI's bot session manager; return how many failed.

    `place` says whose store it uses.
    """
    from praisonai_bot.bots._session import BotSessionManager
    from praisonaiagents.session.store import DefaultSessionStore as Theirs

    store = DefaultSessionStore(path) if place == "ours" else Theirs(path, retention="keep_all")
    complaints: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: complaints.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("praisonai_bot").addHandler(handler)
    manager = BotSessionManager(max_history=int(max_history), store=store, platform="telegram")

    async def talk() -> None:
        agent = Parrot()
        for number in range(int(turns)):
            said = await manager.chat(agent, "ada", f"{name}-{number}")
            assert said == f"re {name}-{number}"

    asyncio.run(talk())
    failed = [one for one in complaints if "session" in one.lower()]
    print(failed, file=sys.stderr)  # noqa: T201 - for whoever looks into a failure
    return len(failed)


class Parrot:
    """Who answers, as PraisonAI's bots need it."""

    name = "parrot"

    def __init__(self) -> None:
        self.chat_history: list[dict[str, Any]] = []

    def chat(self, prompt: str) -> str:
        """Answer, and remember both, as PraisonAI's agents do."""
        answer = f"re {prompt}"
        time.sleep(THINKING_S)
        self.chat_history = [
            *self.chat_history,
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": answer},
        ]
        return answer


def agent(path: str, session_id: str, url: str, prompt: str) -> dict[str, Any]:
    """Ask a new agent something in a session; return its answer, and what it was told."""
    os.environ["OPENAI_BASE_URL"] = url
    from praisonaiagents import Agent
    from praisonaiagents.session import get_default_session_store

    store = install(DefaultSessionStore(path))
    assert get_default_session_store() is store
    asked = Agent(
        name="Assistant",
        instructions="Be brief.",
        llm="gpt-4o-mini",
        memory={"session_id": session_id},
    )
    answer = asked.chat(prompt, stream=False)
    return {"answer": str(answer), "history": store.get_chat_history(session_id)}


ROLES: dict[str, Callable[..., Any]] = {
    "saver": saver,
    "signatures": signatures,
    "protocols": protocols,
    "bot": bot,
    "agent": agent,
}

if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    print(json.dumps(ROLES[role](*arguments)))  # noqa: T201 - how the parent is answered
