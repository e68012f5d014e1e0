"""langgraph-checkpoint-sqlite: a graph with a `MessagesState` behind a `SqliteSaver`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from benchmarks.peers.durability import in_words
from benchmarks.peers.protocol import About, Said, Turn
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES

ABOUT = About(
    title="langgraph SqliteSaver",
    distribution="langgraph-checkpoint-sqlite",
    importing="from langgraph.checkpoint.sqlite import SqliteSaver",
    how="`update_state` of a graph with `MessagesState`: one checkpoint a turn, where invoking a "
    "graph writes three; the histories of 1,000 and 10,000 messages were made in one update; the "
    "last 50 are read by reading all; sessions are listed by listing checkpoints",
    per_message=False,
)
NODE = "reply"
ROLES = {"human": "user", "ai": "assistant"}


class LanggraphStore:
    """A compiled graph and its saver; a session is a thread of the graph."""

    def __init__(self, path: Path) -> None:
        # As `SqliteSaver.from_conn_string` opens it.
        self._connection = sqlite3.connect(path, check_same_thread=False)
        self._saver = SqliteSaver(self._connection)
        graph = StateGraph(MessagesState)
        graph.add_node(NODE, lambda _: {"messages": []})
        graph.add_edge(START, NODE)
        graph.add_edge(NODE, END)
        self._graph = graph.compile(checkpointer=self._saver)

    async def add_turn(self, session: str, turn: Turn) -> None:
        """Update the state with both messages: it is loaded, changed and saved as a whole."""
        self._update(session, _messages([turn]))

    async def fill(self, session: str, turns: Sequence[Turn]) -> None:
        """Update the state once: turn by turn, each would leave a copy of all before it."""
        self._update(session, _messages(turns))

    async def read_all(self, session: str) -> object:
        """Get the newest state."""
        return self._graph.get_state(_config(session)).values.get("messages", [])

    async def read_last(self, session: str, count: int) -> object:
        """Get the newest state, since there is no way to ask for less."""
        return self._graph.get_state(_config(session)).values["messages"][-count:]

    def said(self, found: object) -> list[Said]:
        """Return roles and contents."""
        messages = cast(list[Any], found)
        return [Said(ROLES[message.type], message.content) for message in messages]

    async def replace(self, session: str, turns: Sequence[Turn]) -> None:
        """Remove all messages and add the new ones, in one update."""
        self._update(session, [RemoveMessage(id=REMOVE_ALL_MESSAGES), *_messages(turns)])

    async def newest(self, count: int) -> list[str]:
        """Go through the checkpoints, newest first, until there are enough sessions."""
        found: dict[str, None] = {}
        for checkpoint in self._saver.list(None):
            found[checkpoint.config["configurable"]["thread_id"]] = None
            if len(found) == count:
                break
        return list(found)

    def forget(self, session: str) -> None:
        """Each update loads the state anew."""

    async def durability(self) -> str:
        """Ask the saver's connection."""
        self._saver.setup()
        return in_words(
            *(
                self._connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous")
            )
        )

    async def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _update(self, session: str, messages: list[Any]) -> None:
        self._graph.update_state(_config(session), {"messages": messages}, as_node=NODE)


async def opened(folder: Path) -> LanggraphStore:
    """Open the store."""
    return LanggraphStore(folder / "checkpoints.db")


def _config(session: str) -> dict[str, dict[str, str]]:
    return {"configurable": {"thread_id": session}}


def _messages(turns: Sequence[Turn]) -> list[Any]:
    return [
        message
        for turn in turns
        for message in (HumanMessage(turn.user), AIMessage(turn.assistant))
    ]
