"""The answer that is being streamed into a session, before it is a message.

PraisonAI hands over the whole text so far, again and again. It is kept beside the history, in the
session's metadata, with the id that its message will have: whoever makes a message of it, and
however often, makes it once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from holdfast.errors import Conflict, SessionNotFound
from holdfast.model.message import Message
from holdfast.model.session import SessionInfo
from holdfast.store.sync_store import SessionStore

FIELD = "praisonai_partial"


class Partial(Struct, frozen=True):
    """What was streamed of an answer so far."""

    id: str
    content: str

    @property
    def message(self) -> Message:
        """The unfinished answer, as a message that says so."""
        return self.finished(self.content, {"partial": True})

    def finished(self, content: str, metadata: Mapping[str, Any]) -> Message:
        """Return the answer as a message."""
        named = {"role": "assistant", "content": content, "id": self.id}
        return named | ({"metadata": dict(metadata)} if metadata else {})


def partial_of(info: SessionInfo, messages: Sequence[Message] | None = None) -> Partial | None:
    """Return what is being streamed into a session; `None` once it is one of its messages."""
    found = info.metadata.get(FIELD)
    if not isinstance(found, Mapping) or not {"id", "content"} <= found.keys():
        return None
    partial = Partial(str(found["id"]), str(found["content"]))
    if messages is not None and any(one.get("id") == partial.id for one in messages):
        return None
    return partial


def keep(store: SessionStore, session_id: str, partial: Partial | None) -> None:
    """Remember what was streamed so far, in place of what was remembered before."""
    value = None if partial is None else {"id": partial.id, "content": partial.content}
    update(store, session_id, {FIELD: value})


def close(store: SessionStore, session_id: str, partial: Partial, message: Message | None) -> None:
    """Make a message of what was streamed, once, or drop it; whatever is added comes after it."""
    if message is not None:
        store.add_messages(session_id, [message], key=f"praisonai partial {partial.id}")
    keep(store, session_id, None)


def update(store: SessionStore, session_id: str, fields: Mapping[str, Any]) -> None:
    """Set keys of a session's metadata; creates the session, as PraisonAI does."""
    try:
        store.update_session_metadata(session_id, **fields)
    except SessionNotFound:
        with contextlib.suppress(Conflict):  # another worker created it meanwhile
            store.create_session(session_id, metadata=fields)
            return
        store.update_session_metadata(session_id, **fields)
