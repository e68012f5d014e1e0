"""Sessions that agents talk in: beginning one, and what is told of it."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from holdfast.agents.answering import Answering
from holdfast.agents.approving import Decision, not_waiting, pending_calls
from holdfast.agents.driving import Answer, Stage
from holdfast.agents.events import ToolCall
from holdfast.agents.reply import Reply
from holdfast.errors import Conflict, SessionNotFound
from holdfast.model.session import SessionInfo
from holdfast.model.usage import TurnStatus
from holdfast.store.async_store import AsyncSessionStore
from holdfast.store.faces import async_face, open_turn
from holdfast.store.leases import lease_of
from holdfast.store.sync_store import SessionStore

TERMINATED = "terminated"
"""The status of a session that was deleted."""


async def begin_session(store: AsyncSessionStore, session_id: str, **facts: Any) -> None:
    """Create a session with what is known of it, unless it is there."""
    if await store.session_exists(session_id):
        return
    try:
        await store.create_session(session_id, **facts)
    except Conflict as conflict:
        if conflict.code != "session_exists":
            raise


def waiting_calls(store: SessionStore, session_id: str) -> tuple[ToolCall, ...]:
    """Return the tool calls that wait for a person; none if the session does not wait."""
    try:
        waiting = store.get_session(session_id).status == TurnStatus.WAITING
    except SessionNotFound:
        return ()
    return pending_calls(store.get_chat_history(session_id)) if waiting else ()


def decided(
    store: SessionStore,
    answering: Answering,
    session_id: str,
    call_id: str,
    *,
    approved: bool,
    reason: str | None = None,
) -> Reply:
    """Return the reply, begun, that follows from a decision on a tool call that waits."""
    turn = open_turn(store, session_id)
    lease = lease_of(store, session_id)
    if turn is None or (lease is not None and not lease.holds):
        raise not_waiting(session_id, call_id)
    decision = Decision(
        session_id=session_id, turn=turn, call=call_id, approved=approved, reason=reason
    )

    async def work(stage: Stage, left_s: float) -> Answer:
        return await answering.decide(async_face(store), replace(decision, timeout=left_s), stage)

    return Reply(store, session_id, work, timeout=decision.timeout).begin_anywhere()


def facts_of(store: SessionStore, info: SessionInfo) -> dict[str, Any]:
    """Return a session's `id`, `status`, `title` and `usage`: always all four.

    The status is `idle`, `running` or `waiting`. One whose worker died is idle once its lease is
    over: nobody can know before, and nobody else can run it before.
    """
    status = info.status
    if status == TurnStatus.RUNNING:
        lease = lease_of(store, info.id)
        status = "running" if lease is not None and lease.holds else "idle"
    return session_facts(info.id, status, info.title or "", **usage_of(store, info.id))


def session_facts(session_id: str, status: str, title: str, **usage: int) -> dict[str, Any]:
    """Return what is told of a session, as plain values."""
    tokens = {"input_tokens": 0, "output_tokens": 0, "cached_tokens": 0, "unknown": 0} | usage
    return {"id": session_id, "status": status, "title": title, "usage": tokens}


def usage_of(store: SessionStore, session_id: str) -> dict[str, int]:
    """Return the sums of what a session's model calls used; all 0 if there is no such session."""
    try:
        usage = store.stats(session_id).usage
    except SessionNotFound:
        return {}
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "unknown": usage.unknown,
    }
