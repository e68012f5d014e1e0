"""agno: `SqliteDb`, written to as an agent does at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from agno.db.base import SessionType
from agno.db.sqlite import SqliteDb
from agno.models.message import Message
from agno.run.agent import RunOutput
from agno.run.base import RunStatus
from agno.session.agent import AgentSession
from benchmarks.peers.durability import in_words
from benchmarks.peers.protocol import REPLACE, About, Lacking, Said, Turn

ABOUT = About(
    title="agno SqliteDb",
    distribution="agno",
    importing="from agno.db.sqlite import SqliteDb",
    how="`upsert_session` and `upsert_run`, a run holding both messages, as an agent ends a run; "
    "run objects of unchanged rows are cached by the library",
    lacks=frozenset({REPLACE}),
)
AGENT = "agent"


class AgnoStore:
    """One `SqliteDb`; a turn is a run."""

    def __init__(self, path: Path) -> None:
        self._db = SqliteDb(db_file=str(path))

    async def add_turn(self, session: str, turn: Turn) -> None:
        """Save the session's row and the run, in two calls as the library does."""
        self._db.upsert_session(AgentSession(session_id=session, agent_id=AGENT, session_data={}))
        self._db.upsert_run(run=_run(session, turn), session_id=session)

    async def fill(self, session: str, turns: Sequence[Turn]) -> None:
        """Save the session's row once and then each run: no more is left of each turn."""
        self._db.upsert_session(AgentSession(session_id=session, agent_id=AGENT, session_data={}))
        for number, turn in enumerate(turns):
            self._db.upsert_run(run=_run(session, turn), session_id=session, run_index=number)

    async def read_all(self, session: str) -> object:
        """Load the session and ask it for its messages."""
        found = self._db.get_session(session, SessionType.AGENT)
        return found.get_messages() if found is not None else []

    async def read_last(self, session: str, count: int) -> object:
        """Load the last runs only, and ask for their last messages."""
        found = self._db.get_session(session, SessionType.AGENT, runs_limit=(count + 1) // 2)
        return found.get_messages(limit=count)

    def said(self, found: object) -> list[Said]:
        """Return roles and contents."""
        return [Said(message.role, message.content) for message in cast(list[Any], found)]

    async def replace(self, session: str, turns: Sequence[Turn]) -> None:
        """There is no call for it: runs are added, changed and deleted one by one."""
        raise Lacking(REPLACE)

    async def newest(self, count: int) -> list[str]:
        """Ask for a page of sessions without their runs."""
        found = self._db.get_sessions(
            session_type=SessionType.AGENT,
            limit=count,
            page=1,
            sort_by="updated_at",
            sort_order="desc",
            include_runs=False,
        )
        return [session.session_id for session in found]

    def forget(self, session: str) -> None:
        """Nothing that is written depends on what was read."""

    async def durability(self) -> str:
        """Ask a connection of the database's engine."""
        with self._db.db_engine.connect() as connection:
            return in_words(
                *(
                    connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                    for name in ("journal_mode", "synchronous")
                )
            )

    async def close(self) -> None:
        """Close the engine's connections."""
        self._db.close()


async def opened(folder: Path) -> AgnoStore:
    """Open the store."""
    return AgnoStore(folder / "conversations.db")


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
