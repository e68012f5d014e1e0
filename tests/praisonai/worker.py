"""What runs in PraisonAI's environment: its agents and bots on the drop-in.

Run as `python -m tests.praisonai.worker ROLE ARGUMENT...`; the last line said is JSON.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import sys
from typing import Any

from holdfast.integrations.praisonai import DefaultSessionStore, install


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


def bot(path: str, user_id: str, turns: str, max_history: str) -> int:
    """Run turns of one user through PraisonAI's bot session manager; return how many failed."""
    from praisonai_bot.bots._session import BotSessionManager

    name = sys.argv[-1]
    complaints: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: complaints.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("praisonai_bot").addHandler(handler)
    manager = BotSessionManager(
        max_history=int(max_history), store=DefaultSessionStore(path), platform="telegram"
    )

    async def talk() -> None:
        agent = Parrot()
        for number in range(int(turns)):
            said = await manager.chat(agent, user_id, f"{name}-{number}")
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
        self.chat_history = [
            *self.chat_history,
            {"role": "user", "content": prompt},
            {"role": "assistant", "content": answer},
        ]
        return answer


def agent(path: str, session_id: str, url: str, prompt: str) -> dict[str, Any]:
    """Ask a new agent something in a session; return its answer, and what it was told."""
    from praisonaiagents import Agent
    from praisonaiagents.session import get_default_session_store

    store = install(DefaultSessionStore(path))
    assert get_default_session_store() is store
    asked = Agent(
        name="Assistant",
        instructions="Be brief.",
        llm="gpt-4o-mini",
        base_url=url,
        memory={"session_id": session_id},
    )
    answer = asked.chat(prompt)
    return {"answer": str(answer), "history": store.get_chat_history(session_id)}


ROLES = {"signatures": signatures, "protocols": protocols, "bot": bot, "agent": agent}

if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    answer: Any = ROLES[role](*arguments[: len(inspect.signature(ROLES[role]).parameters)])
    print(json.dumps(answer))  # noqa: T201 - how the parent is answered
