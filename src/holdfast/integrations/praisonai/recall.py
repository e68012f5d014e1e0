"""Finding what was said, in the forms that PraisonAI's recall tools expect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.errors import InvalidArgument, SessionNotFound
from holdfast.integrations.praisonai.details import link
from holdfast.integrations.praisonai.messages import as_session_message
from holdfast.integrations.praisonai.values import SessionHit, SessionSummary
from holdfast.model.message import Message
from holdfast.model.search import SearchHit
from holdfast.model.session import SessionInfo
from holdfast.store.sync_store import SessionStore

_HITS = 200
_BOOKENDS = 2
_TITLE = 60


def search(store: SessionStore, query: str, *, limit: int, around: int) -> list[SessionHit]:
    """Return the sessions with the best messages for a query; none for one without a word."""
    try:
        hits = store.search(query or "", limit=_HITS)
    except InvalidArgument:
        return []
    best: dict[str, list[SearchHit]] = {}
    for hit in hits:
        best.setdefault(hit.session_id, []).append(hit)
    found = []
    for session_id, of_session in best.items():
        try:
            info = store.get_session(session_id)
            messages = store.get_messages(session_id, at=info.revision)
        except SessionNotFound:
            continue  # deleted since it was found
        found.append(_hit(info, messages, of_session, query, around))
        if len(found) >= limit:
            break
    return found


def window(
    messages: Sequence[Message], anchor: str | int | None, around: int
) -> list[dict[str, Any]]:
    """Return the messages around the one with a number; around the last one without."""
    last = len(messages) - 1
    try:
        index = last if anchor in (None, "") else int(anchor or 0)
    except ValueError:
        index = last
    index = max(0, min(index, last))
    start = max(0, index - around)
    return [_shown(number, messages[number]) for number in range(start, len(messages))][
        : index + around + 1 - start
    ]


def summary(info: SessionInfo) -> SessionSummary:
    """Return a session for a list of the latest ones."""
    return SessionSummary(
        session_id=info.id,
        title=info.title or link(info, "agent_name") or info.id,
        when=info.updated_at.isoformat(),
        message_count=info.message_count,
    )


def _hit(
    info: SessionInfo, messages: list[Message], hits: list[SearchHit], query: str, around: int
) -> SessionHit:
    words = query.lower().split()
    scores = [_score(str(one.get("content") or "").lower(), words) for one in messages]
    anchor = max(range(len(messages)), key=lambda number: scores[number], default=-1)
    spoken = [
        _shown(number, one)
        for number, one in enumerate(messages)
        if one["role"] in ("user", "assistant")
    ]
    return SessionHit(
        session_id=info.id,
        title=_title(info, messages),
        when=info.updated_at.isoformat(),
        snippet=hits[0].snippet,
        score=float(sum(scores)),
        anchor_index=anchor,
        messages=window(messages, anchor, around),
        bookends={
            "opening": spoken[:_BOOKENDS],
            "closing": spoken[-_BOOKENDS:] if len(spoken) > _BOOKENDS else [],
        },
    )


def _score(text: str, words: list[str]) -> int:
    whole = " ".join(words)
    return 2 * (whole in text) + sum(word.strip('"*') in text for word in words)


def _title(info: SessionInfo, messages: list[Message]) -> str:
    asked = (one["content"] for one in messages if one["role"] == "user" and one.get("content"))
    first = " ".join(str(next(asked, "")).split())[:_TITLE]
    return info.title or link(info, "agent_name") or first or info.id


def _shown(number: int, message: Message) -> dict[str, Any]:
    said = as_session_message(message)
    return {
        "index": number,
        "role": said.role,
        "content": said.content,
        "timestamp": said.timestamp,
        "archived": False,
    }
