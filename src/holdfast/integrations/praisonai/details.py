"""What PraisonAI knows of a session beside its messages, in Holdfast's metadata.

Holdfast merges metadata key by key. PraisonAI also merges inside of a value: each agent of a
session writes its own entry of one map. So an entry that is merged has a key of its own, whose
name is its path, and two workers that write two entries at once both keep theirs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from holdfast.integrations.praisonai.messages import as_session_message
from holdfast.integrations.praisonai.partials import FIELD, partial_of
from holdfast.integrations.praisonai.values import CompactionCheckpoint, SessionData
from holdfast.model.message import Message
from holdfast.model.session import SessionInfo

ENTRY, DEFAULT = "praisonai_entry:", "praisonai_default:"
IMPORTED = "praisonai_import"
"""What was imported of a session, for the next import of the same."""

RUNTIME, CHECKPOINT = "runtime_state", "last_compaction"
UNUSABLE_CHECKPOINT = "praisonai_last_compaction"
"""A checkpoint of a file that stands for nothing: whose place is no number, for one."""


RESERVED = ("managed_agent", ENTRY, DEFAULT, FIELD, IMPORTED)
"""How keys begin under which Holdfast itself keeps something: a managed agent goes by its own."""


def foreign(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata that others wrote, none of whose keys says anything to Holdfast.

    Whoever can write a session's file must not choose what a managed agent sends where.
    """
    return {
        f"imported:{key}" if key.startswith(RESERVED) else key: value
        for key, value in metadata.items()
    }


def entry(path: Iterable[str], prefix: str = ENTRY) -> str:
    """Return the key of a map's entry."""
    return prefix + json.dumps(list(path), ensure_ascii=False)


def entries_of(metadata: Mapping[str, Any], path: list[str]) -> list[str]:
    """Return the keys of the entries at and below a path that have a value."""
    return [
        key
        for key, value in metadata.items()
        if value is not None
        and key.startswith((ENTRY, DEFAULT))
        and _path(key)[: len(path)] == path
    ]


def plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return a session's metadata with its maps put together; what is `None` was taken away."""
    ours = (ENTRY, DEFAULT, FIELD, IMPORTED)
    found = {
        key: value
        for key, value in metadata.items()
        if value is not None and not key.startswith(ours)
    }
    for prefix in (ENTRY, DEFAULT):  # a default never stands before an entry
        for key, value in metadata.items():
            path = _path(key) if key.startswith(prefix) else []
            if value is None or not path:
                continue
            *above, last = path
            place = found
            for name in above:
                place[name] = place = mapping(place.get(name))
            if prefix == ENTRY:
                place[last] = value
            else:
                place.setdefault(last, value)
    return found


def mapping(value: object) -> dict[str, Any]:
    """Return a map of the metadata; an empty one for what is none."""
    return dict(value) if isinstance(value, Mapping) else {}


def link(info: SessionInfo, name: str) -> str | None:
    """Return a session's agent, user or gateway: what was set last, else what it began with."""
    found = info.metadata.get(name) or getattr(info, name, None)
    return found if isinstance(found, str) else None


def described(info: SessionInfo) -> dict[str, Any]:
    """Return a session as PraisonAI lists it."""
    metadata = plain(info.metadata)
    named = {
        name: metadata.get(name) for name in ("source", "parent_id", "parent_session_id", "cost")
    }
    return named | {
        "session_id": info.id,
        "id": info.id,
        "agent_name": link(info, "agent_name"),
        "title": info.title,
        "agent_id": link(info, "agent_id"),
        "agent_key": metadata.get("agent_key"),
        "created_at": info.created_at.isoformat(),
        "updated_at": info.updated_at.isoformat(),
        "message_count": info.message_count,
        "model": metadata.get("model") or metadata.get("llm"),
        "total_tokens": metadata.get("total_tokens") or metadata.get("token_count"),
    }


def whole(info: SessionInfo, messages: list[Message]) -> SessionData:
    """Return a session as PraisonAI knows it, what is being streamed at its end."""
    partial = partial_of(info, messages)
    shown = messages if partial is None else [*messages, partial.message]
    metadata = plain(info.metadata)
    runtime = metadata.pop(RUNTIME, None)
    metadata.pop(CHECKPOINT, None)
    if info.title is not None:
        metadata["title"] = info.title
    return SessionData(
        session_id=info.id,
        messages=[as_session_message(one) for one in shown],
        created_at=info.created_at.isoformat(),
        updated_at=info.updated_at.isoformat(),
        metadata=metadata,
        runtime_state=mapping(runtime),
        last_compaction=checkpoint_of(info, messages),
        agent_name=link(info, "agent_name"),
        user_id=link(info, "user_id"),
        gateway_session_id=link(info, "gateway_session_id"),
        agent_id=link(info, "agent_id"),
    )


def checkpoint_of(info: SessionInfo, messages: list[Message]) -> CompactionCheckpoint | None:
    """Return a session's checkpoint; `None` too if the messages that it stands for have gone."""
    found = info.metadata.get(CHECKPOINT)
    if not is_checkpoint(found):
        return None
    index, last = found.get("message_index", 0), found.get("message_id")
    if index > len(messages):
        return None
    if last is not None and (index == 0 or messages[index - 1].get("id") != last):
        return None
    return CompactionCheckpoint.from_dict(found)


def is_checkpoint(found: object) -> TypeGuard[Mapping[str, Any]]:
    """Say whether a value is a checkpoint that can be used; files may hold anything."""
    if not isinstance(found, Mapping):
        return False
    index = found.get("message_index", 0)
    texts = found.get("summary", ""), found.get("role", "system")
    return isinstance(index, int) and index >= 0 and all(isinstance(one, str) for one in texts)


def checkpoint_at(checkpoint: CompactionCheckpoint, messages: list[Message]) -> dict[str, Any]:
    """Return a checkpoint as it is stored: it stands for the messages up to the one that it names.

    Only a message's id tells later whether the history still begins with these messages.
    """
    index = min(checkpoint.message_index, len(messages))
    last = messages[index - 1].get("id") if index else None
    return checkpoint.to_dict() | {"message_index": index, "message_id": last}


def _path(key: str) -> list[str]:
    """Return an entry's path; nothing if the key names none, as one of somebody else's."""
    try:
        path = json.loads(key.partition(":")[2])
    except (ValueError, RecursionError):
        return []
    return path if isinstance(path, list) and all(isinstance(one, str) for one in path) else []
