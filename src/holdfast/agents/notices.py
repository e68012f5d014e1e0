"""What happens in a managed session, as notices that whoever watches it can act on.

They are made of the log's entries, so they are there after a crash, in any process and from any
point on; nothing else is kept of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any, TypeAlias, assert_never

import msgspec
from msgspec import Struct

from holdfast.errors import InvalidArgument
from holdfast.model.entry import (
    DeltaEntry,
    Entry,
    MessageEntry,
    MetaEntry,
    ResetEntry,
    TurnEntry,
    UsageEntry,
)
from holdfast.model.message import Message
from holdfast.model.usage import TurnStatus
from holdfast.store.async_store import AsyncSessionStore
from holdfast.store.sync_store import SessionStore

STOP_REASONS = {
    TurnStatus.COMPLETED: "end_turn",
    TurnStatus.INTERRUPTED: "interrupted",
    TurnStatus.FAILED: "error",
    TurnStatus.WAITING: "requires_action",
}
"""Why a session went idle, by how its turn ended."""


class Notice(Struct, frozen=True, kw_only=True):
    """One thing that happened: its `type`, when, in which turn, and what.

    `id` names the place in the session's log; give it to `events(after=...)` to go on behind it.
    `type` is one of `session.status_running`, `agent.message` (`content`), `agent.tool_use`
    (`tool_use_id`, `name`, `input`), `agent.tool_result` (`tool_use_id`, `content`),
    `session.usage` (`usage`), `session.error` (`error`) and `session.status_idle` (`stop_reason`:
    `end_turn`, `interrupted`, `error`, `requires_action`).
    """

    id: str
    type: str
    at: datetime
    turn: str
    content: Any = None
    name: str | None = None
    input: Any = None
    tool_use_id: str | None = None
    usage: dict[str, int] | None = None
    error: str | None = None
    stop_reason: str | None = None

    @property
    def text(self) -> str:
        """The text of a message or a result; empty for all else."""
        return self.content if isinstance(self.content, str) else ""


Place: TypeAlias = int | str | Notice | None
"""Where to go on: behind a notice, its id, or a revision."""


class Notices:
    """A session's notices, from a place on, and then each new one, of any process; without end.

    Iterate with `for`, or in a task with `async for`. Raises `SessionNotFound` if there is no such
    session, or once it is deleted.
    """

    def __init__(
        self, store: SessionStore, tasks: AsyncSessionStore, session_id: str, after: Place
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._session_id = session_id
        self._revision, self._number = _place(after)

    def __iter__(self) -> Iterator[Notice]:
        reading = _Reading()
        for entry in self._store.follow(self._session_id, self._from()):
            yield from self._new(reading.notices(entry), entry)

    async def __aiter__(self) -> AsyncIterator[Notice]:
        reading = _Reading()
        async for entry in self._tasks.follow(self._session_id, self._from()):
            for notice in self._new(reading.notices(entry), entry):
                yield notice

    def _from(self) -> int:
        """Return where to read from: an entry of which not all was seen is read again."""
        return self._revision if self._number is None else self._revision - 1

    def _new(self, notices: list[Notice], entry: Entry) -> list[Notice]:
        if self._number is None or entry.revision != self._revision:
            return notices
        return notices[self._number + 1 :]


class _Reading:
    """Turns entries into notices; knows what a rewrite has carried over."""

    def __init__(self) -> None:
        self._carried_over = 0

    def notices(self, entry: Entry) -> list[Notice]:
        """Return what an entry says."""
        found = list(self._facts(entry))
        return [
            Notice(id=f"{entry.revision}.{number}", at=entry.at, turn=entry.turn or "", **facts)
            for number, facts in enumerate(found)
        ]

    def _facts(self, entry: Entry) -> Iterator[dict[str, Any]]:
        match entry:
            case MessageEntry():
                if entry.turn is not None and entry.revision > self._carried_over:
                    for message in entry.messages:
                        yield from self._said(message)
            case ResetEntry():
                self._carried_over = entry.last_revision
            case UsageEntry():
                used = entry.usage
                yield {
                    "type": "session.usage",
                    "usage": {
                        "input_tokens": used.input_tokens,
                        "output_tokens": used.output_tokens,
                    },
                }
            case TurnEntry():
                yield from _turned(entry)
            case DeltaEntry() | MetaEntry():
                pass
            case _:
                assert_never(entry)

    def _said(self, message: Message) -> Iterator[dict[str, Any]]:
        content = message.get("content")
        if message["role"] == "tool":
            yield {
                "type": "agent.tool_result",
                "tool_use_id": message.get("tool_call_id"),
                "content": content,
            }
        if message["role"] != "assistant":
            return
        if content:
            yield {"type": "agent.message", "content": content}
        for call in message.get("tool_calls") or ():
            function = call.get("function") or {}
            yield {
                "type": "agent.tool_use",
                "tool_use_id": str(call["id"]),
                "name": function.get("name"),
                "input": _arguments(function.get("arguments")),
            }


def _turned(entry: TurnEntry) -> Iterator[dict[str, Any]]:
    if entry.status is TurnStatus.RUNNING:
        yield {"type": "session.status_running"}
        return
    if entry.error is not None:
        yield {"type": "session.error", "error": entry.error}
    yield {"type": "session.status_idle", "stop_reason": STOP_REASONS[entry.status]}


def _arguments(text: Any) -> Any:
    try:
        return msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, TypeError):
        return text


def _place(after: Place) -> tuple[int, int | None]:
    """Return a revision, and the last notice of it that was seen, if it was not all of them."""
    if isinstance(after, Notice):
        after = after.id
    if after is None:
        return 0, None
    if isinstance(after, int) and not isinstance(after, bool):
        return after, None
    if isinstance(after, str):
        revision, _, number = after.partition(".")
        with contextlib.suppress(ValueError):
            return int(revision), int(number)
    raise InvalidArgument(
        f"after={after!r} names no place", hint="pass a notice, its id, or a revision"
    )
