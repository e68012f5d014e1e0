"""langgraph-checkpoint-postgres: a graph with a `MessagesState` behind a `PostgresSaver`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from benchmarks.peers.durability import SETTINGS, of_a_server
from benchmarks.peers.protocol import About, Said, Turn
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

ABOUT = About(
    title="langgraph PostgresSaver",
    distribution="langgraph-checkpoint-postgres",
    importing="from langgraph.checkpoint.postgres import PostgresSaver",
    how="`update_state` of a graph with `MessagesState`, one checkpoint a turn; tasks use "
    "`AsyncPostgresSaver`; each on a pool of up to 20 connections; the history of 10,000 messages "
    "was made in one update",
    per_message=False,
)
NODE = "reply"
ROLES = {"human": "user", "ai": "assistant"}
# What the savers ask of a connection that they did not open.
CONNECTION = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
POOL = {"min_size": 1, "max_size": 20, "kwargs": CONNECTION, "open": False}


class LanggraphStore:
    """A compiled graph for threads and one for tasks; a session is a thread of both."""

    def __init__(self, pool: Any, async_pool: Any) -> None:
        self._pools = pool, async_pool
        self._graph = _graph(PostgresSaver(pool))
        self._async_graph = _graph(AsyncPostgresSaver(async_pool))

    async def add_turn(self, session: str, turn: Turn) -> None:
        """Update the state with both messages."""
        state = {"messages": _messages([turn])}
        await self._async_graph.aupdate_state(_config(session), state, as_node=NODE)

    def add_turn_in_thread(self, session: str, turn: Turn) -> None:
        """Update the state with both messages."""
        self._update(session, [turn])

    async def fill(self, session: str, turns: Sequence[Turn]) -> None:
        """Update the state once."""
        self._update(session, turns)

    async def read_all(self, session: str) -> object:
        """Get the newest state."""
        return self._graph.get_state(_config(session)).values.get("messages", [])

    def said(self, found: object) -> list[Said]:
        """Return roles and contents."""
        messages = cast(list[Any], found)
        return [Said(ROLES[message.type], message.content) for message in messages]

    def forget(self, session: str) -> None:
        """Each update loads the state anew."""

    async def durability(self) -> str:
        """Ask a connection of the pool."""
        with self._pools[0].connection() as connection:
            rows = [connection.execute(f"SHOW {name}").fetchone() for name in SETTINGS]
        return of_a_server(*(next(iter(row.values())) for row in rows))

    async def close(self) -> None:
        """Close the pools."""
        self._pools[0].close()
        await self._pools[1].close()

    def _update(self, session: str, turns: Sequence[Turn]) -> None:
        state = {"messages": _messages(turns)}
        self._graph.update_state(_config(session), state, as_node=NODE)


async def connected(url: str) -> LanggraphStore:
    """Open the store, and make its tables if need be."""
    pool, async_pool = ConnectionPool(url, **POOL), AsyncConnectionPool(url, **POOL)
    pool.open()
    await async_pool.open()
    PostgresSaver(pool).setup()
    return LanggraphStore(pool, async_pool)


def _graph(saver: Any) -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node(NODE, lambda _: {"messages": []})
    graph.add_edge(START, NODE)
    graph.add_edge(NODE, END)
    return graph.compile(checkpointer=saver)


def _config(session: str) -> dict[str, dict[str, str]]:
    return {"configurable": {"thread_id": session}}


def _messages(turns: Sequence[Turn]) -> list[Any]:
    return [
        message
        for turn in turns
        for message in (HumanMessage(turn.user), AIMessage(turn.assistant))
    ]
