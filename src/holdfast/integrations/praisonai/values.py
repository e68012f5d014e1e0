"""What PraisonAI's session store hands out, under the names that its callers know."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self

from msgspec import Struct, field

_MIRRORED = ("model", "llm", "total_tokens", "token_count", "cost", "source", "reasoning_effort")
"""Metadata that PraisonAI repeats at the top of a session, for its own readers."""


def _now_text() -> str:
    return datetime.now(UTC).isoformat()


class SessionMessage(Struct, frozen=True):
    """One message of a session; `timestamp` is in seconds since 1970."""

    role: str
    content: Any
    timestamp: float = field(default_factory=time.time)
    metadata: dict[str, Any] = field(default_factory=dict)
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the message as PraisonAI writes it into its files."""
        found = {
            "role": self.role,
            "content": self.content,
            "timestamp": self.timestamp,
            "metadata": self.metadata,
        }
        return found | self._tools()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the message that a dict of PraisonAI's describes."""
        return cls(
            role=data.get("role", "user"),
            content=data.get("content", ""),
            timestamp=data.get("timestamp", time.time()),
            metadata=data.get("metadata") or {},
            tool_calls=data.get("tool_calls"),
            tool_call_id=data.get("tool_call_id"),
        )

    def to_llm_message(self) -> dict[str, Any]:
        """Return the message as a model provider takes it."""
        return {"role": self.role, "content": self.content} | self._tools()

    def _tools(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.tool_calls:
            found["tool_calls"] = self.tool_calls
        if self.tool_call_id is not None:
            found["tool_call_id"] = self.tool_call_id
        return found


class CompactionCheckpoint(Struct, frozen=True):
    """A summary that stands for the first `message_index` messages when a session is resumed."""

    summary: str
    message_index: int = 0
    role: str = "system"
    tokens_before: int = 0
    tokens_after: int = 0
    timestamp: float = field(default_factory=time.time)
    metadata: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the checkpoint as PraisonAI writes it into its files."""
        return {name: getattr(self, name) for name in self.__struct_fields__}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the checkpoint that a dict of PraisonAI's describes."""
        known = {name: data[name] for name in cls.__struct_fields__ if name in data}
        return cls(**{"summary": "", **known})

    def as_message(self) -> dict[str, str]:
        """Return the summary as a model provider takes it."""
        return {"role": self.role, "content": self.summary}


class SessionData(Struct, frozen=True):
    """A session whole. Times are ISO 8601; an unknown session has no messages."""

    session_id: str
    messages: list[SessionMessage] = field(default_factory=list)
    created_at: str = field(default_factory=_now_text)
    updated_at: str = field(default_factory=_now_text)
    agent_name: str | None = None
    user_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    gateway_session_id: str | None = None
    agent_id: str | None = None
    runtime_state: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    archived_messages: list[SessionMessage] = field(default_factory=list)
    last_compaction: CompactionCheckpoint | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the session as PraisonAI writes it into its files."""
        data: dict[str, Any] = {name: getattr(self, name) for name in self.__struct_fields__}
        data["messages"] = [one.to_dict() for one in self.messages]
        data["archived_messages"] = [one.to_dict() for one in self.archived_messages]
        checkpoint = data.pop("last_compaction")
        if checkpoint is not None:
            data["last_compaction"] = checkpoint.to_dict()
        return data | {key: self.metadata[key] for key in _MIRRORED if key in self.metadata}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the session that a dict of PraisonAI's describes."""
        metadata = dict(data.get("metadata") or {})
        for key in _MIRRORED:
            if data.get(key) is not None:
                metadata.setdefault(key, data[key])
        known = {name: data[name] for name in cls.__struct_fields__ if data.get(name) is not None}
        checkpoint = known.pop("last_compaction", None)
        return cls(
            **{
                "session_id": "",
                **known,
                "messages": _messages(data.get("messages")),
                "archived_messages": _messages(data.get("archived_messages")),
                "metadata": metadata,
                "last_compaction": CompactionCheckpoint.from_dict(checkpoint)
                if checkpoint
                else None,
            }
        )

    def get_chat_history(self, max_messages: int | None = None) -> list[dict[str, Any]]:
        """Return the last messages for a model provider, never beginning inside a tool exchange."""
        return without_torn_exchange(
            [one.to_llm_message() for one in self.messages], max_messages or 0
        )

    def get_working_history(self, max_messages: int | None = None) -> list[dict[str, Any]]:
        """Return the checkpoint's summary, if there is one, and the messages after it."""
        if self.last_compaction is None:
            return self.get_chat_history(max_messages)
        kept = [one.to_llm_message() for one in self.messages[self.last_compaction.message_index :]]
        return with_summary(self.last_compaction, kept, max_messages or 0)


class SessionHit(Struct, frozen=True):
    """A session that a search found, and the messages around the best match."""

    session_id: str
    title: str = ""
    when: str | None = None
    snippet: str = ""
    score: float = 0.0
    anchor_index: int = -1
    messages: list[dict[str, Any]] = field(default_factory=list)
    bookends: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the hit as JSON values."""
        found = {name: getattr(self, name) for name in self.__struct_fields__}
        if not self.bookends:
            del found["bookends"]
        return found


class SessionSummary(Struct, frozen=True):
    """A session in a list of the latest ones."""

    session_id: str
    title: str = ""
    when: str | None = None
    message_count: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        return {name: getattr(self, name) for name in self.__struct_fields__}


class ImportReport(Struct, frozen=True):
    """How many sessions `import_sessions` took, and why it left others out."""

    imported: int = 0
    skipped: list[dict[str, str]] = field(default_factory=list)
    version: int = 1

    @property
    def skipped_count(self) -> int:
        """How many were left out."""
        return len(self.skipped)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        found = {name: getattr(self, name) for name in self.__struct_fields__}
        return found | {"skipped_count": self.skipped_count}


def without_torn_exchange(messages: Sequence[Any], limit: int) -> list[Any]:
    """Return the last `limit` messages (0: all), without results whose call was cut off."""
    if not limit or len(messages) <= limit:
        return list(messages)
    kept = list(messages[-limit:])
    while kept and kept[0]["role"] == "tool":
        del kept[0]
    return kept


def with_summary(
    checkpoint: CompactionCheckpoint, kept: Sequence[dict[str, Any]], limit: int
) -> list[dict[str, Any]]:
    """Return the summary and the last messages after it, `limit` (0: all) of them together."""
    if limit == 1:
        return [checkpoint.as_message()]
    return [checkpoint.as_message(), *without_torn_exchange(kept, max(limit - 1, 0))]


def _messages(found: object) -> list[SessionMessage]:
    if not isinstance(found, list):
        return []
    return [SessionMessage.from_dict(one) for one in found if isinstance(one, Mapping)]
