"""agno: `PostgresDb`, written to as an agent does at the end of a run."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast
from uuid import uuid4

from agno.db.base import SessionType
from agno.db.postgres import PostgresDb
from agno.models.message import Message
from agno.run.agent import RunOutput
from agno.run.base import RunStatus
from agno.session.agent import AgentSession
from benchmarks.peers.durability import SETTINGS, of_a_server
from benchmarks.peers.protocol import TASKS, About, Lacking, Said, Turn

ABOUT = About(
    title="agno PostgresDb",
    distribution="agno",
    importing="from agno.db.postgres import PostgresDb",
    how="`upsert_session` and `upsert_run`, a run holding both messages, as an agent ends a run",
    lacks=frozenset({TASKS}),
)
AGENT = "agent"


class AgnoStore:
    """One `PostgresDb`; a turn is a run."""

    def __init__(self, url: str) -> None:
        self._db = PostgresDb(db_url=url)

    async def add_turn(self, session: str, turn: Turn) -> None:
        """This class is for threads."""
        raise Lacking(TASKS)

    def add_turn_in_thread(self, session: str, turn: Turn) -> None:
        """Save the session's row and the run, in two calls as the library does."""
        self._db.upsert_session(_session(session))
        self._db.upsert_run(run=_run(session, turn), session_id=session)

    async def fill(self, session: str, turns: Sequence[Turn]) -> None:
        """Save the session's row once and then each run: no more is left of each turn."""
        self._db.upsert_session(_session(session))
        for number, turn in enumerate(turns):
            self._db.upsert_run(run=_run(session, turn), session_id=session, run_index=number)

    async def read_all(self, session: str) -> object:
        """Load the session and ask it for its messages."""
        found = self._db.get_session(session, SessionType.AGENT)
        return found.get_messages() if found is not None else []

    def said(self, found: object) -> list[Said]:
        """Return roles and contents."""
        return [Said(message.role, message.content) for message in cast(list[Any], found)]

    def forget(self, session: str) -> None:
        """Nothing that is written depends on what was read."""

    async def durability(self) -> str:
        """Ask a connection of the database's engine."""
        with self._db.db_engine.connect() as connection:
            return of_a_server(
                *(connection.exec_driver_sql(f"SHOW {name}").scalar() for name in SETTINGS)
            )

    async def close(self) -> None:
        """Close the engine's connections."""
        self._db.close()


async def connected(url: str) -> AgnoStore:
    """Open the store; it makes its tables when it first needs them."""
    return AgnoStore(url.replace("postgresql://", "postgresql+psycopg://"))


def _session(session: str) -> Any:
    now = int(time.time())
    return AgentSession(session_id=session, agent_id=AGENT, session_data={}, created_at=now)


def _run(session: str, turn: Turn) -> Any:
    return RunOutput(
        run_id=str(uuid4()),
        agent_id=AGENT,
        session_id=session,
        status=RunStatus.completed,
        messages=[
            Message(role="user", content=turn.user),
            Message(role="assistant", content=turn.assistant),
        ],
    )
